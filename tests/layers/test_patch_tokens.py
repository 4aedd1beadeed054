"""Patch tokens and patch vectors in raster order, for one to three axes."""

import pytest
import torch

from custom_networks.layers.patch_tokens import PatchTokens, patchify, unpatchify


def test_order_inside_a_vector_is_offset_then_channel():
    image = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6)
    vectors = patchify(image, (2, 3))
    assert vectors.shape == (1, 4, 12)
    first = [image[0, c, row, column].item() for row in range(2) for column in range(3) for c in range(2)]
    assert vectors[0, 0].tolist() == first
    assert vectors[0, 1, 0] == image[0, 0, 0, 3]
    assert vectors[0, 2, 1] == image[0, 1, 2, 0]


@pytest.mark.parametrize(("size", "patch"), [((6,), (3,)), ((4, 9), (2, 3)), ((4, 6, 10), (4, 3, 2))])
def test_unpatchify_is_the_inverse(size, patch):
    image = torch.randn(2, 3, *size)
    grid = tuple(s // p for s, p in zip(size, patch, strict=True))
    assert torch.equal(unpatchify(patchify(image, patch), grid, patch), image)


def test_tokens_are_a_linear_map_of_patch_vectors():
    torch.manual_seed(0)
    layer = PatchTokens(2, (4, 6, 2), (2, 3, 1), 5, norm=False)
    image = torch.randn(2, 2, 4, 6, 2)
    weight = layer.projection.weight.movedim(1, -1).flatten(1)
    expected = patchify(image, (2, 3, 1)) @ weight.T + layer.projection.bias
    torch.testing.assert_close(layer(image), expected)
    assert (layer.grid, layer.patches) == ((2, 2, 2), 8)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        PatchTokens(1, (8, 9), 4, 8)
    with pytest.raises(ValueError, match="not a multiple"):
        patchify(torch.zeros(1, 1, 5, 4), (2, 2))
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 8, 8\), got \(2, 3, 8, 8\)"):
        PatchTokens(1, (8, 8), 4, 8)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="do not fit a grid"):
        unpatchify(torch.zeros(1, 5, 4), (2, 2), (2, 2))
