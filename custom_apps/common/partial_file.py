"""Files that appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def partial_file(path: str | Path, ending: str | None = None) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; on leaving without an error it is renamed to ``path``, else removed.

    Args:
        path: the file to write; its folder is made when missing, an existing file is replaced.
        ending: ending that the temporary name must keep, because writers choose the format by it; by default the last
            suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix if ending is None else ending}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Writes ``text`` in UTF-8."""
    with partial_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(content: Any, path: str | Path) -> None:
    """Writes ``content`` as indented JSON; NaN and infinities, which JSON lacks, become ``null``."""
    write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", path)


def _finite(value: Any) -> Any:
    """``value`` with non-finite numbers replaced by None, in nested dictionaries and lists."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
