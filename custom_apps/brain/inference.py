"""Probability of a marker, and map of where the networks respond, by one model or by those of several folds."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn

from custom_apps.brain.latent_map import latent_map
from custom_apps.brain.map_files import write_map_files
from custom_apps.common.checkpoint_files import load_weights, read_checkpoint
from custom_apps.common.distributed import without_ddp

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
        return torch.stack([member(image).float().log_softmax(1) for member in self.members]).logsumexp(0) - torch.log(
            torch.tensor(float(len(self.members)))
        )


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


class MarkerPrediction(NamedTuple):
    """Prediction of a volume.

    Attributes:
        logits: of the classes, (B, classes).
        map: of where the network responds, (B, 1, x, y, z); without one (B, 0).
    """

    logits: torch.Tensor
    map: torch.Tensor


class MarkerInferer(Inferer):
    """Inferer that gives logits and map of a volume in one go.

    Args:
        maps: False leaves the map out.
        source: see :func:`custom_apps.brain.latent_map.latent_map`, as the following ones.
        reduce: from the features of a token to a number.
        blocks: number of blocks to run.
        expand: ``nearest`` or ``linear``.
        rescale: ``none``, ``minmax`` or ``percentile``.
        mirrored: also predict the volume with left and right exchanged, and average the probabilities.

    The map of an ensemble is the mean of its members' maps.
    """

    def __init__(
        self,
        maps: bool = True,
        source: str | None = None,
        reduce: str = "max",
        blocks: int | None = None,
        expand: str = "nearest",
        rescale: str = "none",
        mirrored: bool = False,
    ):
        super().__init__()
        self.maps, self.mirrored = maps, mirrored
        self.options = {"source": source, "reduce": reduce, "blocks": blocks, "expand": expand, "rescale": rescale}

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> MarkerPrediction:
        """Predicts a batch."""
        logits = network(inputs)
        if self.mirrored:
            both = torch.stack([logits.float(), network(inputs.flip(2)).float()]).log_softmax(-1)
            logits = both.logsumexp(0) - torch.log(torch.tensor(2.0))
        network = without_ddp(network)
        members = network.members if isinstance(network, FoldEnsemble) else [network]
        if not self.maps:
            return MarkerPrediction(logits, logits.new_zeros(len(logits), 0))
        maps = [latent_map(member, inputs, **self.options) for member in members]
        return MarkerPrediction(logits, torch.stack(maps).mean(0))


class SaveMaps:
    """Handler of an evaluator with a :class:`MarkerInferer` that writes the map of every examination.

    Takes ``image``, ``affine``, ``case`` and, where they are, ``tumor``, ``original_shape`` and ``original_affine``
    from the batch, ``pred`` and ``pred_map`` from the output; see :func:`custom_apps.brain.map_files.write_map_files`.

    Args:
        output_dir: made when missing.
        class_names: of class 0 and 1, for the title of the picture.
        overwrite: replace files of earlier runs.
    """

    def __init__(self, output_dir: str | Path, class_names: Sequence[str] = ("0", "1"), overwrite: bool = False):
        self.output_dir, self.class_names, self.overwrite = Path(output_dir), tuple(class_names), overwrite

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's examinations."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if output["pred_map"].numel():
                self.write(item, output["pred"], output["pred_map"])

    def write(self, item: Mapping[str, Any], logits: torch.Tensor, values: torch.Tensor) -> dict[str, Path]:
        """Writes the map (1, x, y, z) of one examination; returns the files by kind."""
        case = str(item["case"])
        if self.overwrite:
            for ending in MAP_ENDINGS:
                (self.output_dir / f"{case}{ending}").unlink(missing_ok=True)
        record = None
        if "original_affine" in item:
            record = {key: item[key].cpu().numpy() for key in ("original_shape", "original_affine")}
        probability = float(logits.float().softmax(-1)[1])
        return write_map_files(
            values[0].float().cpu().numpy(),
            item["image"].cpu().numpy(),
            item["affine"].cpu().numpy(),
            self.output_dir,
            case,
            mask=item["tumor"].cpu().numpy() if "tumor" in item else None,
            record=record,
            title=f"{case}: {self.class_names[1]} {probability:.2f}",
        )
