"""Sequence mixers of E-ViM3 by name, with a direction.

Source: arXiv:2503.20258 (E-ViM3) and its published code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from custom_networks.layers.bidirectional_mamba import BidirectionalMamba
from custom_networks.layers.bidirectional_mamba2 import BidirectionalMamba2
from custom_networks.layers.mamba import Mamba
from custom_networks.layers.mamba2 import Mamba2

_MAMBA2 = {"d_state": 128, "heads": 8, "chunk_size": 256}

# Class and the published arguments of each name.
MIXERS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "mamba": (Mamba, {}),
    "mamba2": (Mamba2, _MAMBA2),
    "bimamba_v1": (BidirectionalMamba, {"kind": "v1"}),
    "bimamba_v2": (BidirectionalMamba, {"kind": "v2"}),
    "bimamba2": (BidirectionalMamba2, _MAMBA2),
}

_ONE_WAY = ("mamba", "mamba2")


class DirectedMixer(nn.Module):
    """A mixer (B, L, C) to (B, L, C) that reads the sequence forwards or from its last token to the first.

    One-way mixers scan in reverse without a copy; the others see a flipped sequence, and their output is flipped back.

    Args:
        width: width C of the tokens.
        mixer: a key of `MIXERS`.
        reverse: whether to read from the last token to the first.
        options: further arguments of the mixer, such as ``d_state``.

    Raises:
        ValueError: for an unknown mixer.
    """

    def __init__(self, width: int, mixer: str = "mamba", reverse: bool = False, options: dict | None = None):
        super().__init__()
        if mixer not in MIXERS:
            raise ValueError(f"mixer must be one of {sorted(MIXERS)}, got {mixer!r}")
        kind, arguments = MIXERS[mixer]
        arguments = arguments | (options or {})
        self.flip = reverse and mixer not in _ONE_WAY
        self.core = kind(width, **arguments, **({"reverse": reverse} if mixer in _ONE_WAY else {}))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mixes tokens along L."""
        return self.core(tokens.flip(1)).flip(1) if self.flip else self.core(tokens)
