"""Records of thyroid data sets: which file is what, in which split.

A record is a dictionary with ``case`` (path below the split's folder without ending), ``image`` (path), and ``label``:
a class number, or the path of a mask. Images of a blurred copy also have ``blur``, its setting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.thyroid.blurred_copy import blur_of
from custom_apps.thyroid.image_file import image_files, image_name, in_mask_folder

SPLITS = ("train", "val", "test")
MASK_FOLDERS = ("masks_1", "masks", "mask", "annotations", "labels")
TN3K_FOLDERS = {"trainval": ("trainval-image", "trainval-mask"), "test": ("test-image", "test-mask")}
TN3K_FOLDS = 5

Record = dict[str, Any]


def class_names(dataset_dir: str | Path) -> list[str]:
    """Names of the class folders of a data set ``<split>/<class>/<image>``, in alphabetical order.

    Raises:
        DataError: no split, fewer than two classes, or splits with different ones.
    """
    dataset_dir = Path(dataset_dir)
    found = {split: _folders(dataset_dir / split) for split in SPLITS if (dataset_dir / split).is_dir()}
    if not found:
        raise DataError(dataset_dir, "no split", "folders train, val and test")
    first = next(iter(found))
    for split, names in found.items():
        if names != found[first]:
            here, there = ", ".join(names) or "none", ", ".join(found[first]) or "none"
            raise DataError(dataset_dir / split, f"classes {here}", f"those of {first}: {there}")
    if len(found[first]) < 2:
        raise DataError(dataset_dir / first, f"{len(found[first])} class folders", "at least two")
    return found[first]


def class_folder_records(dataset_dir: str | Path, split: str) -> list[Record]:
    """Images with a class each: ``<split>/<class>/<image>``; ``label`` counts the classes in alphabetical order.

    Args:
        dataset_dir: the data set.
        split: ``train``, ``val`` or ``test``.

    Raises:
        DataError: split missing, a class without images, or other classes than in another split.
    """
    dataset_dir = Path(dataset_dir)
    _existing(dataset_dir, split)
    records = []
    for label, name in enumerate(class_names(dataset_dir)):
        folder = dataset_dir / split / name
        images = image_files(folder, deep=True)
        if not images:
            raise DataError(folder, "no images", "images of this class")
        records += [_record(image, dataset_dir / split, label=label) for image in images]
    return _with_blur(records, dataset_dir)


def image_mask_records(
    dataset_dir: str | Path, split: str | None, images: str = "images", masks: str | None = None
) -> list[Record]:
    """Images with a mask each: ``images/<split>/<name>.*`` and ``masks/<split>/<name>.*``, in any formats.

    Re-splits of TN3K and TNUI, as Deblurring MAE was trained on, have this layout.

    Args:
        dataset_dir: the data set.
        split: folder below both; None for images that are in no split.
        images: folder of images, such as ``images_gaussian`` for blurred ones.
        masks: folder of masks; by default the first there is of ``masks_1``, ``masks``, ``mask``, ``annotations``,
            ``labels``.

    Raises:
        DataError: a folder missing, no images, two of one name, or an image without a mask.
    """
    dataset_dir = Path(dataset_dir)
    masks = mask_folder(dataset_dir) if masks is None else masks
    image_dir, mask_dir = (dataset_dir / folder / (split or "") for folder in (images, masks))
    return _with_blur(_paired(image_files(image_dir, deep=True), image_dir, mask_dir), dataset_dir)


def mask_folder(dataset_dir: str | Path) -> str:
    """Name of the folder of masks.

    Raises:
        DataError: there is none of a known name.
    """
    for name in MASK_FOLDERS:
        if (Path(dataset_dir) / name).is_dir():
            return name
    raise DataError(dataset_dir, "no folder of masks", f"one of {', '.join(MASK_FOLDERS)}")


def tn3k_records(dataset_dir: str | Path, split: str, fold: int | None = 0) -> list[Record]:
    """Images with masks of TN3K as its authors distribute it.

    Folders ``trainval-image``, ``trainval-mask``, ``test-image``, ``test-mask``; files ``tn3k-trainval-fold0.json`` to
    ``…4.json``, whose numbers count the images in ``trainval-image`` in the order of their own numbers.

    Args:
        dataset_dir: the data set.
        split: ``train``, ``val``, ``test``, or ``trainval`` for training and validation images together.
        fold: 0 to 4 for a fold of the cross-validation; None for the split of ``tn3k-trainval.json``.

    Raises:
        DataError: files missing, numbers that do not exist or stand in both lists, or an image without a mask.
        ValueError: unknown split.

    Source: Gong et al. 2021 and 2023 (TRFE, TRFE+).
    """
    dataset_dir = Path(dataset_dir)
    if split not in (*SPLITS, "trainval"):
        raise ValueError(f"split must be train, val, test or trainval, got {split!r}")
    part = "test" if split == "test" else "trainval"
    image_dir, mask_dir = (dataset_dir / folder for folder in TN3K_FOLDERS[part])
    images = sorted(image_files(image_dir), key=_natural)
    if split in ("train", "val"):
        images = [images[number] for number in tn3k_lists(dataset_dir, fold, len(images))[split]]
    return _with_blur(_paired(images, image_dir, mask_dir), dataset_dir)


def pretraining_records(
    dataset_dir: str | Path,
    split: str = "train",
    original_dir: str | Path | None = None,
    num_images: int = -1,
    seed: int = 0,
    val_share: float = 0.1,
) -> list[Record]:
    """Images to pre-train on, without labels: all below ``<split>`` or ``images/<split>``, whatever the folders there.

    Without such folders, the images in ``trainval-image`` (TN3K) or else in any folder but those of masks are divided
    by lot. Test images are in no split of this function.

    Args:
        dataset_dir: original images, or blurred ones with ``original_dir``.
        split: ``train`` or ``val``.
        original_dir: data set with the unblurred images in the same folders; ``target`` is their path.
        num_images: so many of them, drawn by lot; −1 for all.
        seed: of the lots.
        val_share: share of the images that are drawn for validation; at least one.

    Raises:
        DataError: folder or original missing, no images, or fewer than ``num_images``.
        ValueError: unknown split.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split must be train or val, got {split!r}")
    dataset_dir = Path(dataset_dir)
    lots = np.random.default_rng(seed)
    parent = dataset_dir / "images" if (dataset_dir / "images").is_dir() else dataset_dir
    if any((parent / name).is_dir() for name in SPLITS):
        root = _existing(parent, split)
        images = image_files(root, deep=True)
    else:
        tn3k = dataset_dir / TN3K_FOLDERS["trainval"][0]
        root = tn3k if tn3k.is_dir() else parent
        images = [path for path in image_files(root, deep=True) if not in_mask_folder(path.relative_to(root))]
        if len(images) < 2:
            raise DataError(root, f"{len(images)} images", "some to train on and some to validate")
        held_out = set(lots.permutation(len(images))[: max(1, round(val_share * len(images)))].tolist())
        images = [image for number, image in enumerate(images) if (number in held_out) == (split == "val")]
    if not images:
        raise DataError(root, "no images", "images in any folder")
    if num_images >= 0:
        if not 0 < num_images <= len(images):
            raise DataError(root, f"{len(images)} images", f"at least the {num_images} asked for, and these at least 1")
        images = [images[number] for number in sorted(lots.permutation(len(images))[:num_images].tolist())]
    records = [_record(image, root) for image in images]
    if original_dir is None:
        return _with_blur(records, dataset_dir)
    originals = _by_name(image_files(Path(original_dir) / root.relative_to(dataset_dir), deep=True))
    for record in records:
        relative = record["image"].parent.relative_to(dataset_dir)
        record["target"] = originals.get((Path(original_dir) / relative, image_name(record["image"])))
        if record["target"] is None:
            raise DataError(record["image"], "no original of this name", f"one in {Path(original_dir) / relative}")
    return _with_blur(records, dataset_dir)


