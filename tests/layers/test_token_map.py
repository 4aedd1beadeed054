"""One number a token, and its way to the pixels."""

import numpy as np
import pytest
import torch

from custom_networks.layers.token_map import expand_to_image, reduce_tokens


def test_reductions():
    tokens = torch.tensor([[[-3.0, 1.0, 2.0], [-1.0, -5.0, -2.0]]])
    assert reduce_tokens(tokens).tolist() == [[2, -1]]
    assert reduce_tokens(tokens, "absmax").tolist() == [[3, 5]]
    torch.testing.assert_close(reduce_tokens(tokens, "l2"), torch.tensor([[14.0, 30.0]]).sqrt())
    torch.testing.assert_close(reduce_tokens(tokens, "mean"), torch.tensor([[0.0, -8 / 3]]))
    with pytest.raises(ValueError, match="reduction must be one of"):
        reduce_tokens(tokens, "median")


def test_first_component_is_that_of_the_covariance_with_a_fixed_sign():
    tokens = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1, 1, 1, 1, 1])
    tokens[..., 0] += 5
    scores = reduce_tokens(tokens, "pca1")
    for ours, sample in zip(scores.numpy(), tokens.numpy(), strict=True):
        left, values, _ = np.linalg.svd(sample - sample.mean(0), full_matrices=False)
        expected = left[:, 0] * values[0]
        assert np.allclose(ours, expected, atol=1e-4) or np.allclose(ours, -expected, atol=1e-4)
        assert np.corrcoef(ours, np.linalg.norm(sample, axis=1))[0, 1] > 0
    torch.testing.assert_close(reduce_tokens(tokens.flip(2), "pca1"), scores)


def test_expansion_repeats_values_over_their_patches():
    values = torch.arange(6.0).reshape(1, 6)
    image = expand_to_image(values, (1, 2, 3), (2, 1, 4))
    assert image.shape == (1, 1, 2, 2, 12)
    assert image[0, 0, 1].tolist() == [[0.0] * 4 + [1.0] * 4 + [2.0] * 4, [3.0] * 4 + [4.0] * 4 + [5.0] * 4]


def test_linear_expansion_passes_through_patch_centres():
    values = torch.tensor([[0.0, 3.0, 6.0, 9.0]])
    line = expand_to_image(values, (1, 4), (3, 3), "linear")[0, 0, 1]
    torch.testing.assert_close(line[1::3], values[0])
    torch.testing.assert_close(line[1:11], torch.arange(10.0))
    with pytest.raises(ValueError, match="mode must be"):
        expand_to_image(values, (1, 4), (3, 3), "cubic")
