"""Predicted masks of images written as files of the images' own size, and a table of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from custom_apps.common.errors import DataError
from custom_apps.common.result_table import ResultTable
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.overlays import save_picture, with_outlines
from custom_apps.thyroid.restoration import PROBABILITY
from custom_apps.thyroid.segmentation_metrics import NODULE

ENDINGS = {"mask": "_mask.png", "overlay": "_overlay.png", "probability": "_probability.png"}
TABLE = "nodules.csv"


def endings(kinds: Sequence[str]) -> list[str]:
    """Endings of the files that a case gets.

    Raises:
        ValueError: for an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in ENDINGS]:
        raise ValueError(f"kinds are {', '.join(ENDINGS)}, got {', '.join(unknown)}")
    return [ENDINGS[kind] for kind in kinds]


class SaveMasks(ResultTable):
    """Handler of an evaluator that writes what :class:`~custom_apps.thyroid.restoration.RestoreMaskd` gives.

    ``<case>_mask.png`` is 0 and 255, ``<case>_probability.png`` the probability of the nodule from 0 to 255,
    ``<case>_overlay.png`` the image with the outline. ``nodules.csv`` has for each image its pixels, those of the
    nodule, the share, the number of separate parts and the highest probability; rows of earlier runs in it are kept.

    Args:
        output_dir: where files go.
        records: items that are predicted, with ``case``, ``image`` (path) and ``file_name``.
        kinds: which files to write.
        overwrite: replace files and forget what is in the table.
    """

    def __init__(
        self,
        output_dir: str | Path,
        records: Sequence[Mapping[str, Any]],
        kinds: Sequence[str] = ("mask", "overlay"),
        overwrite: bool = False,
    ):
        endings(kinds)
        super().__init__(Path(output_dir) / TABLE, overwrite)
        self.output_dir, self.kinds = Path(output_dir), tuple(kinds)
        self.records = {str(record["case"]): record for record in records}

    def row(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the files of one image.

        Args:
            case: its name ``case``, one of the records; ``pred``, the class of each pixel (H, W); and ``probability``
                of the nodule, float (H, W).

        Raises:
            DataError: a file is there already and may not be replaced.
        """
        from scipy.ndimage import label

        name = str(case["case"])
        record, nodule = self.records[name], torch.as_tensor(case["pred"]).cpu().numpy() == NODULE
        probability = torch.as_tensor(case[PROBABILITY]).cpu().numpy()
        pictures = {
            "mask": lambda: nodule.astype(np.uint8) * 255,
            "probability": lambda: np.rint(probability * 255).astype(np.uint8),
            "overlay": lambda: with_outlines(read_image(record["image"]), nodule),
        }
        for kind in self.kinds:
            path = self.output_dir / f"{name}{ENDINGS[kind]}"
            if path.exists() and not self.overwrite:
                raise DataError(path, "already there and not overwritten", "existing: skip or overwrite")
            save_picture(pictures[kind](), path)
        return {
            "file_name": record["file_name"],
            "pixels": nodule.size,
            "nodule_pixels": int(nodule.sum()),
            "nodule_share": float(nodule.mean()),
            "parts": int(label(nodule)[1]),
            "highest_probability": float(probability.max()),
        }
