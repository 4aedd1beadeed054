"""Synthetic abdominal CT with labeled organs, written as a data set in nnU-Net layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.common.data_folder import new_data_folder
from custom_apps.seg.phantom_files import write_description

NAME = "Dataset901_PhantomCT"
LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "aorta": 4}

AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU = -1000.0, -100.0, 45.0, 500.0


@dataclass(frozen=True)
class Organ:
    """An ellipsoid (or, with infinite radius along z, a tube) in units of the body's half axes.

    Attributes:
        label: label id, 0 for an unlabeled structure.
        hounsfield: mean intensity in HU.
        center: position (z, y, x), each from -1 to 1; y grows to the back, x to the patient's left.
        radii: half axes (z, y, x).
    """

    label: int
    hounsfield: float
    center: tuple[float, float, float]
    radii: tuple[float, float, float]


ANATOMY = (
    Organ(0, BONE_HU, (0.0, 0.68, 0.0), (np.inf, 0.16, 0.13)),
    Organ(1, 115.0, (0.25, -0.10, -0.42), (0.55, 0.50, 0.38)),
    Organ(2, 165.0, (0.30, 0.28, 0.60), (0.42, 0.28, 0.20)),
    Organ(3, 220.0, (-0.35, 0.45, -0.38), (0.38, 0.18, 0.16)),
    Organ(3, 220.0, (-0.25, 0.45, 0.38), (0.38, 0.18, 0.16)),
    Organ(4, 300.0, (0.0, 0.38, 0.05), (np.inf, 0.13, 0.12)),
)


def ct_case(
    random: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """One phantom.

    Args:
        random: source of every draw.
        shape: voxels (z, y, x).
        spacing_mm: voxel edges (z, y, x).

    Returns:
        Image in HU, int16, and label map, uint8, both of ``shape``.
    """
    extent = np.array(shape) * spacing_mm
    half_axes = extent / 2 * np.array([1.0, 0.78, 0.92])
    axes = [(np.arange(n) - (n - 1) / 2) * s / h for n, s, h in zip(shape, spacing_mm, half_axes, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    grid = grid + _smooth_noise(random, (3, *shape), spacing_mm, width_mm=18.0) * 0.06

    radius = np.sqrt(grid[1] ** 2 + grid[2] ** 2)
    image = np.where(radius < 1, np.where(radius < 0.9, MUSCLE_HU, FAT_HU), AIR_HU)
    labels = np.zeros(shape, np.uint8)
    for organ in ANATOMY:
        center = np.array(organ.center) + random.normal(0, 0.025, 3)
        radii = np.array(organ.radii) * random.uniform(0.88, 1.12, 3)
        inside = sum(((grid[i] - center[i]) / radii[i]) ** 2 for i in range(3)) < 1
        image[inside] = organ.hounsfield + random.normal(0, 6)
        labels[inside] = organ.label
    texture = _smooth_noise(random, (1, *shape), spacing_mm, width_mm=6.0)[0]
    image = image + np.where(radius < 1, 10 * texture, 0)
    # Partial volume and the scanner's noise.
    image = gaussian_filter(image, [0.6 / s for s in spacing_mm]) + random.normal(0, 18, shape)
    return np.clip(np.round(image), -1024, 3071).astype(np.int16), labels


def _smooth_noise(random: np.random.Generator, shape, spacing_mm, width_mm: float) -> np.ndarray:
    """Gaussian fields of unit deviation (fields, z, y, x), correlated over ``width_mm``."""
    width = [width_mm / s for s in spacing_mm]
    fields = [gaussian_filter(random.normal(size=shape[1:]), width) for _ in range(shape[0])]
    return np.stack([(f - f.mean()) / f.std() for f in fields])


def write_ct_phantom(
    folder: str | Path,
    cases: int = 12,
    test_cases: int = 4,
    seed: int = 0,
    shape: tuple[int, int, int] = (32, 64, 72),
) -> Path:
    """Writes ``folder/Dataset901_PhantomCT``: images and labels for training (Tr) and testing (Ts), ``.nii.gz``.

    Volumes differ in shape and spacing, as clinical CT does.

    Args:
        folder: the data set's folder is made in it.
        cases: training cases.
        test_cases: held-out cases.
        seed: same seed, same files' content.
        shape: typical number of voxels (z, y, x).

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    import SimpleITK as sitk

    root = new_data_folder(folder, NAME)
    for part, count in (("Tr", cases), ("Ts", test_cases)):
        for kind in ("images", "labels"):
            (root / f"{kind}{part}").mkdir()
        for number in range(count):
            random = np.random.default_rng([seed, part == "Ts", number])
            case_shape = tuple(int(n * random.uniform(0.9, 1.1)) for n in shape)
            spacing_mm = (random.uniform(5.0, 6.0), *[random.uniform(4.2, 4.8)] * 2)
            image, labels = ct_case(random, case_shape, spacing_mm)
            name = f"phantom_{part.lower()}_{number:03d}"
            for array, path in (
                (image, root / f"images{part}" / f"{name}_0000.nii.gz"),
                (labels, root / f"labels{part}" / f"{name}.nii.gz"),
            ):
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing([float(s) for s in reversed(spacing_mm)])
                volume.SetOrigin((-120.0, -110.0, 40.0 + 10 * number))
                sitk.WriteImage(volume, str(path), useCompression=True)
    write_description(root, ["CT"], LABELS, cases, ".nii.gz", "Synthetic abdominal CT with deformed ellipsoids")
    return root
