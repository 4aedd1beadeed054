"""One training experiment: a prepared data set, a fold of it, and the network to train on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from custom_apps.common.checkpoint_files import set_aside
from custom_apps.common.distributed import is_main_process, rank, world_size
from custom_apps.common.errors import DataError
from custom_apps.seg.case_lists import CaseItem, labelled_cases
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.left_right import left_right_axis
from custom_apps.seg.left_right import left_right_pairs as resolved_pairs
from custom_apps.seg.model_folder import DATASET_FILE, MODEL_FILE, PLANS_FILE, ModelFolder
from custom_apps.seg.network import with_network
from custom_apps.seg.prepare import prepare_dataset
from custom_apps.seg.prepared import PreparedDataset
from custom_apps.seg.raw_dataset import RawDataset


class Experiment:
    """Prepares a raw data set if need be, selects a fold, and knows the network and its training batches.

    Args:
        dataset_dir: data set in nnU-Net's raw layout.
        prepared_dir: prepared data go to a folder of the data set's name below it.
        configuration: "2d", "3d_fullres" or "3d_lowres".
        planner: "v2.1" (that of U-Mamba), "current", "resenc_m", "resenc_l" or "resenc_xl".
        fold: number of the cross-validation fold, or "all".
        network_name: "UMambaBot", "UMambaEnc" or "UMamba2".
        network_options: further constructor arguments of the network, such as ``mixer``.
        overrides: values that replace planned ones, such as ``patch_size`` or ``batch_size``.
        left_right_pairs: labels that trade places in a mirrored patient, see
            :func:`custom_apps.seg.left_right.left_right_pairs`.
        plans_file: a plan to use instead of planning, such as that of another data set on which a network was
            pre-trained.

    Attributes:
        prepared: the prepared data set.
        configuration: the planned configuration, naming our network.
        left_right_pairs: pairs of label ids.
        train_cases, val_cases: names of the fold's cases.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        prepared_dir: str | Path,
        configuration: str = "3d_fullres",
        planner: str = "v2.1",
        fold: int | str = 0,
        network_name: str = "UMambaBot",
        network_options: dict[str, Any] | None = None,
        overrides: dict[str, Any] | None = None,
        left_right_pairs: Sequence[Sequence[int | str]] | str | None = None,
        plans_file: str | Path | None = None,
    ):
        self.prepared = prepare_dataset(
            self.dataset(dataset_dir), prepared_dir, configuration, planner, overrides, plans_file=plans_file
        )
        self.fold = fold
        self.train_cases, self.val_cases = self.prepared.fold(fold)
        self.configuration: Configuration = with_network(
            self.prepared.configuration, network_name, **(network_options or {})
        )
        self.left_right_pairs = resolved_pairs(self.prepared.labels, left_right_pairs)

    def dataset(self, dataset_dir: str | Path) -> RawDataset:
        """Reader of the raw data set."""
        return RawDataset(dataset_dir)

    def model(self, folder: str | Path) -> ModelFolder:
        """The experiment's model as a folder that inference reads; nothing is written."""
        return ModelFolder(
            Path(folder),
            self.prepared.plans,
            self.configuration,
            self.prepared.dataset_json,
            self.prepared.labels,
            tuple(range(self.configuration.spatial_dims)),
            self.left_right_pairs,
        )

    @property
    def left_right_axis(self) -> int | None:
        """Axis of a patch from side to side, None where it is not in the patch."""
        return left_right_axis(self.prepared.plans, self.configuration)

    @property
    def mirrored_pairs(self) -> tuple[tuple[int, int], ...]:
        """Labels to exchange when a patch is flipped along that axis; none where the patch does not have it."""
        return () if self.left_right_axis is None else self.left_right_pairs

    @property
    def masked_channels(self) -> list[int]:
        """Channels that were normalized within the non-zero region and stay 0 outside of it."""
        return [channel for channel, masked in enumerate(self.configuration.use_mask_for_norm) if masked]

    def network(self, deep_supervision: bool = True) -> nn.Module:
        """The network with fresh weights."""
        return self.model(".").network(deep_supervision)


def evaluation_cases(
    part: str,
    dataset_dir: str | Path,
    prepared_dir: str | Path,
    configuration: str,
    fold: int | str,
) -> list[CaseItem]:
    """Labeled cases to evaluate a trained network on; in a distributed run the share of this process.

    Args:
        part: "validation", the cases that the fold left out of training, or "test" (imagesTs with labelsTs).
        dataset_dir: data set in nnU-Net's raw layout.
        prepared_dir: where its preparation, which knows the folds, is; not looked at for "test".
        configuration: the prepared configuration.
        fold: number of the fold, or "all".

    Raises:
        ValueError: for another part.
        DataError: if cases or label maps are missing, or there are fewer cases than processes.
    """
    if part == "test":
        cases = labelled_cases(dataset_dir, part="test")
    elif part == "validation":
        root = Path(prepared_dir) / RawDataset(dataset_dir).name
        cases = labelled_cases(dataset_dir, PreparedDataset(root, configuration).fold(fold)[1])
    else:
        raise ValueError(f"part must be 'validation' or 'test', got {part!r}")
    if len(cases) < world_size():
        raise DataError(dataset_dir, f"{len(cases)} {part} cases for {world_size()} processes", "one for each at least")
    return cases[rank() :: world_size()]


class ModelWriter:
    """Handler that writes plan and data-set description beside the weights when a training starts.

    Attach it after the handler that resumes, which refuses a folder of another network. Descriptions that differ from
    ours are kept under other names.

    Args:
        experiment: what is trained.
        folder: the model folder.
    """

    def __init__(self, experiment: Experiment, folder: str | Path):
        self.experiment, self.folder = experiment, Path(folder)

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files, on the main process."""
        if not is_main_process():
            return
        model = self.experiment.model(self.folder)
        if (self.folder / MODEL_FILE).is_file() and ModelFolder.read(self.folder).configuration != model.configuration:
            for name in (MODEL_FILE, PLANS_FILE, DATASET_FILE):
                set_aside(self.folder / name)
        model.write(fold=self.experiment.fold)
