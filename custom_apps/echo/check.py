"""Integrity of a data set of ultrasound videos: every problem, before any work is done on it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.problems import WARNING, Problem
from custom_apps.echo import buv, camus, echonet
from custom_apps.echo.check_tracings import check_tracings
from custom_apps.echo.csv_rows import number, read_rows
from custom_apps.echo.loading import LoadFrameArrayd
from custom_apps.echo.video_file import read_video

logger = logging.getLogger(__name__)

CLIP_FRAMES = 128
"""Frames that a clip of 64 with period 2 spans."""


def check_dataset(folder: str | Path, clip_frames: int = CLIP_FRAMES) -> list[Problem]:
    """Reads a whole data set and lists what is wrong with it; its layout is recognized by its files.

    EchoNet-Dynamic (``FileList.csv``). Errors: file or column missing, a name twice, video missing, unreadable,
    truncated or of another size than listed, EF outside 0 to 100, tracings with another header, of unknown frames or
    with fewer than two chords. Warnings: another number of frames than listed, frames that are not 112×112, video
    shorter than a clip, fewer than two traced frames, outlines that cross themselves or leave the frame, a first traced
    frame larger than the last, videos in no list.

    CAMUS as prepared (``camus_4CH_official.csv``) and MICCAI-BUV (``trainlist01.txt``): lists, arrays and videos alike;
    a patient or video in two splits is an error.

    Args:
        folder: the data set.
        clip_frames: frames that a clip spans; shorter videos are repeated.

    Returns:
        The problems, none for a sound data set.
    """
    folder = Path(folder)
    layouts: dict[str, Callable[[Path, int], list[Problem]]] = {
        echonet.FILE_LIST: _check_echonet,
        camus.TABLE: _check_camus,
        buv.TRAINING_LIST: _check_buv,
    }
    if not folder.is_dir():
        return [Problem(str(folder), "no such folder", "a data set")]
    for marker, check in layouts.items():
        if (folder / marker).is_file():
            try:
                return check(folder, clip_frames)
            except DataError as error:
                return [Problem.of(error)]
    expected = f"{echonet.FILE_LIST} (EchoNet-Dynamic), {camus.TABLE} (CAMUS) or {buv.TRAINING_LIST} (MICCAI-BUV)"
    return [Problem(str(folder), "unknown layout", expected)]


def _check_echonet(folder: Path, clip_frames: int) -> list[Problem]:
    rows = read_rows(folder / echonet.FILE_LIST, ("FileName", "Split", "EF"))
    path, problems = folder / echonet.FILE_LIST, []
    counts = Counter(echonet.case_name(row["FileName"]) for row in rows)
    problems += [Problem(str(path), f"{name} is listed {n} times", "once") for name, n in counts.items() if n > 1]
    for row in rows:
        if row["Split"].upper() not in ("TRAIN", "VAL", "TEST"):
            problems.append(Problem(str(path), f"{row['FileName']} is of split '{row['Split']}'", "TRAIN, VAL or TEST"))
        problems += _of(number, path, f"EF of {row['FileName']}", row["EF"], 0, 100)
    videos = echonet.videos_on_disk(folder) if (folder / echonet.VIDEOS).is_dir() else {}
    problems += [
        Problem(str(video), "in no list", path.name, WARNING) for name, video in videos.items() if name not in counts
    ]

    def check(row: dict[str, str]) -> tuple[list[Problem], tuple[int, ...] | None]:
        name = echonet.case_name(row["FileName"])
        video = videos.get(name, folder / echonet.VIDEOS / f"{name}.avi")
        found, shape = _check_video(video)
        return found + (_compared(video, shape, row) if shape else []), shape

    results = _in_threads(check, rows)
    problems += [problem for found, _ in results for problem in found]
    shapes = {echonet.case_name(row["FileName"]): shape for row, (_, shape) in zip(rows, results, strict=True)}
    lengths = {name: shape[0] for name, shape in shapes.items() if shape}
    problems += _short_videos(folder / echonet.VIDEOS, lengths, clip_frames)
    return problems + check_tracings(folder / echonet.TRACINGS, shapes)


def _compared(video: Path, shape: tuple[int, ...], row: dict[str, str]) -> list[Problem]:
    """What the list says of a video against what it is."""
    problems = []
    for column, value, severity in (
        ("FrameHeight", shape[1], "error"),
        ("FrameWidth", shape[2], "error"),
        ("NumberOfFrames", shape[0], WARNING),
    ):
        listed = row.get(column)
        if listed and listed.replace(".", "", 1).isdigit() and int(float(listed)) != value:
            problems.append(
                Problem(str(video), f"{column} is {value}", f"{listed}, as in {echonet.FILE_LIST}", severity)
            )
    if shape[1:3] != (echonet.FRAME_SIZE,) * 2 and not any(problem.severity == "error" for problem in problems):
        expected = f"{echonet.FRAME_SIZE}×{echonet.FRAME_SIZE}; frames will be resized"
        problems.append(Problem(str(video), f"frames of {shape[2]}×{shape[1]} pixels", expected, WARNING))
    return problems


def _check_camus(folder: Path, clip_frames: int) -> list[Problem]:
    path = folder / camus.TABLE
    rows = read_rows(path, camus.COLUMNS)
    counts = Counter(row["file_name"] for row in rows)
    problems = [Problem(str(path), f"{name} is listed {n} times", "once") for name, n in counts.items() if n > 1]
    arrays = folder / camus.ARRAYS if (folder / camus.ARRAYS).is_dir() else folder
    loader = LoadFrameArrayd("image")
    for row in rows:
        name = row["file_name"]
        problems += _of(number, path, f"EF of {name}", row["EF"], 0, 100)
        for column, allowed in (("Split", ("train", "val", "test")), ("ImageQuality", camus.QUALITIES)):
            if row[column] not in allowed:
                problems.append(Problem(str(path), f"{column} of {name} is '{row[column]}'", ", ".join(allowed)))
        try:
            frames, _ = loader.load(str(arrays / f"{name}.npy"))
        except DataError as error:
            problems.append(Problem.of(error))
            continue
        if frames.min() < 0 or frames.max() > 1:
            found = f"values from {frames.min():g} to {frames.max():g}"
            problems.append(Problem(str(arrays / f"{name}.npy"), found, "0 to 1"))
        if frames.shape != (64, 112, 112):
            found = f"frames, height and width are {frames.shape}"
            problems.append(Problem(str(arrays / f"{name}.npy"), found, "64, 112, 112", WARNING))
    return problems


def _check_buv(folder: Path, clip_frames: int) -> list[Problem]:
    problems, seen, lengths = [], Counter(), {}
    for name in (buv.TRAINING_LIST, buv.VALIDATION_LIST):
        try:
            records = buv.buv_records(folder, name)
        except DataError as error:
            problems.append(Problem.of(error))
            continue
        seen.update(record["case"] for record in records)
        results = _in_threads(lambda record: _check_video(Path(record["image"])), records)
        for record, (found, shape) in zip(records, results, strict=True):
            problems += found
            lengths |= {record["case"]: shape[0]} if shape else {}
    problems += _short_videos(folder, lengths, clip_frames)
    return problems + [Problem(str(folder), f"{case} is in both lists", "one list") for case in seen if seen[case] > 1]


def _check_video(path: Path) -> tuple[list[Problem], tuple[int, ...] | None]:
    """Problems of one video, and frames, height and width of what decodes."""
    try:
        frames = read_video(path, gray=True).frames
    except DataError as error:
        return [Problem.of(error)], None
    if frames.min() == frames.max():
        return [Problem(str(path), "every pixel has the same value", "an image", WARNING)], frames.shape
    return [], frames.shape


def _short_videos(folder: Path, lengths: dict[str, int], clip_frames: int) -> list[Problem]:
    """One warning for all videos shorter than a clip; most data sets have many."""
    short = sorted((length, name) for name, length in lengths.items() if length < clip_frames)
    if not short:
        return []
    shortest = ", ".join(f"{name} ({length})" for length, name in short[:5]) + (", …" if len(short) > 5 else "")
    problem = f"{len(short)} of {len(lengths)} videos are shorter than a clip: {shortest}"
    return [Problem(str(folder), problem, f"{clip_frames} frames; shorter ones are repeated", WARNING)]


def _of(read: Callable[..., Any], *arguments: Any) -> list[Problem]:
    """The problem that a reader raises, if it does."""
    try:
        read(*arguments)
    except DataError as error:
        return [Problem.of(error)]
    return []


def _in_threads(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Results in order; decoding lets go of Python's lock."""
    step, results = max(1, len(items) // 10), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(work, items):
            results.append(result)
            if len(results) % step == 0 and len(items) >= 1000:
                logger.info("checked %d of %d videos", len(results), len(items))
    return results
