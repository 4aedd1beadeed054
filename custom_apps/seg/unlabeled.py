"""Images without labels, prepared like the labeled ones of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.seg.case_pool import processes_for, run_cases
from custom_apps.seg.check import total_bytes
from custom_apps.seg.preparation_record import PreparationRecord, array_items
from custom_apps.seg.prepare import LOCK_FILE, prepare_case
from custom_apps.seg.prepared import CasePaths, PreparedCase, PreparedDataset, read_prepared_case
from custom_apps.seg.raw_dataset import Case, RawDataset

if TYPE_CHECKING:
    from custom_apps.seg.configuration import Configuration

UNLABELED = "unlabeledTr"


class UnlabeledImages(RawDataset):
    """Images of one folder of a raw data set; every label map is 0.

    Args:
        folder: the data set.
        images: folder in it, such as ``unlabeledTr`` or ``imagesTs``; files are named as in ``imagesTr``.
    """

    def __init__(self, folder: str | Path, images: str = UNLABELED):
        super().__init__(folder)
        self.images = images

    @cached_property
    def cases(self) -> list[Case]:
        """The cases by name.

        Raises:
            DataError: when the folder is missing or empty, or a file is misnamed.
        """
        return self.images_in(self.folder / self.images)

    def read_label(self, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """Zeros of the image's size, int16 (1, z, y, x)."""
        image, properties = self.read_image(case)
        return np.zeros((1, *image.shape[1:]), np.int16), properties


class WithoutLabels(RawDataset):
    """A raw data set without ``labelsTr``: all that is not zero counts as foreground, to plan by its intensities."""

    def list_training_cases(self) -> tuple[list[Case], list[DataError]]:
        """Cases of ``imagesTr``, and every problem of the listing."""
        return self._group(self.folder / "imagesTr")

    def read_label(self, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """1 where any channel of the image is not zero, int16 (1, z, y, x)."""
        image, properties = self.read_image(case)
        return (image != 0).any(axis=0, keepdims=True).astype(np.int16), properties


def default_folders(dataset_dir: str | Path) -> list[str]:
    """``["unlabeledTr"]`` if the data set has that folder, else no folder."""
    return [UNLABELED] if (Path(dataset_dir) / UNLABELED).is_dir() else []


def prepare_unlabeled(
    dataset_dir: str | Path, prepared: PreparedDataset, images: str = UNLABELED, num_processes: int | None = None
) -> Path:
    """Prepares a folder of images by the plan of the labeled cases, or finds it prepared.

    The arrays lie beside those of the labeled cases, in ``<folder of those>_<images>``; the rules for a folder that is
    there already are those of ``prepare_dataset``. A file that cannot be read stops the preparation.

    Args:
        dataset_dir: the raw data set.
        prepared: its labeled cases, prepared.
        images: folder of images in the data set.
        num_processes: processes that read and resample; by default as many as the images are worth.

    Returns:
        The folder of prepared cases.

    Raises:
        DataError: for unusable images, or a prepared folder that belongs to other images or another plan.
    """
    from filelock import FileLock

    dataset = UnlabeledImages(dataset_dir, images)
    cases, configuration = dataset.cases, prepared.configuration
    folder = prepared.root / f"{configuration.data_identifier}_{images}"
    folder.mkdir(parents=True, exist_ok=True)
    now = PreparationRecord.of(dataset, cases)
    with FileLock(folder / LOCK_FILE):
        record = PreparationRecord.read(folder) or now
        record.refuse_other_dataset(now, folder)
        record.refuse_other_arrays(prepared.plans, configuration, folder)
        record.arrays[configuration.data_identifier] = array_items(prepared.plans, configuration)
        record.write(folder)
        missing = [case for case in cases if not CasePaths(folder, case.identifier).properties.is_file()]
        processes = processes_for(total_bytes(missing), num_processes) if missing else 1
        arguments = [(dataset, case, prepared.plans, configuration, folder) for case in missing]
        run_cases(prepare_case, arguments, processes, f"preparation of {images}")
    return folder


class CasePool:
    """Prepared cases of several folders under names of their own, with what the patch sampler asks for.

    Args:
        configuration: the configuration that all were prepared for.
        places: name of the case in the pool to folder and name of the case in it.

    Attributes:
        configuration: as given.
        cases: names, sorted.
    """

    def __init__(self, configuration: Configuration, places: Mapping[str, tuple[Path, str]]):
        self.configuration, self.places = configuration, dict(places)
        self.cases = sorted(self.places)

    def load(self, case: str) -> PreparedCase:
        """Arrays of a case.

        Raises:
            DataError: for an unknown case or a damaged file.
        """
        if case not in self.places:
            raise DataError("the pool of images", f"no case '{case}'", f"one of the {len(self.cases)} there")
        return read_prepared_case(*self.places[case])


def image_pool(
    dataset_dir: str | Path,
    prepared: PreparedDataset,
    folders: Sequence[str] | None = None,
    labeled: Sequence[str] = (),
) -> CasePool:
    """Prepares folders of images and gathers their cases.

    Args:
        dataset_dir: the raw data set.
        prepared: its labeled cases, prepared.
        folders: folders of images in the data set, such as ``unlabeledTr`` or ``imagesTs``; those of
            :func:`default_folders` when None.
        labeled: labeled cases that belong to the pool too.

    Returns:
        The pool. Labeled cases keep their names, others are ``<folder>/<case>``.

    Raises:
        DataError: for unusable images, or when the pool would be empty.
    """
    places = {name: (prepared.folder, name) for name in labeled}
    for images in default_folders(dataset_dir) if folders is None else folders:
        folder = prepare_unlabeled(dataset_dir, prepared, images)
        names = [case.identifier for case in UnlabeledImages(dataset_dir, images).cases]
        places |= {f"{images}/{name}": (folder, name) for name in names}
    if not places:
        raise DataError(Path(dataset_dir) / UNLABELED, "no images without labels", f"a folder '{UNLABELED}' of them")
    return CasePool(prepared.configuration, places)
