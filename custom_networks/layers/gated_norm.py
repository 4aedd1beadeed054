"""Root-mean-square normalization with a gate, as Mamba-2 uses it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class GatedRMSNorm(nn.Module):
    """Root-mean-square normalization over the last dimension together with a SiLU gate.

    Args:
        channels: size of the last dimension.
        eps: added to the mean square.
        norm_before_gate: ``norm(x) * silu(gate)`` instead of ``norm(x * silu(gate))``.

    Source: Dao and Gu 2024, "Transformers are SSMs", section 7.1.
    """

    def __init__(self, channels: int, eps: float = 1e-5, norm_before_gate: bool = False):
        super().__init__()
        self.eps, self.norm_before_gate = eps, norm_before_gate
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Normalizes (..., channels) in float32 or wider; the output has the dtype of ``x``."""
        wide = torch.promote_types(x.dtype, torch.float32)
        gate = F.silu(gate.to(wide))
        y = x.to(wide) if self.norm_before_gate else x.to(wide) * gate
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps) * self.weight.to(wide)
        return (y * gate if self.norm_before_gate else y).to(x.dtype)
