"""A whole Mamba block: the project's layer on each backend, and the block of the package transformers if installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.cases import BLOCK
from benchmarks.operator_bench import FIRST, Options
from benchmarks.timing import take_turns, threads
from custom_networks.layers.mamba import Mamba
from custom_networks.ops import set_backend
from custom_networks.ops.backend import availability


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of forward passes and training steps."""
    for shape in filter(options.wants, BLOCK):
        tokens = torch.randn(shape.sizes)
        for mode in ("forward", "forward and backward"):
            calls = dict(_calls(tokens, mode))
            for count in options.thread_counts:
                with threads(count):
                    times = take_turns(calls, options.rounds, options.budget_s)
                for name, found in times.items():
                    ratio = (
                        {"times_native": round(found["min_ms"] / times[FIRST]["min_ms"], 2)} if FIRST in times else {}
                    )
                    yield {
                        "operator": "block",
                        "shape": shape.name,
                        "sizes": shape.sizes,
                        "mode": mode,
                        "dtype": "float32",
                        "threads": count,
                        "peer": name,
                        **{key: round(value, 4) for key, value in found.items()},
                        **ratio,
                    }


def _calls(tokens: torch.Tensor, mode: str) -> Iterator[tuple[str, Callable[[], object]]]:
    torch.manual_seed(0)
    block = Mamba(tokens.shape[-1])
    for name in (FIRST, "torch"):
        if availability(name)[0]:
            yield name, _on_backend(name, _call(block, tokens, mode))
    if availability(FIRST)[0]:
        yield f"{FIRST}, products by oneDNN", _with_onednn(_on_backend(FIRST, _call(block, tokens, mode)))
    other = transformers_block(tokens.shape[-1])
    # Its backward pass is quadratic in the number of tokens.
    if other is not None and (mode == "forward" or tokens.shape[1] <= 400):
        yield "transformers", _call(other, tokens, mode)


def _call(block: nn.Module, tokens: torch.Tensor, mode: str) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return block(tokens)

    def train() -> object:
        block.zero_grad()
        block(tokens).square().mean().backward()
        return None

    return forward if mode == "forward" else train


def _with_onednn(call: Callable[[], object]) -> Callable[[], object]:
    matmul = torch.backends.mkldnn.matmul

    def run_there() -> object:
        before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
        try:
            return call()
        finally:
            matmul.fp32_precision = before

    return run_there


def _on_backend(name: str, call: Callable[[], object]) -> Callable[[], object]:
    def run_there() -> object:
        set_backend(name)
        try:
            return call()
        finally:
            set_backend("auto")

    return run_there


def transformers_block(width: int) -> nn.Module | None:
    """The Mamba block of the package transformers with the sizes of ours, None if it is not installed."""
    try:
        from transformers import MambaConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer
    except ImportError:
        return None
    return MambaMixer(MambaConfig(hidden_size=width, state_size=16, conv_kernel=4, expand=2), layer_idx=0)
