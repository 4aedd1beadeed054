"""Synthetic thyroid ultrasound with nodules, written in the layouts of the real data sets."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.thyroid.phantom_neck import neck
from custom_apps.thyroid.phantom_nodule import BENIGN, Nodule, add_nodule
from custom_apps.thyroid.phantom_scanner import Scanner, scan
from custom_apps.thyroid.records import TN3K_FOLDERS, TN3K_FOLDS

NAMES = {"classes": "PhantomThyroid", "tn3k": "PhantomTN3K", "images_masks": "PhantomNodules"}
CLASSES = ("benign", "malignant")
EVERY_FIFTH = 5
JPEG_QUALITY = 95


@dataclass(frozen=True)
class PhantomImage:
    """One picture.

    Attributes:
        image: uint8 (H, W).
        mask: bool (H, W), the nodule.
        malignant: what it is made to look like.
    """

    image: np.ndarray
    mask: np.ndarray
    malignant: bool


def write_thyroid_phantom(
    folder: str | Path,
    cases: int = 60,
    test_cases: int = 24,
    seed: int = 0,
    layout: str = "classes",
    size: int | None = None,
) -> Path:
    """Writes synthetic B-mode images of a thyroid lobe with one nodule, benign and malignant in turn.

    Benign nodules are oval and smooth: as bright as the gland with a dark halo, spongiform, or cystic. Malignant ones
    are dark, taller than wide, of irregular margin, with microcalcifications.

    ================= ========================================================================================
    ``classes``       ``PhantomThyroid/{train,val,test}/{benign,malignant}/*.png``
    ``tn3k``          ``PhantomTN3K`` as TN3K: ``trainval-image``, ``trainval-mask``, ``test-image``,
                      ``test-mask`` (JPEG) and lists of five folds
    ``images_masks``  ``PhantomNodules/{images,masks}/{train,val,test}/*.png``, masks of 0 and 255
    ================= ========================================================================================

    Args:
        folder: the data set's folder is made in it.
        cases: images to train and to validate with; every fifth of a class is for validation, at least one.
        test_cases: held-out images.
        seed: same seed, same images in every layout.
        layout: see above.
        size: long side of the images in pixels; None for about 360 to 440, different in every image.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
        ValueError: unknown layout, or fewer than four cases.
    """
    if layout not in NAMES:
        raise ValueError(f"layout must be one of {', '.join(NAMES)}, got {layout!r}")
    if cases < 4:
        raise ValueError(f"at least four cases are needed, two of a class to train and to validate, got {cases}")
    root = new_data_folder(folder, NAMES[layout])
    write = {"classes": _write_class, "tn3k": _write_tn3k, "images_masks": _write_pair}[layout]

    def work(job: tuple[int, bool]) -> None:
        number, held_out = job
        picture = thyroid_case(np.random.default_rng([seed, held_out, number]), number, size)
        write(root, picture, number, "test" if held_out else _split(number, cases))

    jobs = [(number, held_out) for held_out, count in ((False, cases), (True, test_cases)) for number in range(count)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(work, jobs))
    if layout == "tn3k":
        _write_folds(root, cases)
    return root


def write_tn3k_phantom(folder: str | Path, cases: int = 60, test_cases: int = 24, seed: int = 0) -> Path:
    """:func:`write_thyroid_phantom` in the layout of TN3K."""
    return write_thyroid_phantom(folder, cases, test_cases, seed, "tn3k")


def write_images_masks_phantom(folder: str | Path, cases: int = 60, test_cases: int = 24, seed: int = 0) -> Path:
    """:func:`write_thyroid_phantom` with folders of images and masks."""
    return write_thyroid_phantom(folder, cases, test_cases, seed, "images_masks")


def thyroid_case(random: np.random.Generator, number: int, size: int | None = None) -> PhantomImage:
    """One picture; odd numbers are malignant, even ones benign of each kind in turn.

    Args:
        random: source of everything else.
        number: see above.
        size: long side in pixels; None for ten pixels a millimeter.
    """
    malignant = number % 2 == 1
    tissue, lobe = neck(random, random.uniform(36, 44), random.uniform(31, 36))
    nodule = Nodule.drawn(random, lobe, malignant)
    mask = add_nodule(tissue, nodule, "malignant" if malignant else BENIGN[number // 2 % len(BENIGN)], random)
    image = np.rint(255 * scan(tissue, Scanner.drawn(random), random)).astype(np.uint8)
    if random.uniform() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if size is not None:
        edges = [max(1, round(size * edge / max(image.shape))) for edge in reversed(image.shape)]
        shown = Image.fromarray(np.ascontiguousarray(image)).resize(edges, Image.Resampling.BILINEAR)
        share = Image.fromarray(np.uint8(255) * mask).resize(edges, Image.Resampling.BILINEAR)
        image, mask = np.array(shown), np.array(share) >= 128
    return PhantomImage(np.ascontiguousarray(image), np.ascontiguousarray(mask), malignant)


def _split(number: int, cases: int) -> str:
    """Every fifth case of a class for validation; the last of a class where there are fewer."""
    turn, turns = number // 2, (cases - number % 2 + 1) // 2
    return "val" if turn % EVERY_FIFTH == EVERY_FIFTH - 1 or (turns < EVERY_FIFTH and turn == turns - 1) else "train"


def _write_class(root: Path, picture: PhantomImage, number: int, split: str) -> None:
    _save(picture.image, root / split / CLASSES[picture.malignant] / f"phantom_{number:04d}.png")


def _write_pair(root: Path, picture: PhantomImage, number: int, split: str) -> None:
    _save(picture.image, root / "images" / split / f"phantom_{number:04d}.png")
    _save(np.uint8(255) * picture.mask, root / "masks" / split / f"phantom_{number:04d}.png")


def _write_tn3k(root: Path, picture: PhantomImage, number: int, split: str) -> None:
    images, masks = TN3K_FOLDERS["test" if split == "test" else "trainval"]
    _save(picture.image, root / images / f"{number:04d}.jpg")
    _save(np.uint8(255) * picture.mask, root / masks / f"{number:04d}.jpg")


def _write_folds(root: Path, cases: int) -> None:
    """Lists of five folds, both kinds of nodules in each, and one list that equals the first."""
    for fold in range(TN3K_FOLDS):
        lists = {"train": [], "val": []}
        for number in range(cases):
            lists["val" if number // 2 % TN3K_FOLDS == fold else "train"].append(number)
        write_json(lists, root / f"tn3k-trainval-fold{fold}.json")
        if fold == 0:
            write_json(lists, root / "tn3k-trainval.json")


def _save(image: np.ndarray, path: Path) -> None:
    with partial_file(path) as temporary:
        Image.fromarray(image).save(temporary, **({"quality": JPEG_QUALITY} if path.suffix == ".jpg" else {}))
