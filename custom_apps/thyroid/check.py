"""Integrity of a data set of ultrasound images: every problem, before any work is done on it."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem
from custom_apps.thyroid.blurred_copy import blur_of
from custom_apps.thyroid.image_file import image_files, image_name, is_dicom, read_image
from custom_apps.thyroid.mask_file import NODULE, read_mask
from custom_apps.thyroid.records import (
    MASK_FOLDERS,
    SPLITS,
    TN3K_FOLDERS,
    TN3K_FOLDS,
    class_names,
    mask_folder,
    tn3k_lists,
)

UNUSUAL = {
    "P": "palette instead of gray values",
    "PA": "palette instead of gray values",
    "RGBA": "with transparency",
    "LA": "with transparency",
    "CMYK": "in the colors of print",
    "I;16": "16 bits a pixel",
    "I;16B": "16 bits a pixel",
    "I": "16 or 32 bits a pixel",
    "1": "black and white only",
}
LAYOUTS = (
    "folders <split>/<class> with images, images and masks, trainval-image (TN3K), or images in train and val or alone"
)


@dataclass
class Finding:
    """What was found in one image and its mask.

    Attributes:
        problems: of both.
        content: digest of the pixels; None of an image that cannot be read.
    """

    problems: list[Problem] = field(default_factory=list)
    content: str | None = None


def check_dataset(folder: str | Path) -> list[Problem]:
    """Reads a whole data set and lists what is wrong with it; its layout is recognized by its folders.

    Errors: unreadable images and masks, two images of one name, an image without mask, a mask of another size or with
    other values, lists of folds that do not fit, classes that differ between splits or are empty, the same image in two
    splits or with two classes. Warnings: masks without image or without nodule, images of one gray value, the same
    image twice in a split, palettes, transparency, 16 bits, colors, a split that is missing, files that are no images,
    a copy that is blurred already.

    Args:
        folder: see :mod:`custom_apps.thyroid.records` for the layouts. A folder of images alone, for pre-training, will
            do.

    Returns:
        The problems, none for a sound data set.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [Problem(str(folder), "no such folder", "a data set")]
    try:
        if any((folder / name).is_dir() for names in TN3K_FOLDERS.values() for name in names):
            problems = _check_tn3k(folder)
        elif (folder / "images").is_dir() and any((folder / name).is_dir() for name in MASK_FOLDERS):
            problems = _check_images_masks(folder)
        elif any(_class_folders(folder / split) for split in SPLITS):
            problems = _check_classes(folder)
        else:
            problems = _check_images(folder)
        if blur := blur_of(folder):
            problems.append(Problem(str(folder), f"blurred copy ({blur})", "no further blur in training", WARNING))
    except DataError as error:
        return [Problem.of(error)]
    return problems


def _check_tn3k(folder: Path) -> list[Problem]:
    splits, problems = {}, []
    for part, (images, masks) in TN3K_FOLDERS.items():
        if not (folder / images).is_dir():
            problems.append(Problem(str(folder / images), "no such folder", "images of TN3K"))
            continue
        splits[part] = _pairs(folder / images, folder / masks, problems)
    count = len(splits.get("trainval", ()))
    lists = [fold for fold in (None, *range(TN3K_FOLDS)) if _fold_path(folder, fold).is_file()]
    if not lists:
        problems.append(Problem(str(folder), "no list of training and validation images", _fold_path(folder, 0).name))
    for fold in lists:
        try:
            tn3k_lists(folder, fold, count)
        except DataError as error:
            problems.append(Problem.of(error))
    return problems + _check_splits(splits)


def _fold_path(folder: Path, fold: int | None) -> Path:
    return folder / ("tn3k-trainval.json" if fold is None else f"tn3k-trainval-fold{fold}.json")


def _check_images_masks(folder: Path) -> list[Problem]:
    problems: list[Problem] = []
    masks = folder / mask_folder(folder)
    names = [split for split in SPLITS if (folder / "images" / split).is_dir()]
    problems += _missing(folder / "images", names) if names else []
    return problems + _check_splits(
        {name: _pairs(folder / "images" / name, masks / name, problems) for name in names or [""]}
    )


def _check_classes(folder: Path) -> list[Problem]:
    names = [split for split in SPLITS if (folder / split).is_dir()]
    problems = _missing(folder, names)
    try:
        class_names(folder)
    except DataError as error:
        problems.append(Problem.of(error))
    splits = {}
    for split in names:
        pairs = {}
        for name in _class_folders(folder / split):
            images = image_files(folder / split / name, deep=True)
            if not images:
                problems.append(Problem(str(folder / split / name), "empty class", "images of this class"))
            pairs |= dict.fromkeys(images)
            problems += _strangers(folder / split / name)
        loose = image_files(folder / split)
        problems += [Problem(str(path), "in no class folder", "<split>/<class>/<image>") for path in loose]
        splits[split] = pairs
    return problems + _check_splits(splits, by_class=True)


