"""Pre-normalized stack of sequence mixers with a float32 residual stream beside the mixers' outputs.

Source: Gu and Dao 2023, "Mamba", and Zhu et al. 2024, "Vision Mamba"; the rotation of both streams before every block
as in Hu et al. 2024, arXiv:2409.07746. Letters: B batch, L length, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import nn
from torch.utils.checkpoint import checkpoint

from custom_networks.layers.bidirectional_mamba import BidirectionalMamba
from custom_networks.layers.convolved_attention import ConvolvedAttention
from custom_networks.layers.drop_path_rates import drop_path_rates
from custom_networks.layers.mamba import Mamba
from custom_networks.layers.mamba2 import Mamba2
from custom_networks.layers.reading_order import SCAN_ORDERS, ReadingOrder
from custom_networks.layers.rotary import Rotation, rotate

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "bimamba_v2": partial(BidirectionalMamba, kind="v2"),
    "bimamba_v1": partial(BidirectionalMamba, kind="v1"),
    "mamba": Mamba,
    "mamba2": Mamba2,
    "attention": ConvolvedAttention,
}

NORMS: dict[str, Callable[..., nn.Module]] = {"rms": nn.RMSNorm, "layer": nn.LayerNorm}

REPRESENTATIONS = ("mixer", "residual", "norm")


class ResidualBlock(nn.Module):
    """Norm and mixer, and perhaps norm and MLP; adds the previous block's output to the residual stream first.

    Args:
        norm: gives a normalization of C channels.
        mixer: (B, L, C) to (B, L, C).
        width: C.
        drop_path: probability that the incoming output of a sample is dropped.
        mixer_drop_path: the same for the output of the mixer where an MLP follows.
        rotate_residual: whether the residual stream turns too.
        transposed: the mixer reads the tokens in the order that is given, instead of as they are.
        mlp_ratio: hidden width of the MLP in units of C; 0 for no MLP.
    """

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        mixer: nn.Module,
        width: int,
        drop_path: float = 0.0,
        mixer_drop_path: float = 0.0,
        rotate_residual: bool = True,
        transposed: bool = False,
        mlp_ratio: float = 0.0,
    ):
        super().__init__()
        self.norm, self.mixer, self.drop_path = norm(), mixer, DropPath(drop_path)
        self.rotate_residual, self.transposed = rotate_residual, transposed
        self.mlp = MLPBlock(width, int(width * mlp_ratio)) if mlp_ratio else None
        self.mlp_norm = norm() if mlp_ratio else None
        self.mixer_drop_path = DropPath(mixer_drop_path) if mlp_ratio else None

    def forward(
        self,
        hidden: torch.Tensor,
        residual: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        order: ReadingOrder | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the block.

        Args:
            hidden: output of the previous block, or the tokens before the first block, (B, L, C).
            residual: residual stream (B, L, C), float32 or wider; None before the first block.
            rotation: cosines and sines for both streams, or None.
            order: how a transposed mixer reads the tokens.

        Returns:
            The output of the mixer, or of the MLP if there is one, and the residual stream before it.
        """
        wide = torch.promote_types(hidden.dtype, torch.float32)
        if residual is None:
            residual = hidden.to(wide)
            turn_all = rotation is not None
        elif rotation is not None and not self.rotate_residual:
            residual, turn_all = residual + self.drop_path(rotate(hidden, rotation)), False
        else:
            residual, turn_all = residual + self.drop_path(hidden), rotation is not None
        # A rotation is linear and dropping a path is a factor: turning the sum equals turning both streams.
        residual = rotate(residual, rotation) if turn_all else residual
        tokens = self.norm(residual)
        mixed = order.undo(self.mixer(order.read(tokens))) if self.transposed else self.mixer(tokens)
        if self.mlp is None:
            return mixed, residual
        residual = residual + self.mixer_drop_path(mixed)
        return self.mlp(self.mlp_norm(residual)), residual


