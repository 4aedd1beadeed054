import numpy as np
import pytest
import torch

from custom_apps.brain.reconstruction_figures import ReconstructionFigures, carried_statistics, reconstruct
from custom_networks.nets.vim_mae import VimMAE


def smooth_volume(shape=(8, 12, 16)) -> torch.Tensor:
    """Four channels, brighter from left to right."""
    ramp = torch.linspace(-1, 3, shape[0])[:, None, None].expand(shape)
    return torch.stack([ramp + 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(c)) for c in range(4)])


def autoencoder(norm_pix: bool = True) -> VimMAE:
    torch.manual_seed(0)
    return VimMAE(4, (8, 12, 16), 4, 12, 1, 12, 1, norm_pix=norm_pix, mask_ratio=0.75).eval()


def test_statistics_of_hidden_patches_come_from_visible_neighbors_only():
    torch.manual_seed(0)
    place = torch.arange(27).view(27, 1).float()
    vectors = place + torch.randn(27, 50)
    hidden = torch.zeros(27, dtype=torch.bool)
    hidden[[4, 13, 26]] = True
    mean, deviation = carried_statistics(vectors, hidden, (3, 3, 3))
    torch.testing.assert_close(mean[~hidden], vectors[~hidden].mean(1, keepdim=True))
    torch.testing.assert_close(deviation[~hidden], vectors[~hidden].std(1, keepdim=True), rtol=1e-4, atol=1e-4)
    vectors[hidden] = 1e6
    assert torch.equal(carried_statistics(vectors, hidden, (3, 3, 3))[0], mean)
    # Neighbors on both sides: about the patch's own brightness.
    assert mean[13].item() == pytest.approx(13, abs=2)


def test_one_visible_patch_gives_all_its_statistics():
    vectors = torch.randn(8, 5)
    hidden = torch.ones(8, dtype=torch.bool)
    hidden[3] = False
    mean, deviation = carried_statistics(vectors, hidden, (2, 2, 2))
    torch.testing.assert_close(mean, vectors[3].mean().expand(8, 1))
    assert deviation.unique().numel() == 1


@pytest.mark.parametrize("norm_pix", [True, False])
def test_visible_patches_stay_and_hidden_ones_are_predicted(norm_pix):
    image, network = smooth_volume(), autoencoder(norm_pix)
    found = reconstruct(network, image, "a", seed=3)
    expected = image[..., 8].numpy()[:, ::-1, ::-1].transpose(0, 2, 1)
    np.testing.assert_allclose(found.original, expected, atol=1e-6)
    np.testing.assert_allclose(found.restored[:, ~found.hidden], found.original[:, ~found.hidden], atol=1e-6)
    assert np.abs(found.restored[:, found.hidden] - found.original[:, found.hidden]).max() > 0.01
    assert found.share == 0.75
    again = reconstruct(network, image, "a", seed=3)
    np.testing.assert_array_equal(again.hidden, found.hidden)


def test_figure_leaves_the_network_as_it_was(tmp_path):
    network = autoencoder().train()
    dataset = [{"image": smooth_volume(), "case": f"case{i}", "index": i} for i in range(3)]
    ReconstructionFigures(tmp_path / "reconstructions.png", network, dataset, examples=2)(None)
    assert network.training
    assert (tmp_path / "reconstructions.png").stat().st_size > 10_000
