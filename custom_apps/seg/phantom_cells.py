"""Synthetic microscopy of cells, written as a data set in nnU-Net layout with instance references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

from custom_apps.common.data_folder import new_data_folder
from custom_apps.seg.phantom_files import write_description

NAME = "Dataset902_PhantomCells"
LABELS = {"background": 0, "interior": 1, "boundary": 2}

BACKGROUND_RGB, CELL_RGB = np.array([225.0, 205.0, 215.0]), np.array([125.0, 75.0, 150.0])
BOUNDARY_PIXELS = 2


def cell_image(
    random: np.random.Generator, shape: tuple[int, int], cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image of elliptical cells that do not overlap.

    Args:
        random: source of every draw.
        shape: pixels (y, x).
        cells: how many to try to place.

    Returns:
        RGB image (y, x, 3) uint8; semantic labels (1 interior, 2 boundary) uint8; instance ids uint16.
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    instances, semantic = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    image = BACKGROUND_RGB + 12 * _smooth_noise(random, shape, 20)[..., None]
    for _ in range(cells):
        center, radii, angle = random.uniform((0, 0), shape), random.uniform(6, 11, 2), random.uniform(0, np.pi)
        u = (y - center[0]) * np.cos(angle) + (x - center[1]) * np.sin(angle)
        v = (x - center[1]) * np.cos(angle) - (y - center[0]) * np.sin(angle)
        distance = (u / radii[0]) ** 2 + (v / radii[1]) ** 2
        inside = distance < 1
        if instances[(u / (radii[0] + 2)) ** 2 + (v / (radii[1] + 2)) ** 2 < 1].any():
            continue
        instances[inside] = instances.max() + 1
        interior = binary_erosion(inside, iterations=BOUNDARY_PIXELS, border_value=1)
        semantic[inside], semantic[interior] = 2, 1
        color = CELL_RGB + random.normal(0, 12, 3)
        image[inside] = color - 25 * (distance[inside, None] > 0.75)
    image = gaussian_filter(image, (0.7, 0.7, 0)) + random.normal(0, 7, (*shape, 3))
    return np.clip(image, 0, 255).astype(np.uint8), semantic, instances


def _smooth_noise(random: np.random.Generator, shape: tuple[int, int], width: float) -> np.ndarray:
    field = gaussian_filter(random.normal(size=shape), width)
    return field / field.std()


def write_cell_phantom(
    folder: str | Path,
    cases: int = 16,
    test_cases: int = 4,
    seed: int = 0,
    shape: tuple[int, int] = (96, 128),
) -> Path:
    """Writes ``folder/Dataset902_PhantomCells``: RGB images and label maps as ``.png``.

    Instance references of the test images are in ``labelsTs_instances/{case}_label.tiff``.

    Args:
        folder: the data set's folder is made in it.
        cases: training images.
        test_cases: held-out images.
        seed: same seed, same files' content.
        shape: typical number of pixels (y, x).

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    import tifffile
    from PIL import Image

    root = new_data_folder(folder, NAME)
    (root / "labelsTs_instances").mkdir()
    for part, count in (("Tr", cases), ("Ts", test_cases)):
        for kind in ("images", "labels"):
            (root / f"{kind}{part}").mkdir()
        for number in range(count):
            random = np.random.default_rng([seed, part == "Ts", number])
            size = tuple(int(n * random.uniform(0.9, 1.1)) for n in shape)
            image, semantic, instances = cell_image(random, size, cells=size[0] * size[1] // 350)
            name = f"cells_{part.lower()}_{number:03d}"
            Image.fromarray(image).save(root / f"images{part}" / f"{name}_0000.png")
            Image.fromarray(semantic).save(root / f"labels{part}" / f"{name}.png")
            if part == "Ts":
                tifffile.imwrite(root / "labelsTs_instances" / f"{name}_label.tiff", instances)
    write_description(root, ["R", "G", "B"], LABELS, cases, ".png", "Synthetic microscopy of elliptical cells")
    return root
