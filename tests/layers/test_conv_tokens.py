"""Convolution stages below a token encoder: shapes, masks, and what they may not see."""

import pytest
import torch

from custom_networks.layers.conv_tokens import ConvTokens, MaskedConvBlock


def stages(**changes):
    torch.manual_seed(0)
    arguments = {
        "in_channels": 2,
        "image_size": (24, 16),
        "patch_sizes": (2, 2, 2),
        "widths": (4, 6, 8),
        "depths": (1, 2),
        "mlp_ratios": (2, 3),
    }
    return ConvTokens(**arguments | changes).eval()


def test_maps_and_tokens():
    made = stages()
    first, second, tokens = made.maps(torch.randn(3, 2, 24, 16))
    assert (first.shape, second.shape, tokens.shape) == ((3, 4, 12, 8), (3, 6, 6, 4), (3, 6, 8))
    assert (made.grid, made.patch_size, made.cells) == ((3, 2), (8, 8), [4, 2])
    image = torch.randn(1, 2, 24, 16)
    assert torch.equal(made(image), made.maps(image)[2])


def test_nothing_visible_depends_on_hidden_pixels():
    made = stages()
    visible = torch.tensor([[True, False, True, False, False, True]])
    image = torch.randn(1, 2, 24, 16)
    pixels = visible.view(1, 1, 3, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    other = torch.where(pixels, image, torch.randn(1, 2, 24, 16) * 5)
    for cells, ours, theirs in zip((4, 2), made.maps(image, visible), made.maps(other, visible), strict=False):
        shown = visible.view(1, 1, 3, 2).repeat_interleave(cells, 2).repeat_interleave(cells, 3).expand_as(ours)
        assert torch.equal(ours[shown], theirs[shown])
        assert not torch.equal(ours, theirs)
    ours, theirs = made.maps(image, visible)[2], made.maps(other, visible)[2]
    assert torch.equal(ours[visible], theirs[visible])
    # Without the mask they do depend on them.
    assert not torch.allclose(made(image)[visible], made(other)[visible])


def test_all_visible_equals_no_mask():
    made, image = stages(), torch.randn(2, 2, 24, 16)
    ours = made.maps(image, torch.ones(2, 6, dtype=torch.bool))
    for a, b in zip(ours, made.maps(image), strict=True):
        assert torch.equal(a, b)


def test_block_reaches_two_cells():
    torch.manual_seed(0)
    block = MaskedConvBlock(3).eval()
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    block(x)[0, :, 4, 4].sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    assert seen[2:7, 2:7].all()
    assert seen.sum() == 25


def test_stochastic_depth_of_every_block():
    made = stages(drop_path=[0.1, 0.2, 0.3])
    assert [block.drop_path.drop_prob for stage in made.stages for block in stage] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (24, 18)}, "not a multiple"),
        ({"patch_sizes": (4, 2)}, "three patch sizes"),
        ({"depths": (1, 1, 1)}, "two depths"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        stages(**changes)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 2, 24, 16\)"):
        stages()(torch.randn(1, 2, 16, 24))
