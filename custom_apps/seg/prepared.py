"""A prepared data set on disk: plan, splits, and memory-mapped arrays of each case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.locations import Region, read_locations
from custom_apps.seg.plans import Plans
from custom_apps.seg.splits import Split, read_splits, select_fold

DATASET_FILE = "dataset.json"
FINGERPRINT_FILE = "dataset_fingerprint.json"
PLANS_FILE = "plans.json"
SPLITS_FILE = "splits_final.json"


@dataclass(frozen=True)
class PreparedCase:
    """Arrays of one case, axes transposed, cropped, normalized and resampled.

    Attributes:
        identifier: name of the case.
        image: float32 (C, z, y, x), memory-mapped read-only.
        seg: integer (1, z, y, x), memory-mapped read-only; -1 outside the non-zero region.
        locations: for each foreground label (or region, a tuple of labels) sampled voxels, int (n, 4),
            rows (0, z, y, x).
        properties: geometry of the original and what preparation did, JSON values.
    """

    identifier: str
    image: np.ndarray
    seg: np.ndarray
    locations: dict[Region, np.ndarray]
    properties: dict[str, Any]


class PreparedDataset:
    """Reader of one configuration of a folder that ``prepare_dataset`` wrote.

    Args:
        root: ``<prepared_dir>/<dataset name>``.
        configuration_name: for example ``3d_fullres``.
        plans: the plan to use instead of ``plans.json`` of the folder.

    Raises:
        DataError: when the folder or the configuration is not there.
    """

    def __init__(self, root: str | Path, configuration_name: str = "3d_fullres", plans: Plans | None = None):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(self.root, "no such folder", "a data set prepared with prepare_dataset")
        self.plans: Plans = plans or Plans.read(self.root / PLANS_FILE)
        self.configuration: Configuration = self.plans.configuration(configuration_name)
        self.folder = self.root / self.configuration.data_identifier
        self.cases: list[str] = sorted(
            path.stem for path in self.folder.glob("*.json") if not path.name.startswith(".")
        )
        if not self.cases:
            raise DataError(self.folder, "no prepared case", f"data prepared for configuration '{configuration_name}'")

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """Content of the data set's ``dataset.json``."""
        path = self.root / DATASET_FILE
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(path, f"cannot be read ({error})", "the data set's description") from error

    @cached_property
    def labels(self) -> LabelManager:
        """Labels of the data set."""
        return LabelManager.from_dataset_json(self.dataset_json, self.root / DATASET_FILE)

    @cached_property
    def splits(self) -> list[Split]:
        """Listed splits; none when the data set has too few cases for five folds and no split file."""
        path = self.root / SPLITS_FILE
        return read_splits(path, self.cases) if path.exists() else []

    def fold(self, fold: int | str) -> tuple[list[str], list[str]]:
        """Training and validation names of a fold number or ``"all"``."""
        return select_fold(self.splits, self.cases, fold)

    def load(self, case: str) -> PreparedCase:
        """Arrays of a case; images and labels are mapped, not read.

        Raises:
            DataError: for an unknown case or a damaged file.
        """
        if case not in self.cases:
            raise DataError(self.folder, f"no prepared case '{case}'", "one of the cases of the data set")
        return read_prepared_case(self.folder, case)


@dataclass(frozen=True)
class CasePaths:
    """Where the files of a prepared case are; the properties are written last, so they mark a complete case."""

    folder: Path
    case: str

    @property
    def image(self) -> Path:
        """Float32 image (C, z, y, x)."""
        return self.folder / f"{self.case}.npy"

    @property
    def seg(self) -> Path:
        """Label map (1, z, y, x)."""
        return self.folder / f"{self.case}_seg.npy"

    @property
    def locations(self) -> Path:
        """Sampled voxels of each class."""
        return self.folder / f"{self.case}_locations.npz"

    @property
    def properties(self) -> Path:
        """Geometry, JSON."""
        return self.folder / f"{self.case}.json"


def read_prepared_case(folder: Path, case: str) -> PreparedCase:
    """Arrays of a case in a folder of prepared ones; images and labels are mapped, not read.

    Raises:
        DataError: for a damaged or missing file.
    """
    paths = CasePaths(folder, case)
    try:
        image = np.load(paths.image, mmap_mode="r", allow_pickle=False)
        seg = np.load(paths.seg, mmap_mode="r", allow_pickle=False)
        properties = json.loads(paths.properties.read_text(encoding="utf-8"))
        locations = read_locations(paths.locations)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(folder, f"case '{case}' cannot be read ({error})", "files as prepared") from error
    return PreparedCase(case, image, seg, locations, properties)
