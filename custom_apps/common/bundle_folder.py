"""Where a bundle is: below the working directory, beside the installed packages, or an unpacked release."""

from __future__ import annotations

import json
from pathlib import Path

from custom_apps.common.errors import DataError

METADATA = Path("configs") / "metadata.json"


def find_bundle(name: str, folder: str | Path | None = None) -> Path:
    """The folder of a bundle, whatever the working directory is.

    Args:
        name: of the bundle, as in its metadata.
        folder: the bundle's own folder, or one that holds it; by default the working directory, ``bundles`` in it, and
            the same of the folder that holds this package (a checkout, or an unpacked release archive).

    Raises:
        DataError: if it is not there, naming the places that were looked at.
    """
    roots = [Path(folder)] if folder is not None else [Path(), Path(__file__).parents[2]]
    places = [place for root in roots for place in (root, root / name, root / "bundles" / name)]
    for place in places:
        if _name_of(place) == name:
            return place.resolve()
    looked = ", ".join(dict.fromkeys(str(root.resolve()) for root in roots))
    raise DataError(name, f"no such bundle in {looked}", "--bundle-dir with the folder that holds it")


def _name_of(place: Path) -> str | None:
    try:
        return json.loads((place / METADATA).read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError, AttributeError):
        return None
