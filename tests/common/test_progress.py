import io
import sys

import pytest
from ignite.engine import Engine

from custom_apps.common import progress
from custom_apps.common.progress import TerminalProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(monkeypatch, stream, main=True, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "is_main_process", lambda: main)
    engine = Engine(lambda engine, batch: [{"loss": 0.25}])
    TerminalProgressBar(desc="train", file=stream, **options).attach(engine)
    engine.run(range(4), max_epochs=2)
    return stream.getvalue()


def test_a_bar_on_a_terminal(monkeypatch):
    text = run(monkeypatch, Terminal(), show_loss=True)
    assert "train [2/2]" in text
    assert "loss=0.25" in text


@pytest.mark.parametrize(("stream", "main"), [(io.StringIO, True), (Terminal, False)])
def test_silence_elsewhere(monkeypatch, stream, main):
    assert run(monkeypatch, stream(), main) == ""
