"""Cells of text that a spreadsheet must not take for a formula: names of files and patients come from elsewhere."""

from __future__ import annotations

from typing import Any

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: Any) -> Any:
    """``value`` for a CSV file: a text that a spreadsheet would compute gets an apostrophe in front (OWASP's advice).

    Numbers, also those that are spelled as text, and single signs stay as they are. A text that begins with
    apostrophes before such a sign gets one more, so that `plain_cell` gives back every text.
    """
    if not isinstance(value, str) or len(value) < 2 or not value.lstrip("'").startswith(STARTS):
        return value
    return value if _is_number(value) else f"'{value}"


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    guarded = text.startswith("'") and text.lstrip("'").startswith(STARTS) and not _is_number(text[1:])
    return text[1:] if guarded and len(text) > 2 else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
