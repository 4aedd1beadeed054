"""Which video files are to be predicted, and what is done about those that were predicted before."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from custom_apps.common.distributed import rank, world_size
from custom_apps.common.errors import DataError
from custom_apps.echo.echonet import VIDEOS
from custom_apps.echo.video_file import is_dicom

EXISTING = ("error", "skip", "overwrite")
ENDINGS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".dcm", ".dicom")
VideoItem = dict[str, str]


def video_files(source: str | Path) -> list[Path]:
    """The videos that a path means, by name.

    Args:
        source: one file; a folder of AVI, MP4 or DICOM files, with or without subfolders; or a data set in the layout
            of EchoNet-Dynamic, whose ``Videos`` are meant. DICOM files without ending are recognized by their content.

    Raises:
        DataError: nothing there, or no video in it.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(source, "no such file or folder", "a video or a folder of videos")
    folder = source / VIDEOS if (source / VIDEOS).is_dir() else source
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    found = [path for path in found if path.suffix.lower() in ENDINGS or (not path.suffix and is_dicom(path))]
    if not found:
        raise DataError(folder, "no videos", f"files ending in {', '.join(ENDINGS[:2])} or {ENDINGS[-2]}")
    return found


def videos_to_predict(
    source: str | Path,
    output_dir: str | Path | None = None,
    results: Sequence[str] = (),
    existing: str = "error",
    shared_table: str | None = None,
) -> list[VideoItem]:
    """Videos for prediction; in a distributed run the share of this process.

    Args:
        source: see :func:`video_files`.
        output_dir: where results go, looked at for earlier ones.
        results: endings of the files that a case gets, such as ``_lv.nii.gz``.
        existing: what to do about a video predicted before: ``error``, ``skip`` it (continue a broken run) or
            ``overwrite`` (the writer must be told too).
        shared_table: name of a CSV with a row for each video and the column ``file_name``, for results that have no
            file of their own.

    Returns:
        ``{"image": path, "case": name without ending, "file_name": path below the source}``; possibly none with
        ``skip``.

    Raises:
        DataError: for unusable paths, two videos of one name, an earlier prediction under ``error``, and fewer videos
            than processes.
    """
    if existing not in EXISTING:
        raise ValueError(f"existing must be one of {', '.join(EXISTING)}, got {existing!r}")
    items = _items(Path(source))
    if output_dir is not None and existing != "overwrite":
        items = _without_earlier(items, Path(output_dir), results, existing, shared_table)
    if 0 < len(items) < world_size():
        # A process without work would leave the others waiting for it.
        raise DataError(source, f"{len(items)} videos for {world_size()} processes", "one for each at least")
    return items[rank() :: world_size()]


def _items(source: Path) -> list[VideoItem]:
    files = video_files(source)
    below = source / VIDEOS if (source / VIDEOS).is_dir() else source
    items = []
    for path in files:
        relative = path.relative_to(below) if path != below else Path(path.name)
        # Subfolders become part of the name, so that studies of equal file names stay apart.
        case = "_".join([*relative.parts[:-1], relative.stem])
        items.append({"image": str(path), "case": case, "file_name": relative.as_posix()})
    twice = [case for case, count in Counter(item["case"] for item in items).items() if count > 1]
    if twice:
        raise DataError(source, f"two videos of the name '{twice[0]}'", "names that differ in more than their ending")
    return items


def _without_earlier(
    items: list[VideoItem], output_dir: Path, results: Sequence[str], existing: str, shared_table: str | None
) -> list[VideoItem]:
    listed: Collection[str] = ()
    if shared_table is not None and (output_dir / shared_table).is_file():
        if existing == "error":
            expected = "a folder without it, or existing: skip or overwrite"
            raise DataError(output_dir / shared_table, "holds earlier predictions", expected)
        with open(output_dir / shared_table, newline="", encoding="utf-8") as file:
            listed = {row.get("file_name") for row in csv.DictReader(file)}
    left = []
    for item in items:
        written = [output_dir / f"{item['case']}{ending}" for ending in results]
        if existing == "error" and (found := [path for path in written if path.exists()]):
            raise DataError(found[0], "was predicted before", "existing: skip or overwrite")
        if item["file_name"] in listed or (written and all(path.exists() for path in written)):
            continue
        left.append(item)
    return left
