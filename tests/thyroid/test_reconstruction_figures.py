import numpy as np
import pytest
import torch

from custom_apps.thyroid.chains import MEAN, STD
from custom_apps.thyroid.reconstruction_figures import HIDDEN_GRAY, draw_reconstructions, reconstruct
from custom_networks.nets.vit_mae import ViTMAE


def network(**options):
    torch.manual_seed(0)
    sizes = {"in_channels": 3, "image_size": (16, 24), "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    decoder = {"decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
    return ViTMAE(**sizes, **decoder, **({"norm_pix": False} | options)).eval()


@pytest.fixture
def pair():
    """Gray images from 0 to 1, and the same as networks see them."""
    gray = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(1)).expand(2, 3, 16, 24)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return gray[:, 0].numpy(), (gray - mean) / std


def test_gray_values_come_back(pair):
    gray, (image, target) = pair
    found = reconstruct(network(loss_on="all"), image, target, "a")
    np.testing.assert_allclose(found.blurred, gray[0], atol=1e-6)
    np.testing.assert_allclose(found.original, gray[1], atol=1e-6)
    visible = found.masked != HIDDEN_GRAY
    assert visible.mean() == pytest.approx(1 / 6)
    np.testing.assert_allclose(found.masked[visible], gray[0][visible], atol=1e-6)
    assert found.share == pytest.approx(5 / 6)


def test_plain_autoencoder_shows_visible_patches_as_they_are(pair):
    _, (image, _) = pair
    found = reconstruct(network(loss_on="hidden"), image, image, "a")
    visible = found.masked != HIDDEN_GRAY
    np.testing.assert_allclose(found.restored[visible], found.original[visible], atol=1e-6)
    everything = reconstruct(network(loss_on="all"), image, image, "a")
    assert np.abs(everything.restored - everything.original)[visible].max() > 0.01


def test_mask_repeats_and_figure_is_drawn(pair, tmp_path):
    _, (image, target) = pair
    autoencoder = network(loss_on="all", norm_pix=True)
    one, two = (reconstruct(autoencoder, image, target, "a", seed=4) for _ in range(2))
    assert np.array_equal(one.masked, two.masked)
    draw_reconstructions([one], tmp_path / "figure.png", "a note")
    assert (tmp_path / "figure.png").stat().st_size > 2000
