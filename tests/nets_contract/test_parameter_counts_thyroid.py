"""Numbers of parameters and of stored tensors of the published thyroid networks, on the meta device."""

import pytest
import torch

from custom_networks.nets.conv_mae import ConvMAE
from custom_networks.nets.conv_vit_classifier import ConvViTClassifier
from custom_networks.nets.unet_decoders import UNet, UNetPlusPlus
from custom_networks.nets.upernet import UPerNet
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published import export

IMAGE = {"in_channels": 3, "image_size": (224, 224)}
DECODER = {"decoder_dim": 512, "decoder_depth": 8, "decoder_num_heads": 16}
BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12}
LARGE = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
HUGE = {"embed_dim": 1280, "depth": 32, "num_heads": 16}
CONV_LARGE = {"embed_dims": (384, 768, 1024), "depths": (2, 2, 23), "num_heads": 16, "mlp_ratios": (8, 8, 4)}
CONV_HUGE = {"embed_dims": (768, 1024, 1280), "depths": (2, 2, 31), "num_heads": 16, "mlp_ratios": (8, 8, 4)}


def on_meta(network, **arguments):
    with torch.device("meta"):
        return network(**arguments)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def beside_decoder(network, *further: str) -> int:
    beside = ("decoder", "mask_token", "prediction_head", *further)
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith(beside))


@pytest.mark.parametrize(
    ("arguments", "patch", "total", "encoder"),
    [
        (BASE, 16, 111_907_840, 85_798_656),
        (BASE, 8, 111_922_624, 85_807_872),
        (BASE, 28, 113_767_984, 86_913_792),
        (LARGE, 16, 329_541_888, 303_301_632),
        (HUGE, 14, 657_074_508, 630_764_800),
    ],
)
def test_mae(arguments, patch, total, encoder):
    network = on_meta(ViTMAE, patch_size=patch, **IMAGE, **DECODER, **arguments)
    assert count(network) == total
    assert beside_decoder(network) == encoder


def test_published_mae_and_classifier_store_these_tensors():
    assert len(export("thyroid", on_meta(ViTMAE, patch_size=16, **IMAGE, **DECODER, **BASE))) == 254
    assert len(export("thyroid", on_meta(ViTClassifier, patch_size=16, **IMAGE, **BASE))) == 152


@pytest.mark.parametrize(
    ("arguments", "total", "encoder"),
    [
        ({}, 115_041_408, 84_605_824),
        (CONV_LARGE, 374_424_960, 321_952_384),
        (CONV_HUGE, 743_596_288, 679_457_792),
    ],
)
def test_conv_mae(arguments, total, encoder):
    network = on_meta(ConvMAE, **arguments)
    assert count(network) == total
    assert beside_decoder(network, "fusions") == encoder
    if not arguments:
        assert len(export("thyroid", network)) == 313


@pytest.mark.parametrize(
    ("arguments", "patch", "total"),
    [
        (BASE, 16, 85_800_194),
        (BASE, 8, 85_809_410),
        (BASE, 28, 86_915_330),
        (LARGE, 16, 303_303_682),
        (HUGE, 14, 630_767_362),
    ],
)
def test_vit_classifier(arguments, patch, total):
    assert count(on_meta(ViTClassifier, patch_size=patch, **IMAGE, **arguments)) == total


def test_conv_vit_classifier():
    network = on_meta(ConvViTClassifier)
    assert count(network) == 84_607_362
    assert len(export("thyroid", network)) == 207


def test_upernet():
    network = on_meta(UPerNet)
    parts = (network, network.backbone, network.head, network.auxiliary_head)
    assert [count(part) for part in parts] == [160_023_816, 91_091_716, 67_161_602, 1_770_498]
    assert len(export("thyroid", network)) == 336


@pytest.mark.parametrize(
    ("network", "encoder", "total", "of_encoder", "of_decoder", "stored"),
    [
        (UNet, "conv_vit", 96_393_125, 91_091_716, 5_301_120, 304),
        (UNetPlusPlus, "conv_vit", 107_160_997, 91_091_716, 16_068_992, 340),
        (UNet, "vit", 100_143_841, 94_105_152, 6_038_400, 257),
        (UNetPlusPlus, "vit", 155_006_689, 94_105_152, 60_901_248, 293),
    ],
)
def test_unets(network, encoder, total, of_encoder, of_decoder, stored):
    built = on_meta(network, encoder=encoder)
    assert [count(part) for part in (built, built.backbone, built.decoder)] == [total, of_encoder, of_decoder]
    assert len(export("thyroid", built)) == stored
