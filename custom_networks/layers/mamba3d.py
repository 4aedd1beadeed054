"""Mamba-3D macro-block: six Mamba stacks in series that read a volume along three orders of its axes, both ways.

Source: arXiv:2503.20258 (E-ViM3) and its published code. Letters: B batch, T tokens, C width; orders of axes as in
:mod:`custom_networks.layers.scan_orders`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from custom_networks.layers.mamba_stack import MambaStack
from custom_networks.layers.scan_orders import KeptOrders, VolumeOrders

ORDERS = ("hwl", "lwh", "lhw")
STACKS_PER_BLOCK = 2 * len(ORDERS)


class Mamba3DBlock(nn.Module):
    """Six stacks in series; tokens (B, T, C) in row-major order in and out.

    Args:
        width: width C.
        depth: layers of every stack.
        checkpointing: recompute each stack in the backward pass, so that a training step keeps one tensor a stack.
        **stack: further arguments of :class:`~custom_networks.layers.mamba_stack.MambaStack`, the same for all.
    """

    def __init__(self, width: int, depth: int = 1, checkpointing: bool = False, **stack: object):
        super().__init__()
        self.checkpointing = checkpointing
        for order in ORDERS:
            self.add_module(order, MambaStack(width, depth, reverse=False, **stack))
            self.add_module(f"{order}_reverse", MambaStack(width, depth, reverse=True, **stack))

    def forward(self, tokens: torch.Tensor, orders: VolumeOrders | KeptOrders) -> torch.Tensor:
        """Runs the six stacks over all tokens as one sequence each, re-ordered between them by ``orders``."""
        tokens = self._both_ways("hwl", orders.lhw_to_hwl(tokens))
        tokens = self._both_ways("lwh", orders.hwl_to_lwh(tokens))
        return self._both_ways("lhw", orders.lwh_to_lhw(tokens))

    def forward_frames(self, volume: torch.Tensor) -> torch.Tensor:
        """Runs the four stacks that scan within a frame on every frame by itself; volume (B, L, H, W, C)."""
        frames = volume.flatten(0, 1)
        columns_first = self._both_ways("lwh", frames.transpose(1, 2).flatten(1, 2))
        rows, columns = volume.shape[2:4]
        rows_first = columns_first.unflatten(1, (columns, rows)).transpose(1, 2).flatten(1, 2)
        return self._both_ways("lhw", rows_first).view(volume.shape)

    def _both_ways(self, order: str, tokens: torch.Tensor) -> torch.Tensor:
        """The forward and the reverse stack of an order."""
        for name in (order, f"{order}_reverse"):
            stack = self.get_submodule(name)
            if self.checkpointing and self.training and torch.is_grad_enabled():
                tokens = checkpoint(stack, tokens, use_reentrant=False)
            else:
                tokens = stack(tokens)
        return tokens
