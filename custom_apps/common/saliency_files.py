"""Maps of saliency as files: what every bundle's writer shares, and the colors of a map over an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from custom_apps.common.errors import DataError

COLORS = "inferno"
OPACITY = 0.75
LOW, HIGH = 50.0, 99.5
"""Percentiles of a map from which it is shown, and at which it is shown in the brightest color."""


class SaveSaliency:
    """Handler of an evaluator whose inferer gives maps; rooms say what is written of one.

    Takes the items of the batch, with ``case``, and the map ``pred`` (1, *spatial) of each from the output.

    Args:
        output_dir: made when missing.
        overwrite: replace files of earlier runs.
    """

    ENDINGS: tuple[str, ...] = ()
    """Endings of the files of a case."""

    def __init__(self, output_dir: str | Path, overwrite: bool = False):
        self.output_dir, self.overwrite = Path(output_dir), overwrite

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's cases.

        Raises:
            DataError: a file is there already and may not be replaced.
            FloatingPointError: naming the case, for a map that is not finite.
        """
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            values = output["pred"].float().cpu().numpy()[0]
            if not np.isfinite(values).all():
                raise FloatingPointError(f"the map of {item['case']} is not finite")
            paths = {ending: self.output_dir / f"{item['case']}{ending}" for ending in self.ENDINGS}
            for path in paths.values():
                if path.exists() and not self.overwrite:
                    raise DataError(path, "already there and not overwritten", "existing: skip or overwrite")
            self.write(item, values, paths)

    def write(self, item: Mapping[str, Any], values: np.ndarray, paths: Mapping[str, Path]) -> None:
        """Writes the files of one case.

        Args:
            item: the case.
            values: its map (*spatial), float32.
            paths: ending to file.
        """
        raise NotImplementedError


def over_gray(gray: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Gray pictures with a map in color over them, the more opaque the larger.

    Args:
        gray: uint8 (..., H, W).
        values: map (..., H, W); shown from its median to its 99.5th percentile, over all pictures together.

    Returns:
        uint8 (..., H, W, 3).
    """
    from matplotlib import colormaps

    low, high = np.percentile(values, (LOW, HIGH))
    share = np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    opacity = (OPACITY * share)[..., None]
    picture = gray[..., None] * (1 - opacity) + 255 * colormaps[COLORS](share)[..., :3] * opacity
    return np.rint(picture).clip(0, 255).astype(np.uint8)
