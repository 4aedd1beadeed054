"""Records of a data set in the layout of EchoNet-Dynamic."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.echo.csv_rows import number, read_rows
from custom_apps.echo.tracings import TracedPair, Tracing
from custom_apps.echo.video_file import ENDINGS

logger = logging.getLogger(__name__)

FILE_LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
TASKS = ("ef", "segmentation", "pretraining")

# Of the training videos, on the scale from 0 to 1 (E-ViM3, arXiv 2503.20258).
GRAY_MEAN, GRAY_STD = 32.843 / 255, 50.020 / 255
FRAME_SIZE = 112


def echonet_records(
    dataset_dir: str | Path,
    split: str | Sequence[str],
    task: str = "ef",
    keep_ratio: float = 1.0,
    keep: str = "head",
    seed: int = 0,
    drop_untraced: bool = True,
) -> list[dict[str, Any]]:
    """Videos of a split, in the order of ``FileList.csv``, with what is known of them.

    Each record has ``image`` (path of the video) and ``case`` (its name without ending), and where the list has them
    ``ef_percent``, ``esv_ml``, ``edv_ml``, ``fps``, ``frames`` and ``split``; for segmentation ``tracings``, a
    `TracedPair`. Names are accepted with and without ``.avi`` in both lists; videos of one's own may also be MP4
    or DICOM files. Counts are logged.

    Args:
        dataset_dir: folder with ``Videos``, ``FileList.csv`` and ``VolumeTracings.csv``. The last may be absent unless
            the task is segmentation.
        split: one of the names in column ``Split`` or several, in any case; ``all`` for every video.
        task: ``ef``, ``segmentation`` or ``pretraining``; the last two need no EF.
        keep_ratio: share of the videos to keep, for experiments with fewer labels.
        keep: the first of the list (``head``, as published) or a ``random`` subset, in the list's order.
        seed: of the random subset.
        drop_untraced: leave out videos with fewer than two traced frames, as published, whatever the task.

    Raises:
        DataError: folder, file, column or video missing (all missing videos are named), no video in the split, a name
            twice, EF outside 0 to 100, unknown frame in the tracings.

    Source: EchoNet-Dynamic, Ouyang et al. 2020; E-ViM3, arXiv 2503.20258.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if keep not in ("head", "random"):
        raise ValueError(f"keep must be 'head' or 'random', got {keep!r}")
    folder = dataset_folder(dataset_dir)
    rows = listed_videos(folder)
    logger.info("%s: %s", folder / FILE_LIST, ", ".join(f"{n} {s}" for s, n in split_counts(rows).items()))
    wanted = {name.upper() for name in ([split] if isinstance(split, str) else split)}
    if unknown := wanted - {"ALL"} - set(split_counts(rows)):
        found = ", ".join(split_counts(rows))
        raise DataError(folder / FILE_LIST, f"no video of split {', '.join(sorted(unknown))}", f"one of {found}")
    rows = [row for row in rows if "ALL" in wanted or row["Split"].upper() in wanted]
    files = _all_on_disk(folder, rows)
    records = [_record(folder / FILE_LIST, files[row["FileName"]], row, task) for row in rows]
    records = _traced(folder, records, task, drop_untraced)
    return kept_share(records, keep_ratio, keep, seed, folder / FILE_LIST)


def dataset_folder(dataset_dir: str | Path) -> Path:
    """The folder, after a look at its layout.

    Raises:
        DataError: it is not there, or lacks ``FileList.csv`` or ``Videos``.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "an EchoNet-Dynamic data set")
    for name in (FILE_LIST, VIDEOS):
        if not (folder / name).exists():
            raise DataError(folder, f"{name} missing", f"{FILE_LIST} and {VIDEOS}/, as in EchoNet-Dynamic")
    return folder


def listed_videos(folder: Path) -> list[dict[str, str]]:
    """Rows of ``FileList.csv`` with ``FileName`` freed of its ending.

    Raises:
        DataError: columns missing, nothing listed, or a name twice.
    """
    path = folder / FILE_LIST
    rows = [row | {"FileName": case_name(row["FileName"])} for row in read_rows(path, ("FileName", "Split"))]
    if not rows:
        raise DataError(path, "lists no video", "one row a video")
    if twice := [name for name, count in Counter(row["FileName"] for row in rows).items() if count > 1]:
        raise DataError(path, f"lists {', '.join(sorted(twice)[:10])} more than once", "each video once")
    return rows


def case_name(file_name: str) -> str:
    """A video's name without ``.avi`` or another ending of videos."""
    stem, dot, ending = file_name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in ENDINGS else file_name


