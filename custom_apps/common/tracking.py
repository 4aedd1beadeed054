"""MLflow tracking that ends its run in the right state and never costs a training its life."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from custom_apps.common.run_record import git_commit, machine_line, versions
from custom_apps.common.shareable_text import shareable_text

RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"
PARENT_TAG = "mlflow.parentRunId"
PAUSE_SECONDS = 300.0
"""How long a store that has failed is left alone."""

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""MLflow's own settings for servers, where the user gives no others; its defaults wait for minutes."""

logger = logging.getLogger(__name__)

# Trainer and validator each have a handler; without a name from outside they must still share one run.
_DEFAULT_RUN_NAME = time.strftime("run-%Y%m%d-%H%M%S") + f"-{os.getpid()}"

_silent_until: dict[str, float] = {}
"""Address of a store that has failed to the time from which it is tried again; all handlers of a process share it."""


def _survived(insistent: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes an event of `TrackedRun` harmless: a store that fails is reported and then left alone for a while.

    Args:
        insistent: try even if the store has failed a short while ago, because there is no later.
    """

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def event(self: TrackedRun, *arguments: Any) -> None:
            if not insistent and time.monotonic() < _silent_until.get(self.address, 0.0):
                return
            try:
                method(self, *arguments)
                _silent_until.pop(self.address, None)
            except Exception as error:
                _silent_until[self.address] = time.monotonic() + PAUSE_SECONDS
                reason = shareable_text(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
                logger.warning("tracking in %s fails, the run goes on without: %s", self.address, reason)

        return event

    return decorate


class TrackedRun(MLFlowHandler):
    """MONAI's MLflow handler, made safe: a failing store costs the record, not the training.

    A run that ends with an error is FAILED instead of staying open. A store that does not answer is reported once in
    a while (``PAUSE_SECONDS``) and tried again later; for a server MLflow waits 20 s and tries twice, unless the
    environment says otherwise (``MLFLOW_HTTP_REQUEST_TIMEOUT``, ``MLFLOW_HTTP_REQUEST_MAX_RETRIES``). What could not be
    logged meanwhile is lost to the tracker; the bundle's ``metrics.csv`` has it. Machine, versions and commit are tags.

    Args:
        run_name: name of the run, turned into text; without one all handlers of a process share a name that no other
            process has, so that a new training never goes on in the open run of one that died.
        parent: name of a run that this one belongs to, such as the cross-validation of a fold; it is made when it is
            not there, and has the state of its latest part. A handler whose own run it is goes on in it.
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
        parent: str | None = None,
        **kwargs: Any,
    ):
        if find_spec("mlflow") is None:
            raise RuntimeError("tracking needs MLflow: pip install 'mamba-bundles[track]'")
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        given = [artifacts] if isinstance(artifacts, (str, Path)) else list(artifacts or [])
        super().__init__(
            run_name=_DEFAULT_RUN_NAME if run_name is None else str(run_name),
            artifacts=[path for path in [*given, figures_dir] if path],
            **kwargs,
        )
        self.config_dir = None if config_dir is None else Path(config_dir)
        self.parent, self._parent_id = parent, None
        self.address = shareable_text(self.client.tracking_uri)
        self._engine: Engine | None = None

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer, validator or evaluator."""
        super().attach(engine)
        self._engine = engine
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        # Handlers such as MONAI's StatsHandler raise the error again, after which no other handler is called; ignite
        # offers no order of handlers other than that of registration.
        handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
        handlers.insert(0, handlers.pop())
        engine.add_event_handler(Events.EXCEPTION_RAISED, _raise_again)

    @_survived()
    def start(self, engine: Engine) -> None:
        """Opens the run, or opens it again when a run of this name had failed."""
        self._open(engine)

    @_survived()
    def epoch_completed(self, engine: Engine) -> None:
        """Logs the metrics of an epoch."""
        self._open_late(engine)
        super().epoch_completed(engine)

    @_survived()
    def iteration_completed(self, engine: Engine) -> None:
        """Logs the output of an iteration."""
        self._open_late(engine)
        super().iteration_completed(engine)

    @_survived(insistent=True)
    def complete(self) -> None:
        """Logs files at the end."""
        if self.artifacts and self._engine is not None:
            self._open_late(self._engine)
        if self.config_dir is not None:
            written = sorted(self.config_dir.glob("config_*.json"), key=lambda path: path.stat().st_mtime)
            self.artifacts = [*self.artifacts, *(path for path in written[-1:] if path not in self.artifacts)]
        super().complete()

    @_survived()
    def close(self) -> None:
        """Ends the run as finished, and with it the run that it belongs to."""
        super().close()
        self._end_parent(FINISHED)

    def _open(self, engine: Engine) -> None:
        self._set_experiment()
        if self.parent is not None and self.parent == self.run_name:
            self._find_parent()
        super().start(engine)
        self._set_running(self.cur_run)
        self.cur_run = self.client.get_run(self.cur_run.info.run_id)
        if "machine" not in self.cur_run.data.tags:
            facts = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
            tags = {"machine": machine_line(), "versions": facts, "mlflow.source.git.commit": git_commit()}
            for name, value in tags.items():
                if value:
                    self.client.set_tag(self.cur_run.info.run_id, name, value)
        if self.parent is not None and self.parent != self.run_name:
            self._find_parent()
            self.client.set_tag(self.cur_run.info.run_id, PARENT_TAG, self._parent_id)

    def _open_late(self, engine: Engine) -> None:
        """Opens the run when its store did not answer at the start."""
        if not self.cur_run:
            self._open(engine)

    def _find_parent(self) -> None:
        """Finds the parent run, or makes it, and opens it."""
        condition = f"attributes.run_name = '{self.parent}'"
        found = self.client.search_runs(self.experiment.experiment_id, filter_string=condition)
        run = found[0] if found else self.client.create_run(self.experiment.experiment_id, run_name=self.parent)
        self._set_running(run)
        self._parent_id = run.info.run_id

    def _set_running(self, run: Any) -> None:
        if run.info.status != RUNNING:
            self.client.update_run(run.info.run_id, status=RUNNING)

    def _end_parent(self, status: str) -> None:
        if self._parent_id is not None:
            self.client.set_terminated(self._parent_id, status)

    def _log_params(self, params: dict[str, Any]) -> None:
        super()._log_params({name: shareable_text(str(value)) for name, value in params.items()})

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._fail_run()

    @_survived()
    def _fail_run(self) -> None:
        if self.cur_run:
            run, self.cur_run = self.cur_run, None
            self.client.set_terminated(run.info.run_id, FAILED)
            self._end_parent(FAILED)


def _raise_again(engine: Engine, error: BaseException) -> None:
    """Ignite swallows an error as soon as any handler is registered for it."""
    raise error
