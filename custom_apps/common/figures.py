"""One look for all figures, drawn without a display and saved whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from custom_apps.common.partial_file import partial_file

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#4D4D4D")
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008; yellow left out, brown and grey added)."""

STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "image.interpolation": "nearest",
}


@contextmanager
def figure(
    path: str | Path,
    rows: int = 1,
    columns: int = 1,
    width: float = 4.0,
    height: float = 3.0,
    width_ratios: Sequence[float] | None = None,
) -> Iterator[tuple[Figure, np.ndarray]]:
    """Gives a figure and its axes; on leaving without an error it is saved to ``path``.

    Args:
        path: the file to write, replaced when it exists; its ending picks the format.
        rows: rows of axes.
        columns: columns of axes.
        width: of one axes on average, inches.
        height: of one axes, inches.
        width_ratios: relative widths of the columns.

    Yields:
        The figure and an array (rows, columns) of axes, in the house style. No window and no global state of pyplot is
        involved, so figures may be drawn inside handlers and threads.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(columns * width, rows * height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn, drawn.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)
        with partial_file(path) as temporary:
            drawn.savefig(temporary)
