"""Text that goes into records which people pass on."""

from __future__ import annotations

import re
from pathlib import Path

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def shareable_text(text: str) -> str:
    """``text`` with ``~`` for the home folder, which has the user's name, and ``***`` for credentials in addresses."""
    text = _CREDENTIALS.sub("***", text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|$|\W)", "~", text) if len(home) > 1 else text
