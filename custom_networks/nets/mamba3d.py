"""E-ViM3's encoder of videos: patches and global tokens in one volume, scanned by Mamba-3D blocks.

Source: "Mamba-3D as Masked Autoencoders for Accurate and Data-Efficient Analysis of Medical Ultrasound Videos",
arXiv:2503.20258, and its published code. Letters: B batch, C channels, D width; (L, H, W) are frames, rows and columns
of the volume: the patch grid, two planes of the shell and the register planes along each axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.layers.enclosure_tokens import EnclosureLayout, EnclosureTokens
from custom_networks.layers.global_line_block import GlobalLineBlock
from custom_networks.layers.mamba3d import STACKS_PER_BLOCK, Mamba3DBlock
from custom_networks.layers.patch_embedding import PatchEmbedding, patch_grid
from custom_networks.layers.scan_orders import KeptOrders, VolumeOrders
from custom_networks.layers.separable_positions import SeparablePositions


class Mamba3DEncoder(nn.Module):
    """Encoder of clips (B, in_channels, frames, height, width) to volumes of tokens (B, L, H, W, D).

    Args:
        in_channels: channels of the clip.
        clip_size: (frames, height, width); pixels and frames behind the last whole patch are ignored.
        time_patch_size: frames of a patch.
        patch_size: height and width of a patch in pixels.
        embed_dim: width D.
        num_macro_blocks: number of Mamba-3D blocks of six stacks each.
        layers_per_stack: Mamba layers of every stack.
        register_planes: planes of global tokens through the inside, along (frames, rows, columns).
        mixer: "mamba", "mamba2", "bimamba_v1", "bimamba_v2" or "bimamba2".
        mixer_options: further arguments of the mixer, such as ``d_state``.
        norm: "layer" or "rms".
        enclosure: "separate" global tokens for each face, edge and corner, or shared ones: "group_unified",
            "all_unified".
        position_embedding: whether positions are learned; they stay zero otherwise.
        drop_path: rate of stochastic depth of every layer.
        num_line_blocks: blocks behind the others that scan the lines through global tokens only; not used by a
            published model.
        checkpointing: recompute each stack in the backward pass: less memory, about a third more time.

    Raises:
        ValueError: for unknown names, or a clip that does not hold a patch.

    Deviation: tokens are float32 or wider before positions are added, also under autocast.
    """

    def __init__(
        self,
        in_channels: int = 1,
        clip_size: Sequence[int] = (64, 112, 112),
        time_patch_size: int = 1,
        patch_size: int = 16,
        embed_dim: int = 384,
        num_macro_blocks: int = 6,
        layers_per_stack: int = 1,
        register_planes: Sequence[int] = (1, 1, 1),
        mixer: str = "mamba",
        mixer_options: dict | None = None,
        norm: str = "layer",
        enclosure: str = "separate",
        position_embedding: bool = True,
        drop_path: float = 0.0,
        num_line_blocks: int = 0,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.in_channels, self.clip_size, self.embed_dim = in_channels, tuple(clip_size), embed_dim
        self.patch_size = (time_patch_size, patch_size, patch_size)
        self.layout = EnclosureLayout(patch_grid(clip_size, self.patch_size), register_planes)
        self.stack_options = {"mixer": mixer, "mixer_options": mixer_options, "norm": norm}
        self.layers_per_stack, self.checkpointing = layers_per_stack, checkpointing

        self.patch_embedding = PatchEmbedding(in_channels, embed_dim, self.patch_size)
        self.enclosure = EnclosureTokens(embed_dim, self.layout, enclosure)
        self.positions = SeparablePositions(embed_dim, self.layout.size, position_embedding)
        self.blocks = self.make_blocks(num_macro_blocks, drop_path)
        self.line_blocks = nn.ModuleList(
            GlobalLineBlock(embed_dim, self.layout.size, self.layout.planes, layers_per_stack, **self.stack_options)
            for _ in range(num_line_blocks)
        )
        self.register_buffer("patch_cells", torch.tensor(self.layout.patch_cells), persistent=False)

    def make_blocks(self, count: int, drop_path: float = 0.0) -> nn.ModuleList:
        """A tower of ``count`` Mamba-3D blocks with this encoder's width and mixers; a decoder's, for instance."""
        tower_layers = STACKS_PER_BLOCK * count * self.layers_per_stack
        return nn.ModuleList(
            Mamba3DBlock(
                self.embed_dim,
                self.layers_per_stack,
                self.checkpointing,
                tower_layers=tower_layers,
                drop_path=drop_path,
                **self.stack_options,
            )
            for _ in range(count)
        )

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens before the blocks, with their positions, (B, L, H, W, D).

        Raises:
            ValueError: if the clip is not of the size that the network was built for.
        """
        if tuple(image.shape[1:]) != (self.in_channels, *self.clip_size):
            raise ValueError(
                f"clips must have shape (B, {', '.join(map(str, (self.in_channels, *self.clip_size)))}), "
                f"got {tuple(image.shape)}"
            )
        patches = self.patch_embedding(image).flatten(1, 3)
        return self.positions(self.enclosure(patches).unflatten(1, self.layout.size))

    def encode(self, volume: torch.Tensor) -> torch.Tensor:
        """Runs the blocks over all tokens of a volume (B, L, H, W, D)."""
        tokens, orders = volume.flatten(1, 3), VolumeOrders(self.layout.size)
        for block in self.blocks:
            tokens = block(tokens, orders)
        volume = tokens.unflatten(1, self.layout.size)
        for block in self.line_blocks:
            volume = block(volume)
        return volume

    def encode_frames(self, volume: torch.Tensor) -> torch.Tensor:
        """Runs only the stacks that scan within a frame, over every plane of frames of (B, L, H, W, D) by itself."""
        for block in self.blocks:
            volume = block.forward_frames(volume)
        return volume

    def encode_kept(self, tokens: torch.Tensor, orders: KeptOrders) -> torch.Tensor:
        """Runs the blocks over kept tokens (B, K, D) only, in row-major order.

        Raises:
            ValueError: if the encoder has line blocks, which need the whole volume.
        """
        if len(self.line_blocks):
            raise ValueError("line blocks scan whole lines and cannot run on kept tokens only")
        for block in self.blocks:
            tokens = block(tokens, orders)
        return tokens

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encodes a clip."""
        return self.encode(self.embed(image))

    def patch_tokens(self, volume: torch.Tensor) -> torch.Tensor:
        """Tokens of the patches in row-major order, (B, patches, D)."""
        return volume.flatten(1, 3).index_select(1, self.patch_cells)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along (frames, rows, columns)."""
        return tuple(self.layout.grid)

    def token_features(self, image: torch.Tensor, blocks: int | None = None) -> torch.Tensor:
        """Tokens of the patches after the last block, (B, patches, D) in row-major order, for maps.

        Args:
            image: (B, in_channels, *clip_size).
            blocks: number of blocks to run; None for all.
        """
        tokens, orders = self.embed(image).flatten(1, 3), VolumeOrders(self.layout.size)
        for block in self.blocks[:blocks]:
            tokens = block(tokens, orders)
        return tokens.index_select(1, self.patch_cells)
