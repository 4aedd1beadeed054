"""Records of breast ultrasound videos in the layout of MICCAI-BUV: list files beside a folder of videos."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError

logger = logging.getLogger(__name__)

VIDEOS = "mp4_224_224"
TRAINING_LIST, VALIDATION_LIST = "trainlist01.txt", "testlist01.txt"
# Of the training videos, on the scale from 0 to 1 (E-ViM3, arXiv 2503.20258).
GRAY_MEAN, GRAY_STD = 86.8737 / 255, 47.8046 / 255
# Benign over malignant videos of the training list: weight of the positive class in the published loss.
POSITIVE_WEIGHT = 58 / 88


def buv_records(dataset_dir: str | Path, list_file: str | Path) -> list[dict[str, Any]]:
    """Videos of a list file: ``image`` (path), ``case`` and ``label`` (1 malignant, 0 benign).

    ``case`` is the listed path without ending, unique where file names are not.

    Args:
        dataset_dir: folder of the videos, or the one that holds it under the name ``mp4_224_224``.
        list_file: text file with one video a line: its path relative to the folder of the videos and its label,
            separated by a space. A relative path is looked up in ``dataset_dir`` and beside it, then as it stands.

    Raises:
        DataError: no such folder or list, a line of another form, a video twice, videos missing (all are named).

    Source: E-ViM3, arXiv 2503.20258.
    """
    folder, path = _folder_of_videos(dataset_dir), _found_list(dataset_dir, list_file)
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or label not in ("0", "1"):
            raise DataError(path, f"line {number} is '{line.strip()}'", "a path, a space, and 0 or 1")
        case = str(Path(name.strip()).with_suffix(""))
        records.append({"image": str(folder / name.strip()), "case": case, "label": int(label)})
    if not records:
        raise DataError(path, "lists no video", "one video a line")
    if twice := [case for case, count in Counter(record["case"] for record in records).items() if count > 1]:
        raise DataError(path, f"lists {', '.join(sorted(twice))} more than once", "each video once")
    if missing := [record["image"] for record in records if not Path(record["image"]).is_file()]:
        raise DataError(folder, f"{len(missing)} videos of {path.name} missing: {', '.join(missing)}", "every video")
    malignant = sum(record["label"] for record in records)
    logger.info("%s: %d benign, %d malignant", path, len(records) - malignant, malignant)
    return records


def _folder_of_videos(dataset_dir: str | Path) -> Path:
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "the folder of the videos")
    return folder / VIDEOS if (folder / VIDEOS).is_dir() else folder


def _found_list(dataset_dir: str | Path, list_file: str | Path) -> Path:
    folder = Path(dataset_dir)
    for path in (folder / list_file, folder.parent / list_file, Path(list_file)):
        if path.is_file():
            return path
    raise DataError(folder / list_file, "no such file", "a list of videos")
