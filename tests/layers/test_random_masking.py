"""Masking by noise: counts, order, and the way back."""

import pytest
import torch

from custom_networks.layers.masked_prediction import (
    compare_patches,
    destandardize_patches,
    masked_patch_loss,
    standardize_patches,
)
from custom_networks.layers.random_masking import random_mask, restore_tokens, take_tokens


def noise(batch: int, length: int) -> torch.Tensor:
    return torch.rand(batch, length, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("length", "ratio", "kept"), [(100, 0.9, 9), (27, 0.75, 6), (8, 0.6, 3), (5, 0.0, 5)])
@pytest.mark.parametrize("order", ["shuffle", "raster"])
def test_keeps_the_smallest_noise_and_restores_everything(length, ratio, kept, order):
    values = noise(3, length)
    mask = random_mask(values, ratio, order)
    assert mask.keep.shape == (3, kept)
    assert torch.equal((~mask.hidden).sum(1), torch.full((3,), kept))
    for sample in range(3):
        smallest = values[sample].argsort()[:kept]
        expected = smallest if order == "shuffle" else smallest.sort().values
        assert torch.equal(mask.keep[sample], expected)
    tokens = torch.randn(3, length, 4, generator=torch.Generator().manual_seed(1))
    filler = torch.full((1, 1, 4), 7.0)
    restored = restore_tokens(take_tokens(tokens, mask.keep), filler, mask.restore)
    assert torch.equal(restored, torch.where(mask.hidden.unsqueeze(-1), filler, tokens))


def test_masks_that_keep_nothing_and_unknown_orders_are_refused():
    with pytest.raises(ValueError, match="keeps 0 of 3"):
        random_mask(noise(1, 3), 0.75)
    with pytest.raises(ValueError, match="token order"):
        random_mask(noise(1, 8), 0.5, "sorted")


def test_loss_is_the_mean_over_weighted_patches():
    target, prediction = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()
    target[0, 1] = 3.0
    mask = torch.tensor([[True, True, False, False], [False, False, True, False]])
    error = (prediction - target).square().mean(-1)
    plain = compare_patches(prediction, target, mask, standardize=False)
    torch.testing.assert_close(masked_patch_loss(plain), error[mask].mean())
    everything = compare_patches(prediction, target, mask, standardize=False, loss_on="all")
    torch.testing.assert_close(masked_patch_loss(everything), error.mean())
    skipping = compare_patches(prediction, target, mask, standardize=False, skip_constant=True)
    torch.testing.assert_close(masked_patch_loss(skipping), (error[0, 0] + error[1, 2]) / 2)
    assert masked_patch_loss(compare_patches(prediction, target, torch.zeros_like(mask))) == 0
    with pytest.raises(ValueError, match="loss_on"):
        compare_patches(prediction, target, mask, loss_on="visible")


def test_standardized_patches_and_back():
    vectors = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)) * 5 + 2
    standard = standardize_patches(vectors)
    torch.testing.assert_close(standard.var(dim=-1), torch.ones(2, 3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(destandardize_patches(standard, vectors), vectors)
    assert not standardize_patches(torch.full((1, 1, 8), 4.0)).any()
