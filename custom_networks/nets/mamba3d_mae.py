"""E-ViM3's masked autoencoder: the encoder sees a part of the patches, a decoder predicts the pixels of the others.

Source: arXiv:2503.20258 and its published code. Letters: B batch, N patches, P values of a patch, D width.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from custom_networks.layers.chained_masking import ChainedMasking
from custom_networks.layers.masked_prediction import MaskedPrediction
from custom_networks.layers.patches import from_patches, to_patches
from custom_networks.layers.scan_orders import KeptOrders, VolumeOrders
from custom_networks.nets.mamba3d import Mamba3DEncoder


class Mamba3DMAE(nn.Module):
    """Clips (B, C, L, H, W) to predictions of their patches, a `MaskedPrediction`.

    Masked patches are dropped before the encoder's blocks; the global tokens always stay. The decoder runs over the
    whole volume at the encoder's width, with position tables of its own that start as copies of the encoder's. Targets
    are the pixels of the network's input, not normalized per patch.

    Args:
        decoder_blocks: Mamba-3D blocks of the decoder.
        mask_ratio: share of the mask cells to hide.
        time_mask_chain: frames of patches that are hidden together.
        mask_chain: rows and columns of patches that are hidden together.
        mask_per_sample: with chains too, draw another mask for every sample.
        decoder_sees_mask_tokens_only: every patch is replaced by the mask token before the decoder, so that only global
            tokens carry information, and the loss covers every patch.
        **encoder: arguments of :class:`~custom_networks.nets.mamba3d.Mamba3DEncoder`.

    Raises:
        ValueError: for unknown names, or a clip of another size than the network was built for.

    Deviation: ``encoder_mask_token`` of the published network never influences anything. Its values are kept, but it
        takes no part in the computation and has no gradient.
    """

    def __init__(
        self,
        decoder_blocks: int = 2,
        mask_ratio: float = 0.8,
        time_mask_chain: int = 4,
        mask_chain: int = 1,
        mask_per_sample: bool = False,
        decoder_sees_mask_tokens_only: bool = False,
        **encoder: Any,
    ):
        super().__init__()
        self.encoder = Mamba3DEncoder(**encoder)
        if len(self.encoder.line_blocks):
            raise ValueError("line blocks scan whole lines and cannot run on visible patches only")
        dim, self.patch_size = self.encoder.embed_dim, self.encoder.patch_size
        self.masking = ChainedMasking(
            self.encoder.layout.grid, mask_ratio, time_mask_chain, mask_chain, mask_per_sample
        )
        self.decoder_sees_mask_tokens_only = decoder_sees_mask_tokens_only
        self.encoder_mask_token = nn.Parameter(torch.randn(1, dim), requires_grad=False)
        self.mask_token = nn.Parameter(torch.randn(1, dim))
        self.decoder_positions = copy.deepcopy(self.encoder.positions)
        self.decoder_blocks = self.encoder.make_blocks(decoder_blocks)
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_head = nn.Linear(dim, self.encoder.in_channels * math.prod(self.patch_size))

    def forward(
        self,
        image: torch.Tensor,
        mask_cells: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> MaskedPrediction:
        """Hides patches and predicts all of them.

        Args:
            image: (B, C, L, H, W).
            mask_cells: boolean draw, True = hidden: (1, cells) for the whole batch or (B, cells), where the masks must
                hide equally many patches; see :class:`~custom_networks.layers.chained_masking.ChainedMasking`. Drawn if
                None.
            generator: for the draw, on the CPU; the global one if None.

        Returns:
            Patches in row-major order (frames, rows, columns), their values ordered (channel, frame, row, column).
        """
        batch = image.shape[0]
        if mask_cells is None:
            mask_cells = self.masking.draw(batch, generator)
        hidden = self.masking.spread(mask_cells.to(image.device)).flatten(1)
        encoded, orders = self.encode_visible(image, hidden)
        prediction = self.predict(self.decoder_input(encoded, orders))
        target = to_patches(image, self.patch_size).flatten(1, 3)
        hidden = hidden.expand(batch, -1)
        scored = torch.ones_like(hidden) if self.decoder_sees_mask_tokens_only else hidden
        return MaskedPrediction(prediction, target, hidden, scored.to(target.dtype))

    def encode_visible(self, image: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, KeptOrders]:
        """Encodes the global tokens and the patches that are not hidden.

        Args:
            image: (B, C, L, H, W).
            hidden: boolean (1, N) or (B, N).

        Returns:
            Kept tokens (B, K, D) in row-major order, and where they belong.
        """
        size, batch = self.encoder.layout.size, image.shape[0]
        keep = hidden.new_ones(hidden.shape[0], math.prod(size))
        keep[:, self.encoder.patch_cells] = ~hidden
        orders = KeptOrders.of(keep, size, batch)
        tokens = orders.take(self.encoder.embed(image).flatten(1, 3))
        return self.encoder.encode_kept(tokens, orders), orders

    def decoder_input(self, kept: torch.Tensor, orders: KeptOrders) -> torch.Tensor:
        """Volume (B, L, H, W, D) of kept tokens, the mask token in all other cells, and the decoder's positions."""
        size = self.encoder.layout.size
        mask_token = self.mask_token.to(kept.dtype)
        tokens = orders.put(kept, mask_token.expand(kept.shape[0], math.prod(size), -1))
        if self.decoder_sees_mask_tokens_only:
            patches = mask_token.expand(kept.shape[0], len(self.encoder.patch_cells), -1)
            tokens = tokens.index_copy(1, self.encoder.patch_cells, patches)
        return self.decoder_positions(tokens.unflatten(1, size))

    def predict(self, volume: torch.Tensor) -> torch.Tensor:
        """Runs the decoder over a volume (B, L, H, W, D); patches (B, N, P)."""
        tokens, orders = volume.flatten(1, 3), VolumeOrders(self.encoder.layout.size)
        for block in self.decoder_blocks:
            tokens = block(tokens, orders)
        return self.decoder_head(self.decoder_norm(tokens.index_select(1, self.encoder.patch_cells)))

    def to_image(self, patches: torch.Tensor) -> torch.Tensor:
        """Clip (B, C, L, H, W) of patch values (B, N, P)."""
        grid = self.encoder.layout.grid
        return from_patches(patches.unflatten(1, grid), self.encoder.in_channels, self.patch_size)

    def reconstruct(self, output: MaskedPrediction) -> torch.Tensor:
        """Clip (B, C, L, H, W) of the visible patches as they are and the predicted hidden ones."""
        mask = output.mask.unsqueeze(-1)
        return self.to_image(torch.where(mask, output.prediction.to(output.target.dtype), output.target))
