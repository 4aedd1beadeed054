"""Attention biases by distance: index, class token, other grids."""

import pytest
import torch

from custom_networks.layers.relative_position_bias import (
    RelativePositionBias,
    relative_position_index,
    resample_bias_table,
)
from custom_networks.layers.vit_block import ViTBlock, ViTStack


def test_index_follows_its_definition():
    height, width = 3, 4
    index = relative_position_index((height, width))
    for i in range(12):
        for j in range(12):
            dy, dx = i // width - j // width, i % width - j % width
            assert index[i, j] == (dy + height - 1) * (2 * width - 1) + dx + width - 1


def test_index_with_a_class_token():
    index, plain = relative_position_index((2, 3), class_token=True), relative_position_index((2, 3))
    assert torch.equal(index[1:, 1:], plain)
    rows = 3 * 5
    assert index[0, 1:].unique().tolist() == [rows]
    assert index[1:, 0].unique().tolist() == [rows + 1]
    assert index[0, 0] == rows + 2


@pytest.mark.parametrize("class_token", [False, True])
def test_bias_starts_at_zero_and_depends_on_the_distance_only(class_token):
    bias = RelativePositionBias((3, 3), 2, class_token)
    assert not bias().any()
    torch.nn.init.normal_(bias.table)
    matrix = bias()[:, int(class_token) :, int(class_token) :]
    # One step to the right, from several places.
    assert torch.equal(matrix[:, 0, 1], matrix[:, 7, 8])
    assert not torch.equal(matrix[:, 0, 1], matrix[:, 1, 0])
    assert "index" not in bias.state_dict()


def test_tables_move_to_another_grid():
    table = torch.randn(7 * 7 + 3, 2)
    moved = resample_bias_table(table, (4, 4), (6, 5), class_token=True)
    assert moved.shape == (11 * 9 + 3, 2)
    assert torch.equal(moved[-3:], table[-3:])
    # Distance zero stays in the middle.
    torch.testing.assert_close(moved[(11 * 9) // 2], table[(7 * 7) // 2], rtol=0, atol=1e-6)
    assert resample_bias_table(table, (4, 4), (4, 4), class_token=True) is table
    with pytest.raises(ValueError, match="52 rows does not belong"):
        resample_bias_table(table, (4, 4), (6, 5))


def test_bias_is_added_to_the_scaled_logits():
    torch.manual_seed(0)
    stack = ViTStack(8, 1, 2, relative_positions="each_block", grid=(2, 2), layer_scale=0.5)
    block = stack.blocks[0]
    torch.nn.init.normal_(block.attention.position_bias.table)
    tokens = torch.randn(3, 4, 8)
    q, k, v = block.attention.qkv(block.norm1(tokens)).view(3, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 2 + block.attention.position_bias()).softmax(-1)
    mixed = block.attention.out_proj((weights @ v).transpose(1, 2).reshape(3, 4, 8))
    between = tokens + 0.5 * mixed
    torch.testing.assert_close(stack.features(tokens), between + 0.5 * block.mlp(block.norm2(between)))


def test_shared_table_equals_the_same_table_in_each_block():
    torch.manual_seed(0)
    shared = ViTStack(8, 2, 2, relative_positions="shared", grid=(2, 3), class_token=True)
    torch.nn.init.normal_(shared.position_bias.table)
    each = ViTStack(8, 2, 2, relative_positions="each_block", grid=(2, 3), class_token=True)
    each.load_state_dict(shared.state_dict(), strict=False)
    for block in each.blocks:
        block.attention.position_bias.load_state_dict(shared.position_bias.state_dict())
    tokens = torch.randn(2, 7, 8)
    torch.testing.assert_close(shared(tokens), each(tokens))


def test_both_branches_are_scaled_and_unknown_options_refused():
    block = ViTBlock(8, 2, layer_scale=0.0)
    tokens = torch.randn(1, 3, 8)
    assert torch.equal(block(tokens), tokens)
    with pytest.raises(ValueError, match="relative_positions must be one of"):
        ViTStack(8, 1, 2, relative_positions="learned")
    with pytest.raises(ValueError, match="3 rates of stochastic depth for 2 blocks"):
        ViTStack(8, 2, 2, drop_path=[0.0, 0.1, 0.2])


def test_taps_are_the_features_after_each_block():
    torch.manual_seed(0)
    stack = ViTStack(8, 3, 2)
    tokens = torch.randn(1, 5, 8)
    for tap, blocks in zip(stack.taps(tokens, [0, 2]), (1, 3), strict=True):
        assert torch.equal(tap, stack.features(tokens, blocks))
    assert torch.equal(stack.features(tokens, 0), tokens)
