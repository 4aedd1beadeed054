"""Patches: whole ones only, ordered (channel, axes), undone by the inverse; embedding is a linear map of them."""

import pytest
import torch

from custom_networks.layers.patch_embedding import PatchEmbedding, patch_grid
from custom_networks.layers.patches import from_patches, to_patches


@pytest.mark.parametrize(("size", "patch"), [((5, 7), (2, 3)), ((4, 9, 5), (1, 4, 2)), ((3, 3, 3), (3, 3, 3))])
def test_patches_are_cut_out_and_put_back(size, patch):
    image = torch.randn(2, 3, *size)
    grid = patch_grid(size, patch)
    patches = to_patches(image, patch)
    assert patches.shape == (2, *grid, 3 * torch.Size(patch).numel())
    where = tuple(slice(step * (count - 1), step * count) for count, step in zip(grid, patch, strict=True))
    last = image[(slice(None), slice(None), *where)].flatten(1)
    assert torch.equal(patches[(slice(None), *[-1] * len(grid))], last)
    covered = image[(..., *(slice(count * step) for count, step in zip(grid, patch, strict=True)))]
    assert torch.equal(from_patches(patches, 3, patch), covered)


def test_embedding_is_a_linear_map_of_patches():
    embedding, image = PatchEmbedding(2, 5, (2, 3, 4)), torch.randn(2, 2, 4, 7, 9)
    weight, bias = embedding.projection.weight.flatten(1), embedding.projection.bias
    expected = to_patches(image, (2, 3, 4)) @ weight.T + bias
    torch.testing.assert_close(embedding(image), expected, rtol=1e-5, atol=1e-5)


def test_images_without_a_whole_patch_are_refused():
    with pytest.raises(ValueError, match="does not hold a patch"):
        patch_grid((4, 2), (2, 3))
    with pytest.raises(ValueError, match="differ in dimensions"):
        patch_grid((4, 4, 4), (2, 2))
