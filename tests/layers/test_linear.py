"""The choice of a library for float32 products: exact or not made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from custom_networks.layers.linear import prefer_onednn_products

pytestmark = pytest.mark.skipif(
    getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", None) is None,
    reason="this PyTorch has no choice of a library for float32 products",
)


@pytest.fixture(autouse=True)
def _undo():
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def _error() -> float:
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.randn(300, 200, generator=generator), torch.randn(70, 200, generator=generator)
    exact = x.double() @ weight.double().T
    return ((F.linear(x, weight) - exact).norm() / exact.norm()).item()


def test_products_are_exact_whatever_is_chosen():
    used = prefer_onednn_products(gain=0.0, rounds=1)
    assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") == used
    assert _error() <= 1e-6


def test_rounded_products_are_refused(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    exact = F.linear

    def rounding(x, weight):
        if torch.backends.mkldnn.matmul.fp32_precision == "bf16":
            x, weight = x.bfloat16().float(), weight.bfloat16().float()
        return exact(x, weight)

    monkeypatch.setattr(F, "linear", rounding)
    assert not prefer_onednn_products(gain=0.0, rounds=1)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_slower_products_are_left():
    before = torch.backends.mkldnn.matmul.fp32_precision
    assert not prefer_onednn_products(gain=1e9, rounds=1)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_pytorch_without_the_choice(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not prefer_onednn_products(gain=0.0)
