"""A small raw data set of anisotropic volumes with two labels, for tests of the data side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LABELS = {"background": 0, "organ": 1, "lesion": 2}


def volume(seed: int, shape=(5, 14, 12)) -> tuple[np.ndarray, np.ndarray]:
    """Image (z, y, x) with a border of zeros, and its label map."""
    random = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    image[1:, 2:-1, 1:-2] = random.integers(10, 200, (shape[0] - 1, shape[1] - 3, shape[2] - 3))
    label = np.zeros(shape, np.uint8)
    label[2:4, 4:10, 3:8] = 1
    label[2, 5:7, 4:6] = 2
    image[label == 1] += 300
    image[label == 2] += 600
    return image, label


def write(array: np.ndarray, path: Path, spacing_zyx=(3.0, 1.0, 1.25), origin=(1.0, 2.0, 3.0), direction=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing([float(value) for value in reversed(spacing_zyx[-array.ndim :])])
    image.SetOrigin(origin[: array.ndim])
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path


def describe(folder: Path, **changes) -> None:
    content = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": 3, "file_ending": ".nii.gz"}
    content = {key: value for key, value in (content | changes).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def raw_dataset(parent: Path, cases: int = 3, channels: int = 1, **changes) -> Path:
    """Writes ``Dataset007_Tiny``; cases differ a little in shape."""
    folder = parent / "Dataset007_Tiny"
    names = {str(number): "MRI" for number in range(channels)}
    describe(folder, **({"numTraining": cases, "channel_names": names} | changes))
    for number in range(cases):
        image, label = volume(number, shape=(5 + number % 2, 14, 12))
        for channel in range(channels):
            write(image * (channel + 1), folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz")
        write(label, folder / "labelsTr" / f"case_{number}.nii.gz")
    return folder
