"""What a report shows of predicted label maps: volumes of the structures, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from custom_apps.common.report_files import MOST_PICTURES, existing, read_object
from custom_apps.common.report_parts import SHOWN_ROWS, Case, Picture, Section, limited
from custom_apps.common.report_run import Run
from custom_apps.seg.sizes import voxel_size
from custom_apps.seg.volume_io import IMAGE_ENDINGS, read_segmentation

FIGURES = "figures"


def label_maps(folder: Path) -> dict[str, Path]:
    """Case to predicted label map of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), None)
        if ending is not None and path.is_file() and not path.name.startswith("."):
            found[path.name[: -len(ending)]] = path
    return found


def prediction_sections(folder: Path, maps: dict[str, Path]) -> list[Section]:
    """Pictures of the cases that have some, and volumes of the structures in each case.

    Args:
        folder: of the predictions.
        maps: see `label_maps`.

    Raises:
        DataError: naming the file, for a label map that cannot be read.
    """
    cases = [
        Case(name, "", shown)
        for name in maps
        if (shown := existing([_picture(folder / FIGURES / f"{name}.png", name)]))
    ][:MOST_PICTURES]
    measured = {name: sizes_of(path) for name, path in list(maps.items())[:SHOWN_ROWS]}
    names = _names(folder) or {i: f"label {i}" for sizes, _ in measured.values() for i in sorted(sizes)}
    rows = [[name, *(sizes.get(label, 0.0) for label in names)] for name, (sizes, _) in measured.items()]
    units = {unit for _, unit in measured.values()}
    unit = units.pop() if len(units) == 1 else "ml or pixels"
    table = limited(["case", *names.values()], rows, f"Size of the structures, {unit}", str(folder), digits=1)
    return [Section("Pictures", cases=cases, wide=True), Section("Sizes", tables=[table] if rows else [])]


def sizes_of(path: Path) -> tuple[dict[int, float], str]:
    """Size of each label in a label map, and its unit: milliliters of a volume, pixels of an image."""
    labels, properties = read_segmentation(path)
    size, unit = voxel_size(properties["spacing"], labels.shape[1:])
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    return {int(i): count * size for i, count in zip(ids, counts, strict=True)}, unit


def _picture(path: Path, name: str) -> Picture:
    return Picture(path, "Three slices with the predicted structures.", f"Slices of {name} with predicted structures")


def _names(folder: Path) -> dict[int, str]:
    """Label to name, as the description that lies with the predictions or with the model tells."""
    model = Run.of(folder).folder("ckpt_dir")
    for place in (folder, model):
        labels = read_object(place / "dataset.json").get("labels") if place is not None else None
        if isinstance(labels, dict):
            return {label: str(name) for name, label in labels.items() if isinstance(label, int) and label > 0}
    return {}
