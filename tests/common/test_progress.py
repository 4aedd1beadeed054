import io
import logging
import sys

import pytest
from ignite.engine import Engine, Events

from custom_apps.common import progress
from custom_apps.common.progress import TerminalProgressBar, duration, without_bars


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


def test_time_left_is_logged_anywhere(monkeypatch, caplog):
    clock = iter(range(0, 10_000, 600))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.STARTED)
    def resume():
        engine.state.epoch = 7

    TerminalProgressBar(desc="train", file=io.StringIO()).attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run(range(2), max_epochs=10)
    lines = [record.getMessage() for record in caplog.records if "left" in record.getMessage()]
    assert lines == ["epoch 8 of 10: about 20 min left", "epoch 9 of 10: about 10 min left"]


def test_durations():
    assert [duration(s) for s in (40, 720, 19_200, 273_600)] == ["40 s", "12 min", "5 h 20 min", "3 days 4 h"]


def test_hidden_bars(monkeypatch):
    with without_bars():
        assert run(monkeypatch, Terminal()) == ""
    with without_bars(False):
        assert "train" in run(monkeypatch, Terminal())
