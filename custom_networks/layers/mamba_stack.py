"""Pre-normalized stack of directed sequence mixers with a float32 residual stream.

Source: Gu and Dao 2023, "Mamba", the published language model; settings of arXiv:2503.20258 (E-ViM3). Letters: B batch,
L length, C width.
"""

from __future__ import annotations

import torch
from monai.networks.layers import DropPath
from torch import nn

from custom_networks.layers.sequence_mixers import DirectedMixer

NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


class MambaLayer(nn.Module):
    """Norm, mixer and stochastic depth: what one layer adds to the residual stream.

    Args:
        width: width C.
        mixer: name of the mixer, see :mod:`custom_networks.layers.sequence_mixers`.
        options: further arguments of the mixer.
        norm: "layer" or "rms".
        reverse: direction of the mixer.
        drop_path: probability that the mixer's output of a sample is dropped in training.
    """

    def __init__(
        self,
        width: int,
        mixer: str = "mamba",
        options: dict | None = None,
        norm: str = "layer",
        reverse: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.norm = NORMS[norm](width, eps=1e-5)
        self.mixer = DirectedMixer(width, mixer, reverse, options)
        self.drop_path = DropPath(drop_path)

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """Contribution to the residual stream (B, L, C)."""
        return self.drop_path(self.mixer(self.norm(residual.to(self.norm.weight.dtype))))


class MambaStack(nn.Module):
    """Layers x + mixer(norm(x)) one after another, (B, L, C) to (B, L, C).

    The stream between the layers is float32 or wider whatever autocast says. Under float16 autocast the stack runs
    outside of it, because scan inputs overflow half precision.

    Args:
        width: width C.
        depth: number of layers.
        mixer: name of the mixer, see :mod:`custom_networks.layers.sequence_mixers`.
        mixer_options: further arguments of the mixer.
        norm: "layer" or "rms", epsilon 1e-5.
        final_norm: normalize the output.
        reverse: read the sequence from its last token to the first.
        tower_layers: number of Mamba layers of the whole tower that this stack is part of; output projections start
            smaller by its square root. None: ``depth``.
        drop_path: rate of stochastic depth of every layer.

    Raises:
        ValueError: for an unknown mixer or norm.

    Deviation: stochastic depth drops what a layer adds. The published code drops the input of the stack, with which
        the sample itself disappears.
    """

    def __init__(
        self,
        width: int,
        depth: int = 1,
        mixer: str = "mamba",
        mixer_options: dict | None = None,
        norm: str = "layer",
        final_norm: bool = False,
        reverse: bool = False,
        tower_layers: int | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {sorted(NORMS)}, got {norm!r}")
        self.layers = nn.ModuleList(
            MambaLayer(width, mixer, mixer_options, norm, reverse, drop_path) for _ in range(depth)
        )
        self.final_norm = NORMS[norm](width, eps=1e-5) if final_norm else None
        with torch.no_grad():
            for layer in self.layers:
                layer.mixer.core.out_proj.weight.mul_((tower_layers or depth) ** -0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Runs the stack; the output is float32 or wider."""
        device = tokens.device.type
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
        if not half:
            return self._run(tokens)
        with torch.autocast(device, enabled=False):
            return self._run(tokens)

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        stream = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        for layer in self.layers:
            stream = stream + layer(stream)
        return stream if self.final_norm is None else self.final_norm(stream)
