"""Rotary codes: what turns, by how much, and what must stay."""

import math

import pytest
import torch

from custom_networks.layers.rotary import (
    check_rotary,
    grid_rotation,
    rotate,
    rotation_of,
    sequence_rotation,
    with_unrotated_tokens,
)


def test_pairs_turn_by_their_angle_and_other_channels_stay():
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    y = rotate(x, sequence_rotation(5, 12, None))
    as_complex = torch.view_as_complex(x[..., :6].unflatten(-1, (3, 2)).contiguous())
    angles = torch.arange(5)[:, None] * torch.tensor([10000 ** (-j / 3) for j in range(3)])
    expected = torch.view_as_real(as_complex * torch.polar(torch.ones(5, 3), angles)).flatten(-2)
    torch.testing.assert_close(y[..., :6], expected)
    assert torch.equal(y[..., 6:], x[..., 6:])


def test_published_axial_code_ignores_the_first_axis():
    cos, sin = (t.reshape(3, 2, 4, -1) for t in grid_rotation("axial_two_of_three", (3, 2, 4), 8, None))
    assert cos.shape == (3, 2, 4, 4)
    assert torch.equal(cos[0], cos[2])
    # Axis 1 turns the first half, axis 2 the second; positions in fourteenths of the field of view.
    torch.testing.assert_close(sin[0, 1, 0], torch.tensor([math.sin(7.0), math.sin(0.07), 0, 0]))
    torch.testing.assert_close(sin[0, 0, 3], torch.tensor([0, 0, math.sin(10.5), math.sin(0.105)]))


def test_three_axes_share_the_channels_and_all_matter():
    cos, _ = (t.reshape(2, 3, 4, -1) for t in grid_rotation("axial_three", (2, 3, 4), 16, None))
    assert cos.shape[-1] == 8
    changes = [torch.nonzero(cos.select(axis, 0).ne(cos.select(axis, 1)).flatten(0, 1).any(0)) for axis in range(3)]
    assert [c.flatten().tolist() for c in changes] == [[0, 1], [2, 3], [4, 5, 6, 7]]


def test_class_tokens_do_not_turn_and_kept_patches_turn_as_in_the_image():
    grid, tokens = (2, 3), torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    keep = torch.tensor([[5, 0, 2], [1, 3, 4]])
    whole = grid_rotation("axial_three", grid, 8, None)
    cos, sin = rotation_of("axial_three", tokens, grid, (0,), keep)
    assert cos.shape == (2, 4, 4)
    assert torch.equal(rotate(tokens, (cos, sin))[:, 0], tokens[:, 0])
    assert torch.equal(sin[1, 1:], whole[1][keep[1]])
    middle = with_unrotated_tokens(whole, (3,))
    assert torch.equal(middle[0][3], torch.ones(4))
    assert torch.equal(middle[1][4:], whole[1][3:])
    assert rotation_of("none", tokens, grid) is None


def test_late_positions_are_as_exact_as_early_ones():
    cos, sin = sequence_rotation(64_001, 8, None)
    assert cos[-1, 0].item() == pytest.approx(math.cos(64_000), abs=1e-6)
    assert (cos.square() + sin.square() - 1).abs().max() < 1e-6


def test_unknown_kinds_and_widths_are_refused():
    with pytest.raises(ValueError, match="rotary must be one of"):
        check_rotary("spiral", 8)
    with pytest.raises(ValueError, match="divisible by 4"):
        check_rotary("sequence_half", 6)
