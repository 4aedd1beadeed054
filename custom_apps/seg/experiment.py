"""One training experiment: a prepared data set, a fold of it, and the network to train on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from custom_apps.common.distributed import rank
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.network import with_network
from custom_apps.seg.prepare import prepare_dataset


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

    Attributes:
        prepared: the prepared data set.
        configuration: the planned configuration, naming our network.
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
    ):
        self.prepared = prepare_dataset(dataset_dir, prepared_dir, configuration, planner, overrides)
        self.fold = fold
        self.train_cases, self.val_cases = self.prepared.fold(fold)
        self.configuration: Configuration = with_network(
            self.prepared.configuration, network_name, **(network_options or {})
        )

    def model(self, folder: str | Path) -> ModelFolder:
        """The experiment's model as a folder that inference reads; nothing is written."""
        return ModelFolder(
            Path(folder),
            self.prepared.plans,
            self.configuration,
            self.prepared.dataset_json,
            self.prepared.labels,
            tuple(range(self.configuration.spatial_dims)),
        )

    def network(self, deep_supervision: bool = True) -> nn.Module:
        """The network with fresh weights."""
        return self.model(".").network(deep_supervision)

    def write_model(self, folder: str | Path) -> None:
        """Writes the plan and the data set's description beside the weights; rank 0 only."""
        if rank() == 0:
            self.model(folder).write(fold=self.fold)
