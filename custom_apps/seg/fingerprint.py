"""The fingerprint of a data set: shapes, spacings and foreground intensities of its training cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.case_pool import run_cases
from custom_apps.seg.cropping import crop_to_nonzero
from custom_apps.seg.intensity_sampling import IntensityCounts, sample_foreground
from custom_apps.seg.raw_dataset import Case, RawDataset

FOREGROUND_SAMPLES = 10**8


@dataclass(frozen=True)
class Fingerprint:
    """What planning knows of the images (nnU-Net, Isensee et al. 2021; content of ``dataset_fingerprint.json``).

    Attributes:
        spacings: of each case in mm, array axis order.
        shapes_after_crop: of each case in voxels, after cropping to the non-zero region.
        median_relative_size_after_cropping: median share of the voxels that cropping keeps.
        foreground_intensity_properties_per_channel: channel number (a string) to ``mean``, ``median``, ``std``,
            ``min``, ``max``, ``percentile_00_5`` and ``percentile_99_5`` of the voxels with a label.
    """

    spacings: list[list[float]]
    shapes_after_crop: list[list[int]]
    median_relative_size_after_cropping: float
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]

    @classmethod
    def read(cls, path: str | Path) -> Fingerprint:
        """Reads a fingerprint file, ours or nnU-Net's.

        Raises:
            DataError: when it cannot be read or is incomplete.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{name: content[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(path, f"cannot be read ({error})", "a fingerprint file") from error

    def write(self, path: str | Path) -> None:
        """Writes the fingerprint file."""
        write_json(asdict(self), path)


def extract_fingerprint(
    dataset: RawDataset, num_processes: int = 1, foreground_samples: int = FOREGROUND_SAMPLES
) -> Fingerprint:
    """Reads every training case and takes the fingerprint.

    Args:
        dataset: the raw data set.
        num_processes: processes that read cases.
        foreground_samples: intensities drawn per channel over all cases, the same number from each case.

    Raises:
        DataError: for an unusable file, or when no case has a foreground voxel.
    """
    cases = dataset.training_cases
    per_case = foreground_samples // len(cases)
    found = run_cases(_measure, [(dataset, case, per_case) for case in cases], num_processes, "fingerprint")
    return Fingerprint(
        spacings=[case.spacing for case in found],
        shapes_after_crop=[case.shape for case in found],
        median_relative_size_after_cropping=float(np.median([case.relative_size for case in found])),
        foreground_intensity_properties_per_channel=_pool(dataset, [case.counts for case in found]),
    )


@dataclass(frozen=True)
class _CaseMeasures:
    spacing: list[float]
    shape: list[int]
    relative_size: float
    counts: list[IntensityCounts]


def _measure(dataset: RawDataset, case: Case, samples: int) -> _CaseMeasures:
    image, properties = dataset.read_image(case)
    seg, _ = dataset.read_label(case)
    if seg.shape[1:] != image.shape[1:]:
        raise DataError(case.label, f"shape is {seg.shape[1:]}", f"{image.shape[1:]} as the image")
    cropped, cropped_seg, _ = crop_to_nonzero(image, seg)
    shape = cropped.shape[1:]
    counts = sample_foreground(cropped, cropped_seg[0] > 0, samples)
    return _CaseMeasures(list(properties["spacing"]), list(shape), prod(shape) / prod(image.shape[1:]), counts)


def _pool(dataset: RawDataset, counts: Sequence[Sequence[IntensityCounts]]) -> dict[str, Any]:
    pooled = {}
    for channel in range(len(dataset.channel_names)):
        together = IntensityCounts.merge([case[channel] for case in counts])
        if not together.total:
            raise DataError(dataset.folder, "no training case has a foreground voxel", "labelled training cases")
        pooled[str(channel)] = together.statistics()
    return pooled
