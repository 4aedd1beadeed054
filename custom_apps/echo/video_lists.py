"""Which video files are to be predicted, and what is done about those that were predicted before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.prediction_items import items_to_predict
from custom_apps.echo.echonet import VIDEOS
from custom_apps.echo.video_file import is_dicom

ENDINGS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".dcm", ".dicom")


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
) -> list[dict[str, str]]:
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
    source = Path(source)
    files = video_files(source)
    below = source / VIDEOS if (source / VIDEOS).is_dir() else source
    return items_to_predict(files, below, output_dir, results, existing, shared_table)
