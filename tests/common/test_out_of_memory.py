import sys

import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError, explain_data_errors, explanation
from custom_apps.common.out_of_memory import out_of_memory


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(
    "function",
    [
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: np.empty(2**60, np.uint8),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    ],
    ids=["torch", "numpy", "gpu"],
)
def test_real_errors_say_what_to_lower(function):
    error = caught(function)
    text = out_of_memory(error)
    assert "batch_size" in text
    assert "amp" in text
    wrapped = RuntimeError("component failed")
    wrapped.__cause__ = error
    assert explanation(wrapped) == text


def test_other_errors_keep_their_traceback():
    assert explanation(RuntimeError("shapes differ")) is None
    assert explanation(DataError("a.png", "is damaged")) == "a.png: is damaged"
    assert explanation(FloatingPointError("loss is nan")) == "loss is nan"


def test_a_run_that_ends_for_lack_of_memory_prints_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    explain_data_errors()
    error = caught(lambda: torch.empty(2**60, dtype=torch.uint8))
    sys.excepthook(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert printed.startswith("error: out of memory (")
    assert printed.count("\n") == 1
