"""The four MR contrasts, their order as channels, and the names that data sets give them."""

from __future__ import annotations

import re

CONTRASTS = ("t1", "t2", "t1ce", "flair")
"""Channel order of the networks."""

TITLES = {"t1": "T1", "t2": "T2", "t1ce": "T1 + contrast", "flair": "FLAIR"}

MASK = "seg"
"""Name of the tumor mask among the files of a patient."""

_SEQUENCE = r"([\W_]*(w|n|3d|ax|sag|cor|tra|mprage|mpr|spgr|fspgr|bravo|tfe|tse|fse|se|native|pre))*"
_AGENT = r"[\W_]*(ce|c|gd|post|km|\+c?|contrast|gado\w*)"
# Post-contrast names come first: they begin like those of plain T1; so does FLAIR like T2.
_PATTERNS = (
    ("t1ce", rf"t1{_SEQUENCE}({_AGENT}{_SEQUENCE})+"),
    ("flair", rf"(t2[\W_]*)?flair{_SEQUENCE}|t2f|dark[\W_]*fluid"),
    ("t1", rf"t1{_SEQUENCE}"),
    ("t2", rf"t2{_SEQUENCE}"),
    (MASK, r"seg(mentation)?|mask"),
)


def contrast_of(name: str) -> str | None:
    """The contrast (or ``seg``) that the name of a file, a folder or a series ends with, or None.

    Known are the endings of BraTS (``_t1ce``, ``-t1c``), the folders of EGD (``2_T1GD``) and usual descriptions of
    series (``t1_mprage_gd``).

    Args:
        name: without path and file ending, such as ``BraTS2021_00000_t1ce``.
    """
    for contrast, pattern in _PATTERNS:
        if re.search(rf"(^|[\W_])({pattern})$", name.lower()):
            return contrast
    return None
