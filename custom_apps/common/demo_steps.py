"""Steps that demonstrations share."""

from __future__ import annotations

from pathlib import Path


def report_steps(bundle: Path, *folders: Path) -> list[list[str]]:
    """Arguments of ``python`` that write the reports of folders of results.

    Args:
        bundle: folder of the bundle.
        folders: of evaluations and predictions.
    """
    return [["-m", "custom_apps", "report", bundle.name, str(folder), "--overwrite"] for folder in folders]
