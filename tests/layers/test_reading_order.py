"""Orders in which scans read an image, with hidden patches and class tokens."""

import pytest
import torch

from custom_networks.layers.reading_order import transposed_order
from custom_networks.layers.residual_stack import ResidualStack

CPU = torch.device("cpu")


def tokens_of(*values):
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


def test_columns_of_an_image():
    order = transposed_order((2, 3), CPU)
    raster = tokens_of(0, 1, 2, 3, 4, 5)
    assert order.read(raster).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(order.undo(order.read(raster)), raster)


def test_axes_of_a_volume_are_reversed():
    grid = (2, 3, 4)
    raster = torch.arange(24.0).view(1, 24, 1)
    expected = raster.view(grid).permute(2, 1, 0).reshape(1, 24, 1)
    assert torch.equal(transposed_order(grid, CPU).read(raster), expected)


def test_class_tokens_keep_their_places_and_only_kept_patches_are_read():
    keep = torch.tensor([[1, 3, 4], [0, 2, 5]])
    sequence = torch.tensor([[-1, 1, 3, 4, -2], [-1, 0, 2, 5, -2]]).float().unsqueeze(-1)
    order = transposed_order((2, 3), CPU, class_places=(0, 4), keep=keep)
    assert order.read(sequence).squeeze(-1).tolist() == [[-1, 3, 1, 4, -2], [-1, 0, 2, 5, -2]]
    assert torch.equal(order.undo(order.read(sequence)), sequence)


def stack(**options):
    torch.manual_seed(0)
    return ResidualStack(8, 2, drop_path=0.0, mixer_options={"d_state": 4}, **options).eval()


def test_alternating_blocks_swap_rows_and_columns():
    """An image that is transposed gives the transposed result if the blocks change roles."""
    made = stack(scan_order="alternating")
    swapped = stack(scan_order="alternating")
    for block, other in zip(made.blocks, reversed(swapped.blocks), strict=True):
        block.load_state_dict(stack().blocks[0].state_dict())
        other.load_state_dict(stack().blocks[0].state_dict())
    for i, block in enumerate(swapped.blocks):
        block.transposed = i == 0
    image = torch.randn(2, 3, 5, 8)
    ours = made(image.flatten(1, 2), order=transposed_order((3, 5), CPU))
    theirs = swapped(image.transpose(1, 2).flatten(1, 2), order=transposed_order((5, 3), CPU))
    torch.testing.assert_close(ours.unflatten(1, (3, 5)).transpose(1, 2), theirs.unflatten(1, (5, 3)))
    raster = stack()
    raster.load_state_dict(made.state_dict())
    assert not torch.allclose(raster(image.flatten(1, 2)), ours)


def test_alternating_blocks_need_an_order():
    with pytest.raises(ValueError, match="need the order"):
        stack(scan_order="alternating")(torch.randn(1, 6, 8))
    with pytest.raises(ValueError, match="scan_order must be one of"):
        stack(scan_order="spiral")
