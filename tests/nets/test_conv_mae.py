"""ConvMAE and its deblurring form: what may be seen, what is scored, and the state-space variants."""

import pytest
import torch

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.patch_tokens import patchify
from custom_networks.nets.conv_mae import ConvMAE
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_mae import ViTMAE

STATE_SPACE = {"mixer_options": {"d_state": 4}}


def conv_mae(**changes):
    torch.manual_seed(0)
    arguments = {
        "in_channels": 1,
        "image_size": (24, 16),
        "patch_sizes": (2, 2, 2),
        "embed_dims": (4, 6, 8),
        "depths": (1, 1, 2),
        "num_heads": 2,
        "mlp_ratios": (2, 3, 4),
        "decoder_dim": 8,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
        "mask_ratio": 0.5,
    }
    return ConvMAE(**arguments | changes).eval()


VARIANTS = {
    "vit": {},
    "mamba": {"encoder": "mamba", **STATE_SPACE},
    "mamba decoder": {"encoder": "mamba", "decoder": "mamba", **STATE_SPACE},
    "four directions": {"encoder": "mamba", "scan_order": "alternating", "mlp_ratio": 2.0},
}


def image(seed=1):
    return torch.randn(2, 1, 24, 16, generator=torch.Generator().manual_seed(seed))


def noise():
    return torch.rand(2, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_output_depends_on_hidden_pixels(variant):
    made = conv_mae(**VARIANTS[variant])
    _, mask = made.encode(image(), noise())
    pixels = mask.hidden.view(2, 1, 3, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    other = torch.where(pixels, image(5) * 4, image())
    assert torch.equal(made.encode(image(), noise())[0], made.encode(other, noise())[0])
    assert torch.equal(made(image(), noise()).prediction, made(other, noise()).prediction)
    assert not torch.equal(made(image(), noise()).target, made(other, noise()).target)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_hidden_equals_no_mask(variant):
    """With all patches visible in raster order the encoder is that of the whole image."""
    made = conv_mae(**VARIANTS[variant])
    latent, mask = made.encode(image(), noise(), mask_ratio=0.0)
    assert not mask.hidden.any()
    first, second, tokens = made.patch_embedding.maps(image())
    tokens = tokens + made.position_embedding
    order = made._stack_arguments(made.encoder, tokens, None)
    added = [f(x).flatten(2).transpose(1, 2) for f, x in zip(made.fusions, (first, second), strict=True)]
    expected = made.encoder.norm(made.encoder.features(tokens, **order) + sum(added))
    torch.testing.assert_close(latent, expected)
    assert torch.equal(made.token_features(image(), noise(), 0.0)[0], latent)


def test_order_of_visible_tokens_does_not_matter_to_attention():
    raster, shuffled = conv_mae(), conv_mae(token_order="shuffle")
    ours, theirs = raster(image(), noise()), shuffled(image(), noise())
    torch.testing.assert_close(ours.prediction, theirs.prediction)
    assert torch.equal(ours.mask, theirs.mask)
    with pytest.raises(ValueError, match="in the order of the image"):
        conv_mae(encoder="mamba", token_order="shuffle")


@pytest.mark.parametrize("network", ["conv", "vit"])
def test_deblurring_scores_all_patches_of_the_sharp_image(network):
    def make(**changes):
        if network == "conv":
            return conv_mae(**changes)
        torch.manual_seed(0)
        sizes = {"image_size": (24, 16), "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2, "mask_ratio": 0.5}
        decoder = {"decoder_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}
        return ViTMAE(in_channels=1, norm_pix=False, **sizes, **decoder, **changes)

    blurred, sharp = image(), image(7)
    every, hidden = make(loss_on="all"), make(loss_on="hidden")
    output = every(blurred, noise(), sharp)
    target = patchify(sharp, (8, 8))
    assert torch.equal(output.target, target)
    error = (output.prediction - target).square().mean(dim=-1)
    torch.testing.assert_close(masked_patch_loss(output), error.mean())
    torch.testing.assert_close(masked_patch_loss(hidden(blurred, noise(), sharp)), error[output.mask].mean())
    # Without blur the two inputs are one, as for vanilla networks.
    for a, b in zip(every(sharp, noise(), sharp), every(sharp, noise()), strict=True):
        assert torch.equal(a, b)


def test_number_of_visible_patches_is_the_floor_of_the_product():
    made = conv_mae(image_size=(80, 80), mask_ratio=0.9)
    latent, _ = made.encode(torch.randn(1, 1, 80, 80))
    # 100 * (1 - 0.9) is just below 10 in floating point.
    assert latent.shape[1] == 9


def test_position_tables_are_fixed_and_masks_differ():
    made = conv_mae()
    assert not made.position_embedding.requires_grad
    assert not made.decoder_position_embedding.requires_grad
    masks = torch.cat([made(image()).mask for _ in range(5)])
    assert len({tuple(mask.tolist()) for mask in masks}) > 3


def test_mirrored_images_give_mirrored_features_if_directions_share_weights():
    """Both scans of a bidirectional mixer are one if their weights are, so that they see a mirror image alike."""
    torch.manual_seed(0)
    made = VimMAE(1, (8, 24), 8, 12, 1, 8, 1, rotary="none", drop_path=0.0, **STATE_SPACE).eval()
    mixer = made.encoder.blocks[0].mixer
    for name, parameter in list(mixer.named_parameters()):
        if "_reverse" in name:
            parameter.data.copy_(mixer.get_parameter(name.replace("_reverse", "")).data)
    made.position_embedding.data.zero_()
    picture = torch.randn(1, 1, 8, 8).repeat(1, 1, 1, 3)
    picture[..., 8:16] = torch.randn(1, 1, 8, 8)
    features, _ = made.token_features(picture, mask_ratio=0.0)
    torch.testing.assert_close(features[:, 0], features[:, 2])


def test_transformer_decoder_of_a_state_space_autoencoder():
    torch.manual_seed(0)
    made = VimMAE(1, (16, 24), 8, 12, 2, 8, 1, decoder="vit", decoder_num_heads=2, mask_ratio=0.5, drop_path=0.1)
    output = made(torch.randn(2, 1, 16, 24))
    masked_patch_loss(output).backward()
    assert made.decoder.blocks[0].attention.qkv.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="the stack must be one of"):
        VimMAE(1, (16, 24), 8, 12, 2, 8, 1, decoder="lstm")
