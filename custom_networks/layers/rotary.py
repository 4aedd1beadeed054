"""Rotary position codes for token streams.

Source: Su et al. 2021, "RoFormer"; the two published codes of Hu et al. 2024, arXiv:2409.07746 (after Vision Mamba),
and one that treats all axes alike. Letters: B batch, L tokens, C width, R rotated pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

KINDS = ("none", "sequence_half", "axial_two_of_three", "axial_three")

# Positions are measured in fourteenths of the field of view, the grid of the image networks that the code comes from.
_FIELD_OF_VIEW = 14.0

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, (L, R) or (B, L, R)."""


def rotary_frequencies(pairs: int, device: torch.device | None = None) -> torch.Tensor:
    """Angle a unit of distance of each channel pair, (pairs,) in float64."""
    return 10000.0 ** (-torch.arange(pairs, dtype=torch.float64, device=device) / pairs)


def _pairs_of_axes(kind: str, axes: int, width: int) -> list[tuple[int, int]]:
    """(axis, pairs of channels) in channel order."""
    used = list(range(axes))[-2:] if kind == "axial_two_of_three" else list(range(axes))
    pairs = [width // 2 // len(used)] * len(used)
    # Not in place: while a network is traced, widths are tensors, and this one stands in the list several times.
    pairs[-1] = pairs[-1] + width // 2 - sum(pairs)
    return list(zip(used, pairs, strict=True))


def check_rotary(kind: str, width: int) -> None:
    """Checks that a width can be rotated.

    Raises:
        ValueError: for an unknown kind, or a width that does not divide into pairs.
    """
    if kind not in KINDS:
        raise ValueError(f"rotary must be one of {', '.join(KINDS)}, got {kind!r}")
    divisor = {"none": 1, "axial_three": 2}.get(kind, 4)
    if width % divisor:
        raise ValueError(f"rotary {kind!r} needs a width divisible by {divisor}, got {width}")


def sequence_rotation(length: int, width: int, device: torch.device) -> Rotation:
    """Rotation by the place in the sequence as it is fed; only the first half of the channels turns.

    Returns:
        Cosines and sines (length, width / 4) in float32.
    """
    angles = torch.arange(length, dtype=torch.float64, device=device)[:, None] * rotary_frequencies(width // 4, device)
    return angles.cos().float(), angles.sin().float()


def grid_rotation(kind: str, grid: Sequence[int], width: int, device: torch.device) -> Rotation:
    """Rotation by the place in the image grid; all channels turn.

    "axial_two_of_three" gives half of the channels to each of the last two axes, so that the first axis of a volume
    does not enter, as published. "axial_three" divides the channels among all axes. Positions are relative to the
    field of view, so that they stay comparable when the grid changes.

    Returns:
        Cosines and sines (L, width / 2) in float32, tokens in raster order.
    """
    cosines, sines = [], []
    for axis, pairs in _pairs_of_axes(kind, len(grid), width):
        position = torch.arange(grid[axis], dtype=torch.float64, device=device) * (_FIELD_OF_VIEW / grid[axis])
        angles = position[:, None] * rotary_frequencies(pairs, device)
        shape = [1] * len(grid) + [pairs]
        shape[axis] = grid[axis]
        for parts, values in ((cosines, angles.cos()), (sines, angles.sin())):
            parts.append(values.float().reshape(shape).expand(*grid, pairs))
    length = math.prod(grid)
    return torch.cat(cosines, dim=-1).reshape(length, -1), torch.cat(sines, dim=-1).reshape(length, -1)


def with_unrotated_tokens(rotation: Rotation, places: Sequence[int]) -> Rotation:
    """Inserts tokens that do not turn (class tokens) so that they stand at ``places`` of the longer sequence.

    Args:
        rotation: cosines and sines (…, L, R).
        places: ascending indices in the result.
    """
    cos, sin = rotation
    for place in places:
        row = cos[..., :1, :]
        cos = torch.cat([cos[..., :place, :], torch.ones_like(row), cos[..., place:, :]], dim=-2)
        sin = torch.cat([sin[..., :place, :], torch.zeros_like(row), sin[..., place:, :]], dim=-2)
    return cos, sin


def rotation_of(
    kind: str,
    tokens: torch.Tensor,
    grid: Sequence[int],
    class_places: Sequence[int] = (),
    keep: torch.Tensor | None = None,
) -> Rotation | None:
    """Rotation of a token sequence.

    Args:
        kind: one of `KINDS`.
        tokens: the sequence (B, L, C), for its length, width and device.
        grid: patches along every axis.
        class_places: where class tokens stand in the sequence; they do not turn, except in "sequence_half".
        keep: raster indices of the patches in the sequence (B, K); None for all, in raster order.
    """
    if kind == "none":
        return None
    if kind == "sequence_half":
        return sequence_rotation(tokens.shape[1], tokens.shape[2], tokens.device)
    rotation = grid_rotation(kind, grid, tokens.shape[2], tokens.device)
    if keep is not None:
        rotation = (rotation[0][keep], rotation[1][keep])
    return with_unrotated_tokens(rotation, class_places)


def rotate(tokens: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Turns channel pairs (2j, 2j + 1) of tokens (B, L, C) by the j-th angle; further channels stay as they are.

    The result is float32 or wider.
    """
    cos, sin = rotation
    turned = 2 * cos.shape[-1]
    even, odd = tokens[..., :turned].unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
    return rotated if turned == tokens.shape[-1] else torch.cat([rotated, tokens[..., turned:]], dim=-1)
