"""Zip archives from elsewhere: looked at before anything is written, unpacked into one folder or not at all."""

from __future__ import annotations

import shutil
import stat
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from custom_apps.common.errors import DataError

MAX_FILES = 20_000
MAX_BYTES = 16 * 2**30
MAX_RATIO = 200
SMALL_BYTES = 2**20
"""Below this size the ratio of compression says nothing: a small text may shrink to a hundredth."""

FORBIDDEN = set('\\:*?"<>|')


def check_archive(path: str | Path) -> list[zipfile.ZipInfo]:
    """Entries of a zip archive that is safe to unpack; nothing is unpacked.

    Refused are bombs (`check_size`), absolute paths, ``..``, names that some system reads as a path or a device, links
    and other special files, encrypted entries, and two entries of one name (also but for the case of letters).

    Raises:
        DataError: naming the archive and the entry.
    """
    entries = check_size(path)
    seen: set[str] = set()
    for entry in entries:
        # ``filename`` ends at a NUL and has this system's separators; what the archive says is in ``orig_filename``.
        name = entry.orig_filename
        if problem := _name_problem(name) or _entry_problem(entry):
            raise DataError(path, f"entry {name!r} {problem}", "regular files below the archive's own folder")
        plain = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        if plain in seen:
            raise DataError(path, f"entry {name!r} is there twice", "one entry for each file")
        seen.add(plain)
    return entries


def check_size(path: str | Path) -> list[zipfile.ZipInfo]:
    """Entries of a zip file that does not burst the disk or the memory; names do not matter.

    For files that are never unpacked, such as PyTorch's checkpoints.

    Raises:
        DataError: if the file cannot be read, or for more than ``MAX_FILES`` entries, ``MAX_BYTES`` bytes unpacked, or
            an entry above 1 MiB that shrank to less than a ``MAX_RATIO``-th.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "a zip archive") from error
    if len(entries) > MAX_FILES:
        raise DataError(path, f"has {len(entries)} entries", f"at most {MAX_FILES}")
    if (total := sum(entry.file_size for entry in entries)) > MAX_BYTES:
        raise DataError(path, f"unpacks to {total / 2**30:.0f} GiB", f"at most {MAX_BYTES / 2**30:.0f} GiB")
    for entry in entries:
        if entry.file_size > SMALL_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise DataError(path, f"entry {entry.filename!r} unpacks to over {MAX_RATIO} times its size", "no bomb")
    return entries


def unpack(path: str | Path, folder: str | Path) -> list[Path]:
    """Unpacks a safe archive into a folder that is not there yet, or empty.

    Args:
        path: the archive.
        folder: where to; nothing of it stays behind after an error.

    Returns:
        The files written.

    Raises:
        DataError: as `check_archive`; if the folder holds anything; if an entry is damaged or longer than it says.
    """
    entries, folder = check_archive(path), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(folder, "not empty and not overwritten", "a new folder")
    written: list[Path] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                target = folder / entry.filename
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                # Reads no more than the announced size; a wrong checksum is an error.
                with archive.open(entry) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file)
                written.append(target)
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(path, f"cannot be unpacked ({error})", "an undamaged zip archive") from error
    return written


def _name_problem(name: str) -> str | None:
    if name.startswith("/") or PurePosixPath(name).is_absolute():
        return "is an absolute path"
    if any(character in FORBIDDEN or unicodedata.category(character) in ("Cc", "Cf") for character in name):
        return "has a character that is not safe in a file name"
    parts = name.rstrip("/").split("/")
    if ".." in parts:
        return "leads out of the folder"
    if any(part in ("", ".") or part != part.strip(" ") or part.endswith(".") for part in parts):
        return "is no plain path"
    return None


def _entry_problem(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    if entry.flag_bits & 1:
        return "is encrypted"
    return None
