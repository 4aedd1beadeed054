"""Probability of a marker, and map of where the networks respond, by one model or by those of several folds."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn

from custom_apps.brain.map_files import write_map_files
from custom_apps.common.checkpoint_files import load_weights, read_checkpoint
from custom_apps.common.distributed import without_ddp
from custom_apps.common.latent_map import latent_map

MAP_ENDINGS = ("_map.nii.gz", "_map_original.nii.gz", "_map.png", "_map.json")


class FoldEnsemble(nn.Module):
    """Several classifiers of one kind; the probabilities are the mean of theirs.

    Args:
        network: the first member; the others are copies of it, to be filled by :class:`EnsembleLoader`.
        count: number of members.
    """

    def __init__(self, network: nn.Module, count: int):
        super().__init__()
        self.members = nn.ModuleList([network, *(copy.deepcopy(network) for _ in range(count - 1))])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logarithms of the mean probabilities (B, classes), which are logits of the same probabilities."""
        return mean_of_logits([member(image) for member in self.members])


class EnsembleLoader:
    """Loads a flat state dict into each member of an ensemble when the engine starts for the first time, strictly.

    Args:
        paths: a file for each member.
        ensemble: to fill.

    Raises (when the engine starts):
        DataError: naming the file, when it is missing, unreadable, or of another network.
    """

    def __init__(self, paths: Sequence[str | Path], ensemble: FoldEnsemble):
        if len(paths) != len(ensemble.members):
            raise ValueError(f"{len(paths)} files for {len(ensemble.members)} members")
        self.paths, self.ensemble, self._loaded = list(paths), ensemble, False

    def attach(self, engine: Engine) -> None:
        """Registers loading."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Loads the weights."""
        if self._loaded:
            return
        for path, member in zip(self.paths, self.ensemble.members, strict=True):
            load_weights(member, read_checkpoint(path), path)
            engine.logger.info(f"weights of {path}")
        self._loaded = True


class MirroredInferer(Inferer):
    """Inferer that predicts a volume (B, C, right, front, up) also with left and right exchanged.

    Args:
        mirrored: False predicts the volume alone.
    """

    def __init__(self, mirrored: bool = True):
        super().__init__()
        self.mirrored = mirrored

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Logits (B, classes), with both ways logarithms of the mean probabilities."""
        logits = network(inputs)
        return mean_of_logits([logits, network(inputs.flip(2))]) if self.mirrored else logits


class SaveMaps:
    """Handler of an evaluator that makes and writes the map of every examination.

    Takes ``image``, ``affine``, ``case`` and, where they are, ``tumor``, ``original_shape`` and ``original_affine``
    from the batch and ``pred`` from the output, and runs the network itself. See
    :func:`custom_apps.common.latent_map.latent_map` and :func:`custom_apps.brain.map_files.write_map_files`.

    Args:
        output_dir: made when missing.
        network: a classifier, or a :class:`FoldEnsemble`, whose map is the mean of its members' maps.
        class_names: of class 0 and 1, for the title of the picture.
        overwrite: replace files of earlier runs.
        **options: of ``latent_map``: ``source``, ``reduce``, ``blocks``, ``expand``, ``rescale``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        network: nn.Module,
        class_names: Sequence[str] = ("0", "1"),
        overwrite: bool = False,
        **options: Any,
    ):
        self.output_dir, self.network, self.options = Path(output_dir), network, options
        self.class_names, self.overwrite = tuple(class_names), overwrite

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's examinations."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.write(item, output["pred"])

    def map_of(self, image: torch.Tensor) -> torch.Tensor:
        """The map (x, y, z) of a volume (C, x, y, z)."""
        network = without_ddp(self.network)
        members = network.members if isinstance(network, FoldEnsemble) else [network]
        image = image[None].to(next(network.parameters()).device)
        return torch.stack([latent_map(member, image, **self.options)[0, 0] for member in members]).mean(0)

    def write(self, item: Mapping[str, Any], logits: torch.Tensor) -> dict[str, Path]:
        """Writes the map of one examination; returns the files by kind."""
        title = f"{item['case']}: {self.class_names[1]} {float(logits.float().softmax(-1)[1]):.2f}"
        return write_map(self.map_of(item["image"]), item, self.output_dir, title, self.overwrite)


def write_map(
    values: torch.Tensor, item: Mapping[str, Any], output_dir: str | Path, title: str, overwrite: bool = False
) -> dict[str, Path]:
    """Writes the map of one examination, see :func:`custom_apps.brain.map_files.write_map_files`.

    Args:
        values: (x, y, z).
        item: has ``image``, ``affine``, ``case`` and perhaps ``tumor``, ``original_shape`` and ``original_affine``.
        output_dir: made when missing.
        title: of the picture.
        overwrite: replace files of earlier runs.
    """
    case = str(item["case"])
    if overwrite:
        for ending in MAP_ENDINGS:
            (Path(output_dir) / f"{case}{ending}").unlink(missing_ok=True)
    record = None
    if "original_affine" in item:
        record = {key: item[key].cpu().numpy() for key in ("original_shape", "original_affine")}
    return write_map_files(
        values.float().cpu().numpy(),
        item["image"].cpu().numpy(),
        item["affine"].cpu().numpy(),
        output_dir,
        case,
        mask=item["tumor"].cpu().numpy() if "tumor" in item else None,
        record=record,
        title=title,
    )


def mean_of_logits(several: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logarithms of mean probabilities, which are logits of the same probabilities; float32."""
    return torch.stack([logits.float().log_softmax(-1) for logits in several]).logsumexp(0) - math.log(len(several))
