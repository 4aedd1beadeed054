"""Synthetic gliomas in the layouts of BraTS and of the Erasmus Glioma Database, with a table of molecular markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.brain.contrasts import CONTRASTS, MASK
from custom_apps.brain.labels_table import COLUMNS, EGD_TABLE, TABLE, UNKNOWN, write_labels
from custom_apps.brain.phantom_glioma import Glioma, add_glioma
from custom_apps.brain.phantom_head import BACKGROUND, head, smooth_noise, tissue_images
from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.volume_file import write_nifti

NAMES = {"brats": "PhantomBraTS", "egd": "PhantomEGD"}
EGD_FOLDERS = {"t1": "1_T1", "t1ce": "2_T1GD", "t2": "3_T2", "flair": "4_FLAIR", MASK: "5_MASK"}
FIELD_MM = 192.0
# Scanner units are arbitrary; so is the range of each contrast.
_UNITS = {"t1": (400, 1200), "t2": (300, 1800), "t1ce": (400, 1500), "flair": (200, 900)}


def write_glioma_phantom(
    folder: str | Path,
    cases: int = 24,
    test_cases: int = 0,
    seed: int = 0,
    size: int = 64,
    layout: str = "egd",
    unknown_every: int = 9,
) -> Path:
    """Writes ``folder/PhantomEGD`` or ``folder/PhantomBraTS``: four contrasts and a tumor mask a patient, and labels.

    Half of the tumors are IDH-mutant, half of these 1p/19q co-deleted. Volumes are skull-stripped, co-registered, with
    exact zeros outside the brain, on a grid that is not cubic: voxels run as in the public files, to left, posterior
    and superior for BraTS, to right, anterior and superior for EGD.

    Args:
        folder: the data set's folder is made in it.
        cases: patients.
        test_cases: patients of a second data set beside the first, whose name ends in ``Test``.
        seed: same seed, same data set.
        size: voxels from side to side and from back to front, of 192 mm.
        layout: ``egd`` (labels as XLSX) or ``brats`` (labels as CSV).
        unknown_every: every so many patients one has unknown markers, as a third of EGD has; 0 for none.

    Returns:
        The (first) data set's folder.

    Raises:
        DataError: if it exists already.
    """
    if layout not in NAMES:
        raise ValueError(f"layout must be one of {', '.join(NAMES)}, got {layout!r}")
    if cases < 1 or size < 16:
        raise ValueError(f"at least one case of 16 voxels is needed, got {cases} of {size}")
    roots = [new_data_folder(folder, NAMES[layout])]
    if test_cases:
        roots.append(new_data_folder(folder, NAMES[layout] + "Test"))
    for part, (root, count) in enumerate(zip(roots, (cases, test_cases), strict=False)):
        rows = []
        kinds = _kinds(np.random.default_rng([seed, part]), count)
        for number, (idh, codeletion) in enumerate(kinds):
            random = np.random.default_rng([seed, part, number])
            images, mask, spacing_mm = glioma_case(random, Glioma.drawn(random, idh, codeletion), size)
            name = f"EGD-{number + 1:04d}" if layout == "egd" else f"BraTS2021_{number:05d}"
            _write_case(root, name, layout, images | {MASK: mask}, spacing_mm)
            rows.append(_row(name, idh, codeletion, random, bool(unknown_every) and number % unknown_every == 4))
        # Last, so that it marks a complete data set.
        write_labels(rows, root / (EGD_TABLE if layout == "egd" else TABLE))
    return roots[0]


def write_brats_phantom(folder: str | Path, cases: int = 24, test_cases: int = 0, seed: int = 0) -> Path:
    """:func:`write_glioma_phantom` in the layout of BraTS."""
    return write_glioma_phantom(folder, cases, test_cases, seed, layout="brats")


def glioma_case(
    random: np.random.Generator, glioma: Glioma, size: int
) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """One patient on axes that run to the right, to the front and upwards.

    Args:
        random: source of every draw.
        glioma: the tumor's looks.
        size: voxels from side to side and from back to front; upwards four fifths of it.

    Returns:
        Contrast to image (int16), mask (uint8), and edge of a voxel in mm.
    """
    shape, spacing_mm = (size, size, round(size * 0.8)), FIELD_MM / size
    brain = head(random, shape, spacing_mm)
    images = tissue_images(brain)
    mask = add_glioma(random, images, brain, glioma, spacing_mm)
    inside = brain.tissue != BACKGROUND
    return {name: _scanned(random, images[name], inside, name, spacing_mm) for name in CONTRASTS}, mask, spacing_mm


def _scanned(
    random: np.random.Generator, image: np.ndarray, inside: np.ndarray, name: str, spacing_mm: float
) -> np.ndarray:
    """What a scanner makes of it: texture, partial volume, uneven coil, Rician noise, arbitrary units, 0 outside."""
    image = image + 0.02 * smooth_noise(random, image.shape, max(2.5 / spacing_mm, 0.5))
    image = gaussian_filter(image, 0.8 / spacing_mm)
    coil = np.exp(0.08 * smooth_noise(random, image.shape, 45 / spacing_mm))
    noise = random.normal(0, random.uniform(0.012, 0.03), (2, *image.shape))
    image = np.hypot(image * coil + noise[0], noise[1]) * random.uniform(*_UNITS[name])
    return np.where(inside, np.maximum(np.rint(image), 1), 0).astype(np.int16)


def _kinds(random: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """IDH and 1p/19q status: wild, mutant, wild, co-deleted, … in random order of these fours."""
    fours = [random.permutation([(0, 0), (1, 0), (0, 0), (1, 1)]) for _ in range(count // 4 + 1)]
    return [(int(idh), int(codeletion)) for idh, codeletion in np.concatenate(fours)[:count]]


def _row(name: str, idh: int, codeletion: int, random: np.random.Generator, unknown: bool) -> dict[str, Any]:
    grade = int(random.choice([2, 3], p=[0.6, 0.4])) if idh else int(random.choice([3, 4], p=[0.15, 0.85]))
    values = (name, UNKNOWN, UNKNOWN, grade) if unknown else (name, idh, codeletion, grade)
    return dict(zip(COLUMNS, values, strict=True))


def _write_case(root: Path, name: str, layout: str, images: dict[str, np.ndarray], spacing_mm: float) -> None:
    shape = images[MASK].shape
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [-spacing_mm * (n - 1) / 2 for n in shape]
    for contrast, image in images.items():
        if layout == "egd":
            path = root / name / EGD_FOLDERS[contrast] / "NIFTI" / f"{EGD_FOLDERS[contrast][2:]}.nii.gz"
            write_nifti((image > 0).astype(np.uint8) if contrast == MASK else image, affine, path)
            continue
        to_left_back = np.diag([-1.0, -1.0, 1.0, 1.0])
        to_left_back[:2, 3] = [shape[0] - 1, shape[1] - 1]
        flipped = np.ascontiguousarray(image[::-1, ::-1])
        write_nifti(flipped, affine @ to_left_back, root / name / f"{name}_{contrast}.nii.gz")