def _check_images(folder: Path) -> list[Problem]:
    """A heap of images for pre-training, with or without folders of splits."""
    names = [split for split in ("train", "val") if (folder / split).is_dir()]
    splits = {name: dict.fromkeys(image_files(folder / name, deep=True)) for name in names or [""]}
    problems = [] if any(splits.values()) else [Problem(str(folder), "no images in a known layout", LAYOUTS)]
    if names == ["train"]:
        problems.append(Problem(str(folder / "val"), "no such folder", "images to validate with"))
    return problems + _check_splits(splits)


def _check_splits(splits: dict[str, dict[Path, Path | None]], by_class: bool = False) -> list[Problem]:
    """Every image of every split, and what occurs more than once.

    Args:
        splits: split to images with their masks.
        by_class: whether the folder of an image is its class.
    """
    problems: list[Problem] = []
    seen: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for split, pairs in splits.items():
        if not pairs and split:
            problems.append(Problem(split, "split without images", "images", WARNING))
        for path, finding in zip(pairs, _in_threads(pairs.items()), strict=True):
            problems += finding.problems
            if finding.content:
                seen[finding.content].append((split, path))
    for twins in seen.values():
        if len(twins) < 2:
            continue
        (split, first), *others = twins
        for other_split, path in others:
            if other_split != split:
                problem = f"same image as {split}/{first.name}, in another split ({other_split})"
                problems.append(Problem(str(path), problem, "each image in one split"))
            elif by_class and path.parent.name != first.parent.name:
                problems.append(Problem(str(path), f"same image as {first.parent.name}/{first.name}", "one class"))
            else:
                problems.append(Problem(str(path), f"same image as {first.name}", "each image once", WARNING))
    return problems


def _pairs(images: Path, masks: Path, problems: list[Problem]) -> dict[Path, Path | None]:
    """Images and their masks; what has no counterpart goes to ``problems``."""
    found = image_files(images, deep=True)
    known = image_files(masks, deep=True) if masks.is_dir() else []
    by_name = {(path.parent.relative_to(masks), image_name(path)): path for path in known}
    pairs: dict[Path, Path | None] = {}
    taken = set()
    for path in found:
        key = (path.parent.relative_to(images), image_name(path))
        if key in taken:
            problems.append(Problem(str(path), "another image has the same name", "one image of a name"))
        taken.add(key)
        pairs[path] = by_name.get(key)
        if pairs[path] is None:
            problems.append(Problem(str(path), "image without mask", f"{masks / key[0] / key[1]}.png or the like"))
    problems += [
        Problem(str(path), "mask without image", f"an image in {images}", WARNING)
        for key, path in by_name.items()
        if key not in taken
    ]
    problems += _strangers(images)
    return pairs


def _examined(pair: tuple[Path, Path | None]) -> Finding:
    path, mask = pair
    finding = Finding()
    try:
        image = read_image(path)
    except DataError as error:
        finding.problems.append(Problem.of(error))
        image = None
    if image is not None:
        finding.content = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
        finding.problems += _oddities(path, image)
    if mask is not None:
        finding.problems += _mask_problems(mask, None if image is None else image.shape)
    return finding


def _mask_problems(mask: Path, size: tuple[int, ...] | None) -> list[Problem]:
    try:
        values = read_mask(mask)
    except DataError as error:
        return [Problem.of(error)]
    problems = []
    if size is not None and values.shape != size:
        expected = f"{size[1]}×{size[0]}, as its image"
        problems.append(Problem(str(mask), f"mask of {values.shape[1]}×{values.shape[0]} pixels", expected))
    if not (values == NODULE).any():
        problems.append(Problem(str(mask), "mask without nodule", "at least one", WARNING))
    return problems


def _oddities(path: Path, image: np.ndarray) -> list[Problem]:
    """What is read, but not as it may have been meant."""
    problems = []
    if image.min() == image.max():
        problems.append(Problem(str(path), "every pixel has the same value", "an image", WARNING))
    if is_dicom(path):
        return problems
    with Image.open(path) as file:
        mode = file.mode
        if mode in UNUSUAL:
            problems.append(Problem(str(path), UNUSUAL[mode], "8-bit gray or RGB; it is converted", WARNING))
        elif mode == "RGB" and _colored(np.array(file)):
            problems.append(Problem(str(path), "colors", "gray; colors are dropped unless asked for", WARNING))
    return problems


def _colored(pixels: np.ndarray) -> bool:
    """Whether colors are more than the traces that JPEG leaves of gray."""
    values = pixels.astype(np.int16)
    return bool((np.ptp(values, axis=-1) > 40).mean() > 0.002)


def _missing(folder: Path, names: Sequence[str]) -> list[Problem]:
    return [
        Problem(str(folder / split), "no such folder", "one for each of train, val and test", WARNING)
        for split in SPLITS
        if split not in names
    ]


def _strangers(folder: Path) -> list[Problem]:
    """One warning for all files of a folder that are no images."""
    images = set(image_files(folder, deep=True))
    others = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    others = [path for path in others if path not in images]
    if not others:
        return []
    names = ", ".join(path.name for path in others[:3]) + (", …" if len(others) > 3 else "")
    return [Problem(str(folder), f"{len(others)} files that are no images: {names}", "images only", WARNING)]


def _class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _in_threads(pairs: Iterable[tuple[Path, Path | None]]) -> list[Finding]:
    """Findings in order; decoding lets go of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_examined, pairs))
