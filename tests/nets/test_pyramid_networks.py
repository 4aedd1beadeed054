"""Segmentation networks on pyramids of tokens: sizes, heads, what is fixed and what is not."""

import logging

import pytest
import torch

from custom_networks.layers.unet_blocks import UNetDecoder, UNetPlusPlusDecoder
from custom_networks.nets.conv_vit_classifier import ConvViTClassifier
from custom_networks.nets.token_pyramids import token_pyramid
from custom_networks.nets.unet_decoders import UNet, UNetPlusPlus
from custom_networks.nets.upernet import UPerNet

CONV = {"embed_dims": (4, 6, 8), "depths": (1, 1, 2), "num_heads": 2, "mlp_ratios": (2, 2, 2)}
TOKENS = {"patch_size": 16, "embed_dim": 8, "depth": 4, "taps": (0, 1, 2, 3)}
OPTIONS = {"conv_vit": CONV, "conv_mamba": CONV, "vit": TOKENS | {"num_heads": 2}, "mamba": TOKENS}


@pytest.mark.parametrize("encoder", OPTIONS)
@pytest.mark.parametrize("size", [(64, 96), (80, 48)])
def test_strides_of_the_maps(encoder, size):
    made = token_pyramid(encoder, in_channels=1, image_size=size, **OPTIONS[encoder]).eval()
    maps = made(torch.randn(1, 1, *size))
    assert [x.shape[1] for x in maps] == made.channels
    for x, stride in zip(maps[:3], (4, 8, 16), strict=True):
        assert x.shape[2:] == torch.Size(side // stride for side in size)
    halved = [side // 16 for side in size]
    # A convolution with padding rounds up, pooling rounds down.
    expected = [(side + 1) // 2 if encoder.startswith("conv") else side // 2 for side in halved]
    assert list(maps[3].shape[2:]) == expected


def test_smaller_patches():
    options = TOKENS | {"patch_size": 8, "num_heads": 2}
    maps = token_pyramid("vit", image_size=(64, 64), **options)(torch.randn(2, 3, 64, 64))
    assert [x.shape[-1] for x in maps] == [16, 8, 4, 2]
    with pytest.raises(ValueError, match="patches of 8 or 16 pixels"):
        token_pyramid("vit", image_size=(64, 64), **options | {"patch_size": 32})


def test_coarsest_map_with_and_without_padding():
    for padding, side in ((0, 15), (1, 16)):
        made = token_pyramid("conv_vit", image_size=(512, 512), coarsest_padding=padding, **CONV)
        assert made.coarsest[0](torch.zeros(1, 8, 32, 32)).shape[-1] == side


@pytest.mark.parametrize("network", [UPerNet, UNet, UNetPlusPlus])
def test_state_space_networks_take_any_size(network):
    made = network("mamba", in_channels=1, image_size=(64, 64), **TOKENS, drop_path=0.0, **small(network)).eval()
    for size in ((64, 64), (96, 64), (80, 112)):
        assert made(torch.randn(1, 1, *size)).shape[2:] == size
    with pytest.raises(ValueError, match="not a multiple"):
        made(torch.randn(1, 1, 72, 64))
    fixed = network("vit", in_channels=1, image_size=(64, 64), **OPTIONS["vit"], **small(network))
    with pytest.raises(ValueError, match="expected images of shape"):
        fixed(torch.randn(1, 1, 96, 64))


def small(network):
    return {"channels": 4} if network is UPerNet else {"channels": (8, 6, 4, 4)}


def test_auxiliary_head_answers_in_training_only():
    made = UPerNet(in_channels=1, image_size=(64, 96), **CONV, channels=4, auxiliary_channels=3)
    image = torch.randn(2, 1, 64, 96)
    main, auxiliary = made(image)
    assert main.shape == auxiliary.shape == (2, 2, 64, 96)
    assert made.eval()(image).shape == (2, 2, 64, 96)
    assert [x.shape[-1] for x in made.head_logits(image)] == [24, 6]
    without = UPerNet(in_channels=1, image_size=(64, 96), **CONV, channels=4, auxiliary_channels=0)
    assert without(image).shape == (2, 2, 64, 96)


def test_published_output_of_unets_is_half_of_the_image():
    made = UNet("conv_vit", image_size=(64, 64), **CONV, channels=(8, 6, 4, 4), full_size=False).eval()
    image = torch.randn(1, 3, 64, 64)
    half = made(image)
    assert half.shape == (1, 1, 32, 32)
    made.full_size = True
    torch.testing.assert_close(made(image), torch.nn.functional.interpolate(half, scale_factor=2.0, mode="bilinear"))


def test_nested_decoder_without_inner_blocks_is_a_plain_one():
    """Two maps leave one block and the last one, the same in both decoders."""
    torch.manual_seed(0)
    nested, plain = UNetPlusPlusDecoder([3, 5], [4, 2]).eval(), UNetDecoder([3, 5], [4, 2]).eval()
    for block, other in zip(plain.blocks, nested.blocks.values(), strict=True):
        block.load_state_dict(other.state_dict())
    maps = [torch.randn(1, 3, 6, 8), torch.randn(1, 5, 3, 4)]
    assert torch.equal(nested(maps), plain(maps))
    for decoder in (UNetDecoder, UNetPlusPlusDecoder):
        with pytest.raises(ValueError, match="one level a map"):
            decoder([3, 5], [4])


def test_stochastic_depth_runs_through_all_stages():
    made = token_pyramid("conv_vit", image_size=(64, 64), drop_path=0.3, **CONV)
    blocks = [block for stage in made.patch_embedding.stages for block in stage] + list(made.encoder.blocks)
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("taps", [(0, 1, 2), (0, 1, 2, 4), (0, 0, 1, 2), (3, 2, 1, 0)])
def test_impossible_taps(taps):
    with pytest.raises(ValueError, match="four ascending indices"):
        token_pyramid("mamba", image_size=(64, 64), **TOKENS | {"taps": taps})


def test_unknown_encoder():
    with pytest.raises(ValueError, match="encoder must be one of conv_vit, conv_mamba, vit, mamba"):
        UPerNet("resnet")


def test_first_patch_pooling_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        made = ConvViTClassifier(2, 1, (32, 32), **CONV, pooling="first_patch")
    assert "first patch only" in caplog.text
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(made.features(image), made.encoder.norm(made.tokens(image))[:, 0])
    with pytest.raises(ValueError, match="pooling must be one of mean, first_patch"):
        ConvViTClassifier(2, 1, (32, 32), **CONV, pooling="class_token")


def test_token_features_of_the_classifier():
    made = ConvViTClassifier(2, 1, (32, 48), **CONV).eval()
    image = torch.randn(1, 1, 32, 48)
    assert torch.equal(made.token_features(image), made.tokens(image))
    assert made.token_features(image, blocks=1).shape == (1, 6, 8)
    with pytest.raises(ValueError, match="source must be"):
        made.token_features(image, "mixer")
