"""Paths in the texts of a configuration."""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|file:", re.IGNORECASE)
_PARTS = re.compile(r"[/\\]")


def leads_out(text: str) -> bool:
    """Whether a text is an absolute path, or one with ``..``, on any system."""
    return bool(_ABSOLUTE.match(text)) or ".." in _PARTS.split(text)
