"""Files that appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def partial_file(path: str | Path, ending: str | None = None) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; on leaving without an error it is renamed to ``path``, else removed.

    Args:
        path: the file to write; its folder is made when missing.
        ending: ending that the temporary name must keep (writers choose the format by it); by default the last suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{secrets.token_hex(4)}.partial{path.suffix if ending is None else ending}"
    )
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(content: Any, path: str | Path) -> None:
    """Writes ``content`` as indented JSON."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with partial_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