def tn3k_lists(dataset_dir: Path, fold: int | None, count: int) -> dict[str, list[int]]:
    """Numbers of the training and validation images of a fold, or of ``tn3k-trainval.json``.

    Args:
        dataset_dir: the data set.
        fold: see :func:`tn3k_records`.
        count: images in ``trainval-image``.

    Raises:
        DataError: list missing or damaged, numbers that do not exist or stand twice.
    """
    path = dataset_dir / ("tn3k-trainval.json" if fold is None else f"tn3k-trainval-fold{fold}.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {split: [int(number) for number in content[split]] for split in ("train", "val")}
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "a list of each part of TN3K's images") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"unreadable ({type(error).__name__})", "lists of numbers 'train' and 'val'") from error
    for split, numbers in lists.items():
        if outside := [number for number in numbers if not 0 <= number < count]:
            raise DataError(path, f"'{split}' holds {outside[0]}", f"numbers of the {count} images in trainval-image")
        if not numbers or len(set(numbers)) < len(numbers):
            raise DataError(path, f"'{split}' is empty or holds a number twice", "each image once")
    if both := sorted(set(lists["train"]) & set(lists["val"])):
        raise DataError(path, f"{len(both)} images are in 'train' and 'val', such as {both[0]}", "separate lists")
    return lists


def _paired(images: Sequence[Path], image_dir: Path, mask_dir: Path) -> list[Record]:
    """Images with the masks of the same names in the same folders."""
    if not images:
        raise DataError(image_dir, "no images", "images with masks")
    masks = _by_name(image_files(mask_dir, deep=True))
    _by_name(images)
    records = []
    for image in images:
        mask = masks.get((mask_dir / image.parent.relative_to(image_dir), image_name(image)))
        if mask is None:
            raise DataError(image, "no mask of this name", f"one in {mask_dir}")
        records.append(_record(image, image_dir, label=mask))
    return records


def _by_name(images: Iterable[Path]) -> dict[tuple[Path, str], Path]:
    """Images by folder and name; refuses two that differ only in their endings."""
    known: dict[tuple[Path, str], Path] = {}
    for path in images:
        key = (path.parent, image_name(path))
        if key in known:
            raise DataError(path, f"of the same name as {known[key].name}", "one image of a name")
        known[key] = path
    return known


def _record(image: Path, root: Path, **more: Any) -> Record:
    relative = image.relative_to(root)
    return {"case": (relative.parent / image_name(image)).as_posix(), "image": image, **more}


def _with_blur(records: list[Record], dataset_dir: Path) -> list[Record]:
    blur = blur_of(dataset_dir)
    return [record | {"blur": blur} for record in records] if blur else records


def _existing(dataset_dir: Path, split: str) -> Path:
    if not (dataset_dir / split).is_dir():
        raise DataError(dataset_dir / split, "no such folder", "one of train, val, test")
    return dataset_dir / split


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order in which 9 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
