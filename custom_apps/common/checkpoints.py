"""Handlers for checkpoints: the state to resume a training from, the best weights, and loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint, save_whole, set_aside
from custom_apps.common.distributed import all_agree, is_main_process, without_ddp
from custom_apps.common.errors import DataError


class TrainingState:
    """Saves all that a training needs to go on, and goes on from it: kill it at any moment and start it again.

    The file holds the state of ``objects``, the epoch, the gradient scaler and the validator's best metric. No random
    state is stored: draws have to derive from seed, epoch and index. Attach it to the trainer after the handlers that
    validate and that step the learning rate.

    Args:
        path: file to write and to resume from, e.g. ``models/last.pt``.
        objects: name to anything with ``state_dict`` and ``load_state_dict``: network (DistributedDataParallel is
            seen through), optimiser, schedule, metrics with a memory.
        validator: engine whose best metric is part of the state.
        resume: ``"auto"`` goes on if the file exists; True requires it; False starts anew and keeps the old file under
            another name. Other values are refused, the texts ``"true"`` and ``"false"`` too.
        every: epochs between two saves; the last epoch is always saved.

    The configuration decides the number of epochs and the length of an epoch, so that a finished run can be prolonged.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        validator: Engine | None = None,
        resume: bool | str = "auto",
        every: int = 1,
    ):
        if not (resume is True or resume is False or (isinstance(resume, str) and resume == "auto")):
            raise ValueError(f"resume must be True, False or 'auto', got {resume!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.path, self.validator, self.resume, self.every = Path(path), validator, resume, every
        self._started = False
        # Schedules set the rates of the optimiser and therefore have to be loaded after it.
        self.objects = dict(sorted(objects.items(), key=lambda item: isinstance(item[1], LRScheduler)))

    def attach(self, engine: Engine) -> None:
        """Registers loading at the start and saving at the end of epochs."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Writes the file, on the main process, if the epoch is one to be saved."""
        epoch = engine.state.epoch
        if not is_main_process() or (epoch % self.every and epoch != engine.state.max_epochs):
            return
        content: dict[str, Any] = {
            "epoch": epoch,
            "objects": {name: without_ddp(thing).state_dict() for name, thing in self.objects.items()},
        }
        if getattr(engine, "scaler", None) is not None:
            content["scaler"] = engine.scaler.state_dict()
        if self.validator is not None:
            best = self.validator.state
            content["best"] = {"metric": float(best.best_metric), "epoch": int(best.best_metric_epoch)}
        save_whole(content, self.path)

    def load(self, engine: Engine) -> None:
        """Restores everything, or starts anew; does nothing when the engine goes on within a process.

        An engine that is run again (the next round of federated learning) has its state, and perhaps other weights that
        were put in between.

        Raises:
            DataError: when the file is required and missing, unreadable, or of another network or configuration.
        """
        if self._started:
            return
        self._started = True
        exists = self.path.is_file()
        if not all_agree(exists) and not all_agree(not exists):
            raise DataError(self.path, "is seen by some processes only", "a folder that all processes share")
        if self.resume is False:
            if is_main_process():
                set_aside(self.path)
            return
        if self.resume == "auto" and not exists:
            return
        content = read_checkpoint(self.path)
        states = content.get("objects")
        if not isinstance(states, dict) or not isinstance(content.get("epoch"), int):
            raise DataError(self.path, "holds no training state", "a file written by an earlier training")
        if missing := set(self.objects) - set(states):
            raise DataError(
                self.path, f"lacks the state of {', '.join(sorted(missing))}", "a run of this configuration"
            )
        self._restore(states)
        if "scaler" in content and getattr(engine, "scaler", None) is not None:
            engine.scaler.load_state_dict(content["scaler"])
        engine.state.epoch = content["epoch"]
        engine.state.iteration = content["epoch"] * (engine.state.epoch_length or 0)
        best = content.get("best")
        if best is not None and self.validator is not None:
            self.validator.state.best_metric, self.validator.state.best_metric_epoch = best["metric"], best["epoch"]
        engine.logger.info(f"resumed {self.path} after epoch {content['epoch']}, best metric {best}")

    def _restore(self, states: Mapping[str, Any]) -> None:
        networks = {name: thing for name, thing in self.objects.items() if isinstance(thing, nn.Module)}
        for name, network in networks.items():
            load_weights(network, states[name], self.path)
        for name, thing in self.objects.items():
            if name in networks:
                continue
            try:
                thing.load_state_dict(states[name])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(self.path, f"state of '{name}' does not fit ({error})", "the same settings") from error


class BestModelSaver:
    """Writes the weights when the validator has a new best metric: a flat state dict, ready for inference.

    Attach it to the validator. A file that is there when a training begins anew is kept under another name; a resumed
    training replaces its own.

    Args:
        path: file to write, e.g. ``models/model.pt``.
        network: the network, DistributedDataParallel or not.
    """

    def __init__(self, path: str | Path, network: nn.Module):
        self.path, self.network = Path(path), network
        self._resumed: bool | None = None

    def attach(self, engine: Engine) -> None:
        """Registers the handler; the metric must be attached before, as MONAI's engines do."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _begin(self, engine: Engine) -> None:
        if self._resumed is None:
            self._resumed = engine.state.best_metric_epoch != -1

    def __call__(self, engine: Engine) -> None:
        """Writes if the epoch is the best so far."""
        if not is_main_process() or engine.state.best_metric_epoch != engine.state.epoch:
            return
        if not self._resumed:
            set_aside(self.path)
            self._resumed = True
        save_whole(without_ddp(self.network).state_dict(), self.path)


class FinalModelSaver:
    """Writes the weights when a training completes: a flat state dict, ready for inference.

    Attach it to the trainer. A file of an earlier training is kept under another name; one of an earlier run of the
    same engine (a round of federated learning) is replaced.

    Args:
        path: file to write, e.g. ``models/model_final.pt``.
        network: the network, DistributedDataParallel or not.
    """

    def __init__(self, path: str | Path, network: nn.Module):
        self.path, self.network, self._ours = Path(path), network, False

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes, unless training was already complete when it was resumed and the file is there."""
        if not is_main_process():
            return
        if self.path.exists() and not self._ours:
            unchanged = read_checkpoint(self.path)
            ours = without_ddp(self.network).state_dict()
            if unchanged.keys() == ours.keys() and all(torch.equal(unchanged[k], v.cpu()) for k, v in ours.items()):
                return
            set_aside(self.path)
        save_whole(without_ddp(self.network).state_dict(), self.path)
        self._ours = True


class ModelLoader:
    """Loads a flat state dict into the network when the engine starts for the first time, strictly.

    Args:
        path: file written by :class:`BestModelSaver`.
        network: network to fill, DistributedDataParallel or not.

    Raises (when the engine starts):
        DataError: naming the file, when it is missing, unreadable, or of another network.
    """

    def __init__(self, path: str | Path, network: nn.Module):
        self.path, self.network, self._loaded = Path(path), network, False

    def attach(self, engine: Engine) -> None:
        """Registers loading."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Loads the weights."""
        if not self._loaded:
            load_weights(self.network, read_checkpoint(self.path), self.path)
            self._loaded = True
            engine.logger.info(f"weights of {self.path}")
