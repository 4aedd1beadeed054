"""Which images are to be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.prediction_items import items_to_predict
from custom_apps.thyroid.blurred_copy import blur_of
from custom_apps.thyroid.image_file import ENDINGS, image_files, in_mask_folder


def images_to_predict(
    source: str | Path,
    output_dir: str | Path | None = None,
    results: Sequence[str] = (),
    existing: str = "error",
    shared_table: str | None = None,
) -> list[dict[str, str]]:
    """Images of a file or of a folder with or without subfolders; those below folders of masks are passed over.

    Args:
        source: PNG, JPEG, BMP, TIFF or DICOM, or a folder of them.
        output_dir, results, existing, shared_table: see
            :func:`custom_apps.common.prediction_items.items_to_predict`, also for what is returned. Images of a blurred
            copy have ``blur`` besides.

    Raises:
        DataError: nothing there, or no image in it.
    """
    source = Path(source)
    if source.is_file():
        files = [source]
    else:
        files = [path for path in image_files(source, deep=True) if not in_mask_folder(path.relative_to(source))]
    if not files:
        raise DataError(source, "no images", f"files ending in {', '.join(ENDINGS)}")
    items = items_to_predict(files, source, output_dir, results, existing, shared_table)
    blur = blur_of(source) if source.is_dir() else None
    return [item | {"blur": blur} for item in items] if blur else items
