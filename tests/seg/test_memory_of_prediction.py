import logging

import pytest
import torch
from monai.engines import SupervisedEvaluator

from custom_apps.seg import memory_of_prediction
from custom_apps.seg.memory_of_prediction import MemoryEstimate, available_bytes, sum_bytes
from custom_apps.seg.sliding_window import PatchwiseInferer


@pytest.mark.parametrize(
    ("shape", "patch_size", "dtype"),
    [
        ((9, 20, 17), (8, 8, 8), "float32"),
        ((5, 20, 17), (8, 8, 8), "float16"),
        ((1, 20, 17), (1, 8, 8), "float32"),
        ((6, 11, 5), (8, 8), "float32"),
    ],
    ids=["volume", "smaller than a patch", "flat patch", "slices"],
)
def test_the_bound_is_what_is_allocated(shape, patch_size, dtype, monkeypatch):
    allocated, zeros = [], torch.zeros

    def counted(*args, **kwargs):
        allocated.append(zeros(*args, **kwargs))
        return allocated[-1]

    inferer = PatchwiseInferer(patch_size, dtype=dtype)
    monkeypatch.setattr(torch, "zeros", counted)
    inferer(torch.rand(1, 1, *shape), lambda patches: patches.repeat(1, 3, *[1] * len(patch_size)))
    assert sum(tensor.nbytes for tensor in allocated) == sum_bytes(shape, patch_size, 3, inferer.dtype)


def evaluate(sizes, free, monkeypatch, caplog):
    monkeypatch.setattr(memory_of_prediction, "available_bytes", lambda device: free)
    inferer = PatchwiseInferer((8, 8, 8))
    network = torch.nn.Conv3d(1, 3, 1)
    loader = [{"image": torch.rand(1, 1, *size)} for size in sizes]
    handler = MemoryEstimate(inferer, 3)
    with caplog.at_level(logging.INFO, logger="custom_apps"):
        SupervisedEvaluator("cpu", loader, network, inferer=inferer, decollate=False, val_handlers=[handler]).run()
    return [record for record in caplog.records if record.name == memory_of_prediction.__name__]


def test_only_larger_images_are_worth_a_line(monkeypatch, caplog):
    records = evaluate([(16, 64, 64), (8, 8, 8), (32, 64, 64)], 2**40, monkeypatch, caplog)
    assert [record.levelname for record in records] == ["INFO", "INFO"]
    assert records[0].getMessage().startswith("summing logits takes 1 MiB on cpu: 3 maps of 16 x 64 x 64 voxels")


def test_too_little_memory_is_a_warning_with_advice(monkeypatch, caplog):
    (record,) = evaluate([(8, 16, 16)], 1000, monkeypatch, caplog)
    assert record.levelname == "WARNING"
    assert "sum_dtype: float16" in record.getMessage()


def test_memory_of_this_machine():
    assert available_bytes("cpu") > 2**20
    assert available_bytes("meta") is None
