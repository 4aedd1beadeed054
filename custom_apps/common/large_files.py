"""``large_files.yml`` of a bundle: files kept elsewhere, such as weights, each with the digest that proves it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from custom_apps.common.errors import DataError

NAME = "large_files.yml"
DIGITS = {"sha256": 64, "sha512": 128}
"""Accepted kinds of digest and their lengths in hexadecimal digits; those that can be forged are not among them."""


@dataclass(frozen=True)
class LargeFile:
    """One entry.

    Attributes:
        path: where the file belongs, relative to the bundle, with ``/``.
        url: where it is downloaded from.
        hash_val: digest in hexadecimal digits, lower case.
        hash_type: ``sha256`` or ``sha512``.
    """

    path: str
    url: str
    hash_val: str
    hash_type: str

    def matches(self, file: Path) -> bool:
        """Whether a file has the digest."""
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, self.hash_type).hexdigest() == self.hash_val


def read_large_files(bundle: str | Path) -> list[LargeFile]:
    """Reads and checks ``large_files.yml``; a bundle without one has no large files.

    ``python -m monai.bundle download_large_files`` takes any content for an entry without a digest. So every entry must
    have one.

    Args:
        bundle: folder of the bundle.

    Raises:
        DataError: naming the file and the entry, if it lacks path, address or digest, its path leaves the bundle or is
            there twice, or a file that is already there has another digest.
    """
    import yaml

    bundle = Path(bundle)
    file = bundle / NAME
    if not file.is_file():
        return []
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(file, f"is not YAML ({error})", "a list 'large_files'") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("large_files"), list):
        raise DataError(file, "has no list 'large_files'", "entries with path, url, hash_val and hash_type; or []")
    entries = [_entry(file, number, entry) for number, entry in enumerate(content["large_files"], 1)]
    if len({entry.path for entry in entries}) < len(entries):
        raise DataError(file, "names a path twice", "one entry a file")
    for entry in entries:
        present = bundle / entry.path
        if present.is_file() and not entry.matches(present):
            raise DataError(present, f"has another {entry.hash_type} digest than {NAME} says", entry.hash_val)
    return entries


def _entry(file: Path, number: int, entry: Any) -> LargeFile:
    place = f"entry {number}"
    if not isinstance(entry, Mapping):
        raise DataError(file, f"{place} is no mapping", "path, url, hash_val and hash_type")
    values = {name: entry.get(name) for name in ("path", "url", "hash_val", "hash_type")}
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise DataError(file, f"{place} has no {name}", "path, url, hash_val and hash_type, each a text")
    path = PurePosixPath(values["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in values["path"]:
        raise DataError(file, f"{place}: path {values['path']!r} leaves the bundle", "a path below it")
    if not re.match(r"https?://", values["url"]):
        raise DataError(file, f"{place}: {values['url']!r} is no address", "https://…")
    if (digits := DIGITS.get(values["hash_type"])) is None:
        raise DataError(file, f"{place}: hash_type {values['hash_type']!r}", " or ".join(DIGITS))
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", values["hash_val"].lower()):
        raise DataError(file, f"{place}: hash_val is no {values['hash_type']} digest", f"{digits} hexadecimal digits")
    return LargeFile(path.as_posix(), values["url"], values["hash_val"].lower(), values["hash_type"])
