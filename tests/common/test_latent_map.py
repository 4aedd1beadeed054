import math

import numpy as np
import pytest
import torch

from custom_apps.common.latent_map import latent_map, reduced
from custom_networks.layers.token_map import REDUCTIONS
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier

SIZE, PATCH = (8, 12, 4), 4
SMALL = {"in_channels": 4, "image_size": SIZE, "patch_size": PATCH, "embed_dim": 24, "depth": 3}


@pytest.fixture
def image():
    return torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return VimClassifier(**SMALL, drop_path=0.5)


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    return VimMAE(**SMALL, decoder_dim=24, decoder_depth=1)


def test_published_map_of_a_classifier(classifier, image):
    classifier.train()
    values = latent_map(classifier, image)
    assert values.shape == (2, 1, *SIZE)
    assert classifier.training
    assert not values.requires_grad
    # Stochastic depth is off, so that the map repeats itself.
    assert torch.equal(values, latent_map(classifier, image))
    classifier.eval()
    tokens = classifier.token_features(image, source="mixer").amax(dim=-1).reshape(2, 2, 3, 1)
    for x, y in ((0, 0), (1, 2)):
        block = values[:, 0, 4 * x : 4 * x + 4, 4 * y : 4 * y + 4]
        assert torch.allclose(block, tokens[:, x, y, 0].view(2, 1, 1, 1).expand_as(block))


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("source", ["mixer", "residual", "norm"])
def test_sources_and_reductions(classifier, image, source, reduce):
    values = latent_map(
        classifier, image, source=source, reduce=reduce, blocks=2, expand="linear", rescale="percentile"
    )
    assert torch.isfinite(values).all()
    assert values.min() >= 0
    assert values.max() <= 1


def test_rescaling_is_of_each_sample(classifier, image):
    both = latent_map(classifier, image, rescale="minmax")
    assert torch.allclose(both[1:], latent_map(classifier, image[1:], rescale="minmax"), atol=1e-5)
    assert both.amax(dim=(1, 2, 3, 4)).tolist() == pytest.approx([1, 1])
    assert both.amin(dim=(1, 2, 3, 4)).tolist() == pytest.approx([0, 0])


def test_autoencoder_shows_all_patches_by_default(autoencoder, image):
    assert torch.isfinite(latent_map(autoencoder, image)).all()


@pytest.mark.parametrize("reduce", ["max", "pca1"])
def test_hidden_patches_have_no_value(autoencoder, image, reduce):
    noise = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    values = latent_map(autoencoder, image, reduce=reduce, mask_ratio=0.5, noise=noise, rescale="minmax")
    hidden = noise.argsort(dim=1).argsort(dim=1) >= 3
    tokens = values[:, 0, ::4, ::4, ::4].flatten(1)
    assert torch.equal(tokens.isnan(), hidden)
    filled = latent_map(autoencoder, image, reduce=reduce, mask_ratio=0.5, noise=noise, rescale="minmax", fill=0.0)
    assert torch.equal(filled, values.nan_to_num(0.0))


def test_values_do_not_depend_on_hidden_tokens():
    tokens = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(2))
    hidden = torch.tensor([[False, True, False, True, False]])
    other = torch.where(hidden[..., None], 100.0, tokens)
    for how in REDUCTIONS:
        first, second = reduced(tokens, hidden, how), reduced(other, hidden, how)
        assert torch.equal(first.isnan(), hidden)
        assert np.allclose(first[~hidden], second[~hidden])


def test_vision_transformer(image):
    torch.manual_seed(0)
    network = ViTClassifier(**SMALL, num_heads=2)
    values = latent_map(network, image, reduce="pca1")
    assert values.shape == (2, 1, *SIZE)
    assert torch.isfinite(values).all()


def test_unknown_options(classifier, image):
    with pytest.raises(ValueError, match="rescale"):
        latent_map(classifier, image, rescale="softmax")
    with pytest.raises(ValueError, match="source"):
        latent_map(classifier, image, source="gate")
    with pytest.raises(ValueError, match="reduction"):
        latent_map(classifier, image, reduce="median")
    assert math.isnan(latent_map.__defaults__[-1])