class ResidualStack(nn.Module):
    """Stack of `ResidualBlock`s and a final norm, (B, L, C) to (B, L, C).

    Args:
        width: width C of the tokens.
        depth: number of blocks.
        mixer: a key of `MIXERS`.
        mixer_options: further arguments of the mixer, such as ``d_state``.
        attention_blocks: indices of blocks whose mixer is attention instead.
        attention_options: arguments of :class:`~custom_networks.layers.convolved_attention.ConvolvedAttention`.
        norm: "rms" or "layer".
        norm_eps: its epsilon.
        drop_path: rate of stochastic depth of the last mixer's output, from 0 at the first in equal steps; or all
            rates. A mixer's output is dropped where it joins the residual stream: in the next block, or before the
            final norm.
        rotate_residual: whether the residual stream turns too, where a rotation is given.
        scan_order: "raster" in every block, or "alternating": every second block reads the tokens in the order that is
            given with them, so that two bidirectional blocks see an image in four directions.
        mlp_ratio: hidden width of an MLP after every mixer in units of C; 0, as published, for none.
        checkpointing: recompute every block in the backward pass, so that a training step keeps two streams a block and
            the insides of one block.

    Raises:
        ValueError: for an unknown mixer, norm or order, or an attention block that does not exist.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        mixer: str = "bimamba_v2",
        mixer_options: dict | None = None,
        attention_blocks: Sequence[int] = (),
        attention_options: dict | None = None,
        norm: str = "rms",
        norm_eps: float = 1e-5,
        drop_path: float | Sequence[float] = 0.1,
        rotate_residual: bool = True,
        scan_order: str = "raster",
        mlp_ratio: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        if scan_order not in SCAN_ORDERS:
            raise ValueError(f"scan_order must be one of {', '.join(SCAN_ORDERS)}, got {scan_order!r}")
        if mixer not in MIXERS:
            raise ValueError(f"mixer must be one of {', '.join(MIXERS)}, got {mixer!r}")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if not set(attention_blocks) <= set(range(depth)):
            raise ValueError(f"attention blocks {list(attention_blocks)} are not among the {depth} blocks")
        make_norm = partial(NORMS[norm], width, eps=norm_eps)
        rates = drop_path_rates(drop_path, depth)
        last = rates[-1] if isinstance(drop_path, Sequence) else drop_path
        blocks = []
        for i in range(depth):
            kind, options = ("attention", attention_options) if i in set(attention_blocks) else (mixer, mixer_options)
            rate = rates[i - 1] if i else 0.0
            transposed = scan_order == "alternating" and i % 2 == 1
            made = MIXERS[kind](width, **options or {})
            blocks.append(ResidualBlock(make_norm, made, width, rate, rates[i], rotate_residual, transposed, mlp_ratio))
        self.blocks, self.norm, self.drop_path = nn.ModuleList(blocks), make_norm(), DropPath(last)
        self.alternating, self.checkpointing = scan_order == "alternating", checkpointing

    def streams(
        self,
        tokens: torch.Tensor,
        rotation: Rotation | None = None,
        blocks: int | None = None,
        order: ReadingOrder | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both streams after the first ``blocks`` blocks (None: after all).

        Args:
            tokens: (B, L, C).
            rotation: cosines and sines for both streams, or None.
            blocks: number of blocks to run.
            order: how every second block reads the tokens, where ``scan_order`` is "alternating".

        Returns:
            Output of the last of these blocks, not yet added to the residual stream, and the residual stream before it;
            (B, L, C) each.
        """
        hidden, residual = tokens, None
        for block in self.blocks[:blocks]:
            hidden, residual = self._run(block, hidden, residual, rotation, order)
        return hidden, residual

    def _run(
        self,
        block: nn.Module,
        hidden: torch.Tensor,
        residual: torch.Tensor | None,
        rotation: Rotation | None,
        order: ReadingOrder | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.alternating and order is None:
            raise ValueError("blocks that alternate need the order in which every second one reads the tokens")
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, hidden, residual, rotation, order, use_reentrant=False)
        return block(hidden, residual, rotation, order)

    def features(
        self, tokens: torch.Tensor, blocks: int | None = None, order: ReadingOrder | None = None
    ) -> torch.Tensor:
        """Sum of both streams after the first ``blocks`` blocks (None: after all), not normalized, (B, L, C)."""
        run = len(self.blocks[:blocks])
        return self.taps(tokens, [run - 1], order=order)[0] if run else tokens

    def taps(
        self,
        tokens: torch.Tensor,
        after: Sequence[int],
        rotation: Rotation | None = None,
        order: ReadingOrder | None = None,
    ) -> list[torch.Tensor]:
        """Sums of both streams after the blocks of the given indices, ascending, not normalized, (B, L, C) each."""
        hidden, residual, outputs = tokens, None, []
        for i, block in enumerate(self.blocks[: max(after, default=-1) + 1]):
            hidden, residual = self._run(block, hidden, residual, rotation, order)
            if i in after:
                outputs.append((hidden if i + 1 < len(self.blocks) else self.drop_path(hidden)) + residual)
        return outputs

    def join(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Final sum and norm of the two streams."""
        return self.norm(self.drop_path(hidden) + residual)

    def representation(
        self,
        tokens: torch.Tensor,
        rotation: Rotation | None = None,
        source: str = "norm",
        blocks: int | None = None,
        order: ReadingOrder | None = None,
    ) -> torch.Tensor:
        """One of the representations of the tokens inside the stack, (B, L, C).

        Args:
            tokens: (B, L, C).
            rotation: as for the whole stack.
            source: "mixer": output of the last block that runs, before it joins the residual stream; "residual": the
                residual stream before it; "norm": normalized sum of both.
            blocks: number of blocks to run; None for all.
            order: as for `streams`.

        Raises:
            ValueError: for an unknown source.
        """
        if source not in REPRESENTATIONS:
            raise ValueError(f"source must be one of {', '.join(REPRESENTATIONS)}, got {source!r}")
        hidden, residual = self.streams(tokens, rotation, blocks, order)
        if source == "norm":
            return self.join(hidden, residual)
        return hidden if source == "mixer" else residual

    def forward(
        self, tokens: torch.Tensor, rotation: Rotation | None = None, order: ReadingOrder | None = None
    ) -> torch.Tensor:
        """Mixes tokens (B, L, C); the result is normalized, float32 or wider."""
        return self.join(*self.streams(tokens, rotation, order=order))
