"""Progress bar on a terminal, and everywhere a line an epoch about the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.handlers import from_engine

from custom_apps.common.distributed import is_main_process

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def without_bars(hidden: bool = True) -> Iterator[None]:
    """Bars that are attached here stay away, on terminals too; with False everything is as always."""
    token = _hidden.set(hidden or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


class TerminalProgressBar(ProgressBar):
    """Ignite's progress bar, shown only by the main process and only when stderr is a terminal.

    It tells the time left in the epoch. For runs of several epochs the log also gets, after each, the time left in all.

    Args:
        show_loss: show the loss of the iteration; for engines whose output has one.
        kwargs: of ``ignite.handlers.ProgressBar``, such as ``desc``.
    """

    def __init__(self, show_loss: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.show_loss = show_loss

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Attaches the bar where somebody can see it; see ``ignite.handlers.ProgressBar.attach``."""
        if _hidden.get() or not is_main_process():
            return
        TimeLeft().attach(engine)
        if not sys.stderr.isatty():
            return
        if self.show_loss and not args:
            loss = from_engine(["loss"], first=True)
            kwargs.setdefault("output_transform", lambda output: {"loss": float(loss(output))})
        super().attach(engine, *args, **kwargs)


class TimeLeft:
    """Handler that logs after every epoch but the last how long the rest will take at the pace of this run."""

    def __init__(self) -> None:
        self._started, self._before = 0.0, -1

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)

    def _reset(self) -> None:
        self._before = -1

    def _begin(self, engine: Engine) -> None:
        # Not when the run starts: only then a resumed training knows its epoch.
        if self._before < 0:
            self._started, self._before = time.monotonic(), engine.state.epoch - 1

    def _tell(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs
        if not last or epoch >= last:
            return
        each = (time.monotonic() - self._started) / (epoch - self._before)
        engine.logger.info(f"epoch {epoch} of {last}: about {duration(each * (last - epoch))} left")


def duration(seconds: float) -> str:
    """Seconds for people: ``40 s``, ``12 min``, ``5 h 20 min``, ``3 days 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"
