"""The command ``predict``: arguments in, results and an exit code out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_apps.common.bundle_folder import find_bundle
from custom_apps.common.dicom_segmentation import ENDING, write_dicom_segmentation
from custom_apps.common.errors import DataError, explanation
from custom_apps.common.prediction_run import SettingError, predict
from custom_apps.common.prediction_summary import summary_text, write_summary
from custom_apps.common.report import FILE_NAME
from custom_apps.common.report_command import report_folder
from custom_apps.common.room import Room, imported

DONE, FAILED, MISUSED, SOME_FAILED = 0, 1, 2, 3


def run_prediction(room: Room, arguments: argparse.Namespace) -> int:
    """Runs the command, prints what came out, and gives the exit code."""
    if arguments.dicom_seg is not None and room.dicom_masks is None:
        print(f"error: {room.bundle} writes no DICOM SEG", file=sys.stderr)
        return MISUSED
    try:
        bundle, replace = find_bundle(room.bundle, arguments.bundle_dir), arguments.existing != "error"
        page = Path(arguments.output) / FILE_NAME
        if arguments.report and page.exists() and not replace:
            raise DataError(page, "already there and not overwritten", "--existing skip or overwrite")
        run = predict(
            bundle,
            arguments.input,
            arguments.output,
            weights=arguments.weights,
            ckpt_dir=arguments.ckpt_dir,
            device=arguments.device,
            overlays=arguments.overlay,
            settings=dict(arguments.set),
            existing=arguments.existing,
            quiet=arguments.quiet,
            further=DicomSegmentations(room, arguments.dicom_seg, replace),
        )
        write_summary(run)
        if arguments.report:
            report_folder(room, run.output_dir, bundle, page, replace)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except Exception as error:
        if (text := explanation(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return FAILED
    if arguments.quiet:
        for case, error in run.broken.items():
            print(f"error: {case} is left out: {error}", file=sys.stderr)
    else:
        print(summary_text(run))
    if not run.broken:
        return DONE
    return SOME_FAILED if run.cases else FAILED


class DicomSegmentations:
    """Writes ``<case>_seg.dcm`` for the masks of DICOM images; where that cannot be done it says so and goes on.

    Args:
        room: of the bundle.
        series: folder of the DICOM series that an image of another format was made from; then problems are errors.
        overwrite: whether existing files may be replaced.
    """

    def __init__(self, room: Room, series: str | None = None, overwrite: bool = False):
        self.room, self.series, self.overwrite = room, series, overwrite

    def __call__(self, parser: ConfigParser, items: list[dict[str, Any]], output_dir: Path) -> None:
        """Writes the files of these items."""
        if self.room.dicom_masks is None:
            return
        if self.series is not None and len(items) > 1:
            raise DataError(self.series, f"one series for {len(items)} cases", "a single input with --dicom-seg")
        mask_of = imported(self.room.dicom_masks)
        for item in items:
            mask = mask_of(parser, item, output_dir, self.series)
            if mask is None:
                continue
            try:
                write_dicom_segmentation(mask, output_dir / f"{item['case']}{ENDING}", self.overwrite)
            except DataError as error:
                if self.series is not None:
                    raise
                print(f"no DICOM SEG of {item['case']}: {error}", file=sys.stderr)
