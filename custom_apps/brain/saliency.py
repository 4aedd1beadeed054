"""Maps of what in an examination a network's answer depends on."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events

from custom_apps.brain.inference import write_map


class SaveVolumeSaliency:
    """Handler of an evaluator whose inferer gives maps; writes them as :func:`custom_apps.brain.inference.write_map`.

    Args:
        output_dir: made when missing.
        method: of the map, for the title of the picture.
        overwrite: replace files of earlier runs.
    """

    def __init__(self, output_dir: str | Path, method: str = "", overwrite: bool = False):
        self.output_dir, self.method, self.overwrite = Path(output_dir), method, overwrite

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Writes the files of an iteration's examinations."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            write_map(output["pred"][0], item, self.output_dir, f"{item['case']}: {self.method}", self.overwrite)
