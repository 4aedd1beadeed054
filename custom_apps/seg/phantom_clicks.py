"""Synthetic jaws in which only clicks tell the nerve canal from tubes that look the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from custom_apps.common.data_folder import new_data_folder
from custom_apps.seg.click_simulation import simulate_label_clicks
from custom_apps.seg.clicks import Click, write_clicks
from custom_apps.seg.phantom_files import write_description

NAME = "Dataset904_PhantomClicks"

BONE_HU, CANAL_HU = 900.0, 100.0
SPACING_MM = 0.3
ROWS = (0.25, 0.75)
"""Of the two tubes of which one is a canal, as shares of the height."""
RADIUS_VOXELS = (2.2, 2.8)


def click_case(
    random: np.random.Generator, shape: tuple[int, int, int], canals: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """One phantom: for each canal two tubes, of which either may be it.

    Args:
        random: source of every draw.
        shape: voxels (z, y, x); x grows to the patient's left.
        canals: 1 in the middle, or 2 on the left and on the right.

    Returns:
        Image in HU, int16, and label map (from 1 the canals), uint8, both of ``shape``.
    """
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    image, labels = np.full(shape, BONE_HU), np.zeros(shape, np.uint8)
    columns = (0.5,) if canals == 1 else (0.75, 0.25)
    places = [(row, column, label + 1) for label, column in enumerate(columns) for row in random.permutation(ROWS)]
    for number, (*place, label) in enumerate(places):
        phase, waves = random.uniform(0, 2 * np.pi, 2), random.uniform(0.5, 1.0, 2)
        bend = [1.5 * np.sin(2 * np.pi * w * z / shape[0] + p) for w, p in zip(waves, phase, strict=True)]
        row, column = (
            edge * part + random.uniform(-3, 3) + b for edge, part, b in zip(shape[1:], place, bend, strict=True)
        )
        inside = (y - row) ** 2 + (x - column) ** 2 < random.uniform(*RADIUS_VOXELS) ** 2
        image[inside] = CANAL_HU
        if number % len(ROWS) == 0:
            labels[inside] = label
    texture = gaussian_filter(random.normal(size=shape), 3)
    image = gaussian_filter(image + 60 * texture / texture.std(), 0.6) + random.normal(0, 60, shape)
    return np.clip(np.round(image), -1024, 3071).astype(np.int16), labels


def write_click_phantom(
    folder: str | Path,
    cases: int = 40,
    test_cases: int = 10,
    seed: int = 0,
    size: int = 32,
    canals: Sequence[str] = ("canal",),
) -> Path:
    """Writes ``folder/Dataset904_PhantomClicks``: images and labels for training (Tr) and testing (Ts), ``.nii.gz``.

    ``clicksTs`` holds one click in each canal of every test image, ``{case}_clicks.json``.

    Args:
        folder: the data set's folder is made in it.
        cases: training cases.
        test_cases: held-out cases.
        seed: same seed, same files' content.
        size: voxels from side to side, about; half as many from top to bottom.
        canals: names of one canal, or of the left and the right one.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    import SimpleITK as sitk

    root = new_data_folder(folder, NAME)
    label_ids = {"background": 0} | {name: number + 1 for number, name in enumerate(canals)}
    for part, count in (("Tr", cases), ("Ts", test_cases)):
        for kind in ("images", "labels"):
            (root / f"{kind}{part}").mkdir()
        for number in range(count):
            random = np.random.default_rng([seed, part == "Ts", number])
            shape = tuple(round(edge * random.uniform(0.95, 1.05)) for edge in (size / 2, size, size))
            image, labels = click_case(random, shape, len(canals))
            name = f"jaw_{part.lower()}_{number:03d}"
            for array, path in (
                (image, root / f"images{part}" / f"{name}_0000.nii.gz"),
                (labels, root / f"labels{part}" / f"{name}.nii.gz"),
            ):
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing([SPACING_MM] * 3)
                sitk.WriteImage(volume, str(path), useCompression=True)
            if part == "Ts":
                points, ids = simulate_label_clicks(
                    labels, list(label_ids.values())[1:], np.random.RandomState([seed, number]), (1, 1)
                )
                clicks = [Click(int(label), tuple(map(int, p))) for label, p in zip(ids, points, strict=True)]
                write_clicks(clicks, label_ids, root / "clicksTs" / f"{name}_clicks.json")
    write_description(
        root, ["CT"], label_ids, cases, ".nii.gz", "Synthetic jaws with a canal among tubes of the same look"
    )
    return root
