"""MLflow tracking that ends its run in the right state."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

RUNNING, FAILED = "RUNNING", "FAILED"

# Trainer and validator each have a handler; without a name from outside they must still share one run.
_DEFAULT_RUN_NAME = time.strftime("run-%Y%m%d-%H%M%S") + f"-{os.getpid()}"


class TrackedRun(MLFlowHandler):
    """MONAI's MLflow handler, whose run is FAILED after an error instead of staying open.

    Args:
        run_name: name of the run, turned into text; without one all handlers of a process share a name that no other
            process has, so that a new training never goes on in the open run of one that died.
        figures_dir: folder whose files are logged at the end.
        config_dir: folder into which MONAI writes the configuration of a tracked run (``config_<time>.json``, its
            ``output_dir``); the newest is logged at the end. MONAI's own reference to that file is broken for plain
            paths given on the command line.
        artifacts: further files and folders to log at the end.
        kwargs: of ``monai.handlers.MLFlowHandler``.

    Paths that do not exist at the end are left out.

    Raises:
        RuntimeError: when MLflow is not installed.
    """

    def __init__(
        self,
        run_name: str | int | None = None,
        figures_dir: str | Path | None = None,
        config_dir: str | Path | None = None,
        artifacts: str | Path | Sequence[str | Path] | None = None,
        **kwargs: Any,
    ):
        if find_spec("mlflow") is None:
            raise RuntimeError("tracking needs MLflow: pip install 'mamba-bundles[track]'")
        given = [artifacts] if isinstance(artifacts, (str, Path)) else list(artifacts or [])
        super().__init__(
            run_name=_DEFAULT_RUN_NAME if run_name is None else str(run_name),
            artifacts=[path for path in [*given, figures_dir] if path],
            **kwargs,
        )
        self.config_dir = None if config_dir is None else Path(config_dir)

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer, validator or evaluator."""
        super().attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        # Handlers such as MONAI's StatsHandler raise the error again, after which no other handler is called; ignite
        # offers no order of handlers other than that of registration.
        handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
        handlers.insert(0, handlers.pop())
        engine.add_event_handler(Events.EXCEPTION_RAISED, _raise_again)

    def start(self, engine: Engine) -> None:
        """Opens the run, or opens it again when a run of this name had failed."""
        super().start(engine)
        if self.config_dir is not None:
            written = sorted(self.config_dir.glob("config_*.json"), key=lambda path: path.stat().st_mtime)
            self.artifacts = [*self.artifacts, *(path for path in written[-1:] if path not in self.artifacts)]
        if self.cur_run.info.status != RUNNING:
            self.client.update_run(self.cur_run.info.run_id, status=RUNNING)
            self.cur_run = self.client.get_run(self.cur_run.info.run_id)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        if not self.cur_run:
            return
        try:
            self.client.set_terminated(self.cur_run.info.run_id, FAILED)
        except Exception as trouble:
            engine.logger.warning(f"the tracked run could not be marked as failed: {trouble}")
        self.cur_run = None


def _raise_again(engine: Engine, error: BaseException) -> None:
    """Ignite swallows an error as soon as any handler is registered for it."""
    raise error
