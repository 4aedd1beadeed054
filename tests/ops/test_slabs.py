"""The cut of a sequence into slabs and chunks never shows in the results of backend `torch`."""

from __future__ import annotations

import pytest
import torch

from custom_networks.ops import _torch_conv, _torch_selective_scan, _torch_ssd
from custom_networks.ops._chunks import slabs
from tests.ops.cases import error, everything, outputs_and_gradients


@pytest.mark.parametrize("last_first", [False, True])
@pytest.mark.parametrize("length", [1, 4, 5, 11, 12, 13, 24, 31])
def test_slabs_cover_every_step_once_and_join_undoes_split(length, last_first):
    x = torch.arange(2.0 * length).view(2, length, 1)
    joined = torch.zeros_like(x)
    order = list(slabs(length, chunks=3, steps=4, last_first=last_first))
    for slab in order:
        pieces = slab.split(slab.rows(x))
        assert pieces.shape == (2, slab.chunks, slab.steps, 1)
        slab.rows(joined).add_(slab.join(pieces))
    assert torch.equal(joined, x)
    assert [slab.start for slab in order] == sorted((slab.start for slab in order), reverse=last_first)
    assert sorted(slab.index for slab in order) == list(range(-(-length // 12)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 11, 12, 13, 25])
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (5, 1), (2, 3)], ids=str)
def test_selective_scan_does_not_depend_on_slabs(monkeypatch, shape, length, reverse):
    monkeypatch.setattr(_torch_selective_scan, "slab_shape", lambda u, A: shape)
    case = everything("selective_scan", 2, 4, length, 3, 2, reverse=reverse)
    _agrees_with_the_loop(case)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 4, 11, 12, 13, 25])
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (5, 1), (2, 64)], ids=str)
def test_ssd_scan_does_not_depend_on_slabs(monkeypatch, shape, length, reverse):
    monkeypatch.setattr(_torch_ssd, "slab_shape", lambda x, states, chunk_size: shape)
    _agrees_with_the_loop(everything("ssd_scan", 2, length, 4, 3, 5, 2, reverse=reverse))


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 32, 70, 1000])
def test_ssd_scan_does_not_depend_on_chunk_size(chunk_size):
    case = everything("ssd_scan", 1, 70, 2, 3, 5)
    _agrees_with_the_loop(case, chunk_size=chunk_size)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_causal_conv1d_does_not_depend_on_blocks(monkeypatch, step, reverse):
    def blocks(x):
        return [(start, min(start + step, x.shape[1])) for start in range(0, x.shape[1], step)]

    monkeypatch.setattr(_torch_conv, "_blocks", blocks)
    _agrees_with_the_loop(everything("causal_conv1d", 2, 3, 9, 4, reverse=reverse))


def test_many_channels_take_one_chunk_and_few_take_many():
    def chunks(channels: int) -> int:
        return _torch_selective_scan.slab_shape(torch.empty(1, 5000, channels), torch.empty(channels, 16))[0]

    assert chunks(768) == 1
    assert chunks(64) > 8


def _agrees_with_the_loop(case, **settings):
    inputs = case.inputs()
    expected = outputs_and_gradients("reference", case.operator, inputs, case.settings())
    found = outputs_and_gradients("torch", case.operator, inputs, case.settings() | settings)
    for name, value in found.items():
        assert error(value, expected[name]) <= 1e-11, name
