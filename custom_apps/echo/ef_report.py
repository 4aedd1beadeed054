"""What an evaluation of ejection fractions leaves: tables of videos and clips, results, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from custom_apps.common.partial_file import write_json, write_text
from custom_apps.common.statistics import RESAMPLES, SEED, Estimate
from custom_apps.common.table import markdown_table, text_table, write_csv
from custom_apps.echo.ef_evaluation import EFTable
from custom_apps.echo.ef_figures import draw_absolute_errors, draw_bland_altman, draw_roc, draw_scatter
from custom_apps.echo.ef_metrics import REDUCED_EF_PERCENT, Intervals, estimates_as_json, title_of

PUBLISHED = (
    ("EchoNet-Dynamic, Ouyang et al. 2020, as in the paper", "4.1", "5.3", "0.81"),
    ("EchoNet-Dynamic, one clip a video", "4.216", "5.56", "0.795 (squared correlation)"),
    ("EchoNet-Dynamic, clips before each systole", "4.052", "5.325", "0.809 (squared correlation)"),
    ("CoReEcho, arXiv 2403.10164, abstract", "3.90", "-", "0.8244"),
    ("Echo-Vision-FM, abstract", "3.87", "-", "0.825"),
    ("Echo-E³Net, arXiv 2503.17543, abstract", "-", "5.20", "0.82"),
)
PUBLISHED_NOTE = (
    "As published by others for the test split of EchoNet-Dynamic, each with a protocol of its own; not measured here."
)


class EFReport:
    """Writes the results of an :class:`EFTable` into a folder.

    ``videos.csv`` (a row a video), ``clips.csv`` (a row a clip in EchoNet-Dynamic's format, without header: file name
    with ``.avi``, first frame, prediction), ``results.md``, ``results.json`` and figures in ``figures/``. Files of
    these names are replaced.

    Args:
        output_dir: the folder, made when missing.
        title: what was evaluated, for the headline.
        level: coverage of the intervals; EchoNet-Dynamic's 5th to 95th percentile is 0.9.
        resamples: bootstrap samples of videos.
        seed: of the draws.
        reduced_ef_percent: limits of reduced ejection fraction.
        published: also quote published results of EchoNet-Dynamic's test split.
        figures: whether to draw.
    """

    def __init__(
        self,
        output_dir: str | Path,
        title: str = "Ejection fraction",
        level: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = SEED,
        reduced_ef_percent: Sequence[float] = REDUCED_EF_PERCENT,
        published: bool = False,
        figures: bool = True,
    ):
        self.output_dir, self.title, self.published, self.figures = Path(output_dir), title, published, figures
        self.intervals, self.reduced_ef_percent = Intervals(level, resamples, seed), tuple(reduced_ef_percent)

    def estimates(self, table: EFTable) -> dict[str, dict[str, Estimate]]:
        """Protocol to measure to value with interval, as this report wants them."""
        return table.estimates(self.reduced_ef_percent, self.intervals)

    def write(self, table: EFTable, estimates: Mapping[str, Mapping[str, Estimate]] | None = None) -> str:
        """Writes all files.

        Args:
            table: what was predicted.
            estimates: of :meth:`estimates`, when they are known already.

        Returns:
            The results as text for a terminal.
        """
        estimates = self.estimates(table) if estimates is None else estimates
        write_csv(table.video_rows(), self.output_dir / "videos.csv")
        clips = "".join(f"{case}.avi,{start},{value:.4f}\n" for case, start, value in table.clip_rows())
        write_text(clips, self.output_dir / "clips.csv")
        write_text(self._markdown(table, estimates), self.output_dir / "results.md")
        content = {
            "title": self.title,
            "videos": len(table.cases),
            "interval": self._interval_line(),
            "protocols": {
                name: {"title": table.title(name), **estimates_as_json(estimates[name])} for name in table.names
            },
        }
        write_json(content, self.output_dir / "results.json")
        if self.figures and len(table.cases) > 1:
            self._draw(table, estimates)
        rows, headers = self._rows(table, estimates)
        return f"{self.title}, {len(table.cases)} videos; {self._interval_line()}\n{text_table(rows, headers)}"

    def _draw(self, table: EFTable, estimates: Mapping[str, Mapping[str, Estimate]]) -> None:
        panels = {table.title(name): table.pairs(name) for name in table.names}
        by_title = {table.title(name): estimates[name] for name in table.names}
        folder = self.output_dir / "figures"
        draw_scatter(panels, by_title, folder / "scatter.png")
        draw_bland_altman(panels, by_title, folder / "bland_altman.png")
        draw_absolute_errors(panels, folder / "absolute_errors.png")
        best = table.title(table.best_covered)
        draw_roc(*panels[best], by_title[best], self.reduced_ef_percent, folder / "roc.png", best)

    def _rows(
        self, table: EFTable, estimates: Mapping[str, Mapping[str, Estimate]]
    ) -> tuple[list[list[str]], list[str]]:
        measures = list(estimates[table.names[0]])
        rows = [[title_of(m), *(_cell(estimates[name], m) for name in table.names)] for m in measures]
        counts = [len(table.pairs(name)[0]) for name in table.names]
        rows.append(["videos", *map(str, counts)])
        return rows, ["measure", *(table.title(name) for name in table.names)]

    def _markdown(self, table: EFTable, estimates: Mapping[str, Mapping[str, Estimate]]) -> str:
        rows, headers = self._rows(table, estimates)
        protocols = table.protocols
        parts = [
            f"# {self.title}",
            f"{len(table.cases)} videos. Errors are predicted minus reported, points; {self._interval_line()}.",
            markdown_table(rows, headers),
            f"A clip is {protocols.length} frames, {protocols.period} apart. Of several clips the predictions are "
            "averaged first and measured then.",
        ]
        if self.published:
            parts += [PUBLISHED_NOTE, markdown_table(PUBLISHED, ["method", "MAE", "RMSE", "R²"])]
        return "\n\n".join(parts) + "\n"

    def _interval_line(self) -> str:
        low, high = 50 * (1 - self.intervals.level), 50 * (1 + self.intervals.level)
        ends, count = f"{low:g}th to {high:g}th percentile", self.intervals.resamples
        return f"intervals are the {ends} of {count} bootstrap samples of videos"


def _cell(estimates: Mapping[str, Estimate], measure: str) -> str:
    return estimates[measure].brief() if measure in estimates else "-"
