"""Enclosed volumes: planes, who sits where, shared tokens, gradients."""

import copy

import pytest
import torch

from custom_networks.layers.enclosure_tokens import EnclosureLayout, EnclosureTokens, plane_indices
from custom_networks.layers.separable_positions import SeparablePositions


@pytest.mark.parametrize(
    ("size", "registers", "expected"),
    [(67, 1, [0, 33, 66]), (10, 1, [0, 4, 9]), (35, 1, [0, 17, 34]), (31, 1, [0, 15, 30]), (9, 2, [0, 2, 5, 8])],
)
def test_planes_of_the_published_volumes(size, registers, expected):
    assert plane_indices(size, registers) == expected


@pytest.mark.parametrize(
    ("grid", "registers", "size", "shell"),
    [((64, 7, 7), (1, 1, 1), (67, 10, 10), 3564), ((32, 28, 28), (1, 1, 1), (35, 31, 31), 8547)],
)
def test_token_counts_of_the_published_volumes(grid, registers, size, shell):
    layout = EnclosureLayout(grid, registers)
    assert layout.size == size
    assert len(layout.shell_cells) == shell
    assert len(layout.patch_cells) == torch.Size(grid).numel()
    assert len(layout.crossings()) == 27


@pytest.mark.parametrize("registers", [(0, 0, 0), (1, 0, 2), (3, 1, 1)])
def test_every_grid_finds_a_cell_for_every_patch(registers):
    for grid in [(1, 1, 1), (2, 3, 1), (5, 4, 3), (9, 2, 6)]:
        layout = EnclosureLayout(grid, registers)
        cells = sorted([*layout.patch_cells, *layout.shell_cells])
        assert cells == list(range(torch.Size(layout.size).numel()))
        assert len(layout.patch_cells) == torch.Size(grid).numel()
        assert (layout.shell_kinds == 26).any() == (max(registers) > 0)


def filled(kind, registers=(1, 0, 1)):
    torch.manual_seed(0)
    layer = EnclosureTokens(3, EnclosureLayout((2, 3, 2), registers), kind)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("kind", ["separate", "group_unified", "all_unified"])
def test_patches_and_tokens_in_their_cells_with_gradients(kind):
    layer, layout = filled(kind), EnclosureLayout((2, 3, 2), (1, 0, 1))
    patches = torch.randn(2, 12, 3, requires_grad=True)
    volume = layer(patches)
    assert torch.equal(volume[:, layout.patch_cells], patches)
    assert torch.equal(volume[0, layout.shell_cells], layer.table()[layout.shell_kinds])
    volume.sum().backward()
    assert torch.equal(patches.grad, torch.ones_like(patches))
    used = sum(p.grad.sum() for p in layer.parameters())
    assert used == 2 * 3 * len(layout.shell_cells)


def test_shared_tokens_follow_a_copy_and_their_parameters():
    layer = copy.deepcopy(filled("all_unified"))
    assert [tuple(p.shape) for p in layer.parameters()] == [(1, 1, 1, 1, 3)]
    torch.nn.init.ones_(layer.token)
    assert torch.equal(layer.table(), torch.ones(27, 3))
    assert len(list(filled("group_unified").parameters())) == 4
    assert len(list(filled("group_unified", (0, 0, 0)).parameters())) == 3
    assert "register" not in filled("separate", (0, 0, 0)).state_dict()


def test_indices_are_no_state_and_move_with_the_module():
    layer = filled("separate")
    assert set(layer.state_dict()) == {"faces", "edges", "corners", "register"}
    assert layer.to("meta").order.device.type == "meta"


def test_low_precision_patches_widen_to_the_tokens():
    assert filled("separate")(torch.randn(1, 12, 3).bfloat16()).dtype == torch.float32


def test_bad_arguments():
    with pytest.raises(ValueError, match="enclosure must be one of"):
        filled("none")
    with pytest.raises(ValueError, match="must not be negative"):
        EnclosureLayout((2, 2, 2), (0, -1, 0))


def test_positions_add_up_or_stay_zero():
    torch.manual_seed(0)
    layer, volume = SeparablePositions(2, (2, 3, 4)), torch.randn(2, 2, 3, 4, 2)
    cell = layer.frames[0, 1, 0, 0] + layer.rows[0, 0, 2, 0] + layer.columns[0, 0, 0, 3]
    torch.testing.assert_close(layer(volume)[1, 1, 2, 3], volume[1, 1, 2, 3] + cell)
    off = SeparablePositions(2, (2, 3, 4), learned=False)
    assert torch.equal(off(volume), volume)
    assert not list(off.parameters())
    assert set(off.state_dict()) == set(layer.state_dict())
