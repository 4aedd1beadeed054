"""From the public CAMUS files to arrays and a table: this step is the project's own, none was published."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file
from custom_apps.common.table import write_csv
from custom_apps.echo.camus import ARRAYS, COLUMNS, TABLE
from custom_apps.echo.frames import resize

logger = logging.getLogger(__name__)

SUBGROUPS = {"training": "train", "validation": "val", "testing": "test"}
FRAMES, SIZE = 64, 112


def prepare_camus(raw_dir: str | Path, output_dir: str | Path, frames: int = FRAMES, size: int = SIZE) -> Path:
    """Converts the four-chamber half sequences of CAMUS.

    Each sequence is ordered from end-diastole to end-systole, stretched to ``frames`` frames with both ends kept
    (linear in time), resized to ``size`` × ``size`` (bilinear with anti-aliasing) and divided by 255.

    Args:
        raw_dir: folder with ``database_nifti/patientXXXX/`` and ``database_split/subgroup_*.txt``.
        output_dir: gets ``4CH_64_112_112_float_0_1/patientXXXX.npy``, float32 (frames, 1, size, size), and
            ``camus_4CH_official.csv``, which is written last.
        frames: length of each array.
        size: edge in pixels.

    Returns:
        ``output_dir``.

    Raises:
        DataError: something missing or unreadable, a patient in no subgroup, or ``output_dir`` already prepared.
    """
    raw, output = Path(raw_dir), Path(output_dir)
    if (output / TABLE).exists():
        raise DataError(output / TABLE, "already there and not overwritten", "a folder without prepared CAMUS")
    splits = read_subgroups(raw)
    patients = sorted(path for path in (raw / "database_nifti").glob("patient*") if path.is_dir())
    if not patients:
        raise DataError(raw / "database_nifti", "no patient", "folders patient0001, patient0002, …")
    if absent := sorted(set(splits) - {path.name for path in patients}):
        raise DataError(raw / "database_nifti", f"{len(absent)} patients missing: {', '.join(absent)}", "every patient")
    rows = []
    for number, folder in enumerate(patients, start=1):
        if folder.name not in splits:
            raise DataError(folder, "patient is in no subgroup", "a line in one of database_split/subgroup_*.txt")
        facts = read_info(folder / "Info_4CH.cfg")
        array = half_sequence(folder / f"{folder.name}_4CH_half_sequence.nii.gz", facts)
        with partial_file(output / ARRAYS / f"{folder.name}.npy") as temporary:
            np.save(temporary, standard_array(array, frames, size))
        values = {name: facts[name] for name in COLUMNS[1:-1]}
        rows.append({"file_name": folder.name, **values, "Split": splits[folder.name]})
        if number % 50 == 0 or number == len(patients):
            logger.info("CAMUS: %d of %d patients", number, len(patients))
    write_csv(rows, output / TABLE, COLUMNS)
    return output


def read_subgroups(raw: Path) -> dict[str, str]:
    """Split (``train``, ``val``, ``test``) of each patient, from the official lists."""
    splits = {}
    for subgroup, split in SUBGROUPS.items():
        path = raw / "database_split" / f"subgroup_{subgroup}.txt"
        if not path.is_file():
            raise DataError(path, "no such file", "names of patients, one a line")
        splits |= {name.strip(): split for name in path.read_text(encoding="utf-8").split() if name.strip()}
    return splits


def read_info(path: Path) -> dict[str, str]:
    """``Info_4CH.cfg``: lines of ``name: value``, among them all columns of the table.

    Raises:
        DataError: no such file or a value missing.
    """
    if not path.is_file():
        raise DataError(path, "no such file", "facts about the four-chamber sequence")
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, _, value in lines}
    # Another release of the data set spells it differently.
    facts.setdefault("EF", facts.get("LVef", ""))
    if absent := [name for name in COLUMNS[1:-1] if not facts.get(name)]:
        raise DataError(
            path, f"{', '.join(absent)} missing", "lines ED, ES, NbFrame, Sex, Age, ImageQuality, EF, FrameRate"
        )
    return facts


def half_sequence(path: Path, facts: Mapping[str, str]) -> np.ndarray:
    """Frames (F, height, width) from end-diastole to end-systole; ``ED`` and ``ES`` count from 1."""
    import nibabel

    if not path.is_file():
        raise DataError(path, "no such file", "a half sequence")
    try:
        # Stored as (width, height, frames).
        frames = np.asarray(nibabel.load(path).dataobj).squeeze().T
    except Exception as error:  # nibabel and zlib raise all kinds of errors on damaged files
        raise DataError(path, f"is not readable ({type(error).__name__}: {error})", "a NIfTI file") from error
    try:
        first, last = int(facts["ED"]), int(facts["ES"])
    except ValueError as error:
        raise DataError(path, f"ED is '{facts['ED']}' and ES '{facts['ES']}'", "frame numbers") from error
    if frames.ndim != 3 or not 1 <= min(first, last) < max(first, last) <= len(frames):
        raise DataError(path, f"shape {frames.shape} with ED {first} and ES {last}", "two of its frames, from 1")
    return frames[first - 1 : last] if first < last else frames[last - 1 : first][::-1]


def standard_array(frames: np.ndarray, length: int, size: int) -> np.ndarray:
    """(F, H, W) gray values from 0 to 255 as float32 (length, 1, size, size) from 0 to 1."""
    clip = torch.from_numpy(np.ascontiguousarray(frames, np.float32))[None, None] / 255
    clip = F.interpolate(clip, (length, *clip.shape[-2:]), mode="trilinear", align_corners=True)
    return resize(clip[0, 0], (size, size)).clamp(0, 1)[:, None].numpy()