def videos_on_disk(folder: Path) -> dict[str, Path]:
    """Files in ``Videos`` by case name: ``.avi``, or where there is none another video such as MP4 or DICOM."""
    files = [path for path in (folder / VIDEOS).iterdir() if path.suffix.lower() in ENDINGS]
    files.sort(key=lambda path: ENDINGS.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}


def split_counts(rows: Sequence[dict[str, str]]) -> dict[str, int]:
    """Number of videos in each split."""
    return dict(Counter(row["Split"].upper() for row in rows))


def read_tracings(path: str | Path) -> dict[str, list[Tracing]]:
    """Traced frames by case name, in the order of the file.

    Args:
        path: ``VolumeTracings.csv``.

    Raises:
        DataError: a header other than the published one, or values that are no numbers.
    """
    rows = read_rows(path, TRACING_COLUMNS)
    chords: dict[str, dict[int, list[list[float]]]] = {}
    try:
        for row in rows:
            frames = chords.setdefault(case_name(row["FileName"]), {})
            frames.setdefault(int(row["Frame"]), []).append([float(row[name]) for name in ("X1", "Y1", "X2", "Y2")])
    except ValueError as error:
        raise DataError(
            path, f"tracing of {row['FileName']} has a value that is no number ({error})", "numbers"
        ) from error
    return {
        name: [Tracing(frame, np.array(values, np.float32)) for frame, values in frames.items()]
        for name, frames in chords.items()
    }


def traced_pair(tracings: Sequence[Tracing]) -> TracedPair:
    """End-diastole and end-systole among the traced frames of a video.

    The file is ordered by area: the first frame it lists is end-systole, the last end-diastole. Frame numbers say
    nothing about it.
    """
    return TracedPair(end_diastole=tracings[-1], end_systole=tracings[0])


def kept_share(
    records: list[dict[str, Any]], ratio: float, keep: str, seed: int, path: str | Path
) -> list[dict[str, Any]]:
    """The share ``ratio`` of the records, rounded down: the first ones or a random subset, in their order."""
    if not 0 < ratio <= 1:
        raise ValueError(f"keep_ratio must be above 0 and at most 1, got {ratio}")
    count = int(ratio * len(records))
    if not count:
        raise DataError(path, f"no video is left of {len(records)} with keep_ratio {ratio:g}", "at least one video")
    if keep == "head" or count == len(records):
        return records[:count]
    chosen = np.random.RandomState(seed).choice(len(records), count, replace=False)
    return [records[index] for index in sorted(chosen)]


def _all_on_disk(folder: Path, rows: Sequence[dict[str, str]]) -> dict[str, Path]:
    files = videos_on_disk(folder)
    if missing := [f"{row['FileName']}.avi" for row in rows if row["FileName"] not in files]:
        raise DataError(folder / VIDEOS, f"{len(missing)} listed videos missing: {', '.join(missing)}", "every video")
    return files


def _record(path: Path, video: Path, row: dict[str, str], task: str) -> dict[str, Any]:
    name = row["FileName"]
    record: dict[str, Any] = {"image": str(video), "case": name, "split": row["Split"].upper()}
    if task == "ef" or row.get("EF"):
        if "EF" not in row:
            raise DataError(path, "column EF missing", "ejection fractions in percent")
        record["ef_percent"] = number(path, f"EF of {name}", row["EF"], 0, 100)
    for key, column in (("esv_ml", "ESV"), ("edv_ml", "EDV"), ("fps", "FPS"), ("frames", "NumberOfFrames")):
        if row.get(column):
            record[key] = number(path, f"{column} of {name}", row[column], 0)
    return record


def _traced(folder: Path, records: list[dict[str, Any]], task: str, drop: bool) -> list[dict[str, Any]]:
    """Records with tracings as the task needs them; drops what has fewer than two traced frames."""
    path = folder / TRACINGS
    if task != "segmentation" and not (drop and path.exists()):
        return records
    tracings = read_tracings(path)
    untraced = [record["case"] for record in records if len(tracings.get(record["case"], ())) < 2]
    if untraced:
        logger.warning("%s: %d videos with fewer than two traced frames left out: %s", path, len(untraced), untraced)
    left_out = set(untraced)
    records = [record for record in records if record["case"] not in left_out]
    if not records:
        raise DataError(path, "no video has two traced frames", "tracings of end-systole and end-diastole")
    if task != "segmentation":
        return records
    return [record | {"tracings": traced_pair(tracings[record["case"]])} for record in records]
