import torch

from custom_apps.common.masked_autoencoder import MaskedPatchLoss, PrepareMaskedBatch
from custom_networks.nets.vim_mae import VimMAE


def test_network_predicts_the_target_of_a_batch_that_has_one():
    torch.manual_seed(0)
    network = VimMAE(2, (8, 8, 8), 4, 12, 1, 12, 1, norm_pix=False, mask_ratio=0.5).eval()
    image, clean = torch.randn(2, 2, 8, 8, 8), torch.randn(2, 2, 8, 8, 8)
    inputs, reference, args, kwargs = PrepareMaskedBatch()({"image": image, "target": clean}, "cpu")
    assert args == ()
    assert torch.equal(reference, clean)
    noise = torch.rand(2, 8)
    ours = network(inputs, noise, **kwargs)
    assert torch.equal(ours.prediction, network(image, noise).prediction)
    assert not torch.equal(ours.target, network(image, noise).target)
    assert MaskedPatchLoss()(ours, reference) > 0


def test_without_a_target_the_input_is_predicted():
    image = torch.randn(1, 2, 8, 8, 8)
    inputs, reference, _, kwargs = PrepareMaskedBatch()({"image": image, "case": ["a"]})
    assert inputs is reference
    assert kwargs == {}
