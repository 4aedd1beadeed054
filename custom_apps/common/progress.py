"""Progress bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ignite.engine import Engine
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

    Args:
        show_loss: show the loss of the iteration; for engines whose output has one.
        kwargs: of ``ignite.handlers.ProgressBar``, such as ``desc``.
    """

    def __init__(self, show_loss: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.show_loss = show_loss

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Attaches the bar where somebody can see it; see ``ignite.handlers.ProgressBar.attach``."""
        if _hidden.get() or not is_main_process() or not sys.stderr.isatty():
            return
        if self.show_loss and not args:
            loss = from_engine(["loss"], first=True)
            kwargs.setdefault("output_transform", lambda output: {"loss": float(loss(output))})
        super().attach(engine, *args, **kwargs)
