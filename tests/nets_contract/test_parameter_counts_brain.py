"""Numbers of parameters of the published brain networks, counted on the meta device.

Pre-training networks are counted with everything in their files: frozen position tables, rotary frequencies, and the
class token that they never use.
"""

import pytest
import torch

from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published import export

SMALL = {"embed_dim": 384, "depth": 12}
WIDE = {"embed_dim": 512, "depth": 12, "mixer": "mamba2", "rotary": "none"}
HYBRID = WIDE | {"attention_blocks": [3, 6, 9]}
DECODER = ("decoder", "mask_token", "prediction_head")


def autoencoder(arguments: dict, decoder_dim: int) -> dict:
    legacy = {"decoder_alignment": "legacy", "token_order": "shuffle", "rotary": "sequence_half"}
    return legacy | arguments | {"decoder_dim": decoder_dim, "decoder_depth": 8}


@pytest.mark.parametrize(
    ("arguments", "patch", "decoder_dim", "total", "trainable", "encoder", "decoder"),
    [
        (SMALL, 32, 192, 90_553_424, 90_481_088, 62_901_600, 27_651_824),
        (SMALL, 16, 192, 24_882_448, 24_306_112, 19_197_408, 5_685_040),
        (SMALL, 8, 192, 20_642_576, 16_034_240, 16_380_384, 4_262_192),
        (SMALL, 4, 192, 51_864_592, 15_000_256, 37_196_256, 14_668_336),
        (SMALL | {"embed_dim": 768}, 16, 512, 85_247_040, 83_966_208, 61_397_952, 23_849_088),
        ({"embed_dim": 1024, "depth": 24}, 16, 512, 210_795_904, 209_259_008, 186_815_744, 23_980_160),
        (WIDE, 32, 256, 125_389_824, 125_293_568, 87_816_768, 37_573_056),
        (WIDE, 16, 256, 37_866_752, 37_098_496, 29_544_512, 8_322_240),
        (WIDE, 4, 256, 73_848_320, 24_696_064, 53_542_976, 20_305_344),
        (HYBRID, 16, 256, 45_383_024, 44_614_768, 37_060_784, 8_322_240),
        (HYBRID, 4, 256, 81_364_592, 32_212_336, 61_059_248, 20_305_344),
    ],
)
def test_vim_autoencoders(arguments, patch, decoder_dim, total, trainable, encoder, decoder):
    with torch.device("meta"):
        network = VimMAE(patch_size=patch, **autoencoder(arguments, decoder_dim))
        state = export("brain", network)
    counts = {name: tensor.numel() for name, tensor in state.items()}
    ours = {name: p.numel() for name, p in network.named_parameters() if p.requires_grad}
    assert sum(counts.values()) == total
    assert sum(ours.values()) + counts["cls_token"] == trainable
    of_decoder = sum(count for name, count in counts.items() if name.startswith(("decoder", "mask_token")))
    assert (total - of_decoder, of_decoder) == (encoder, decoder)


@pytest.mark.parametrize(
    ("patch", "total", "trainable", "encoder", "decoder"),
    [
        (32, 100_629_632, 100_557_056, 71_675_136, 28_954_496),
        (16, 34_958_656, 34_382_080, 27_970_944, 6_987_712),
    ],
)
def test_vit_autoencoders(patch, total, trainable, encoder, decoder):
    with torch.device("meta"):
        network = ViTMAE(patch_size=patch)
    counts = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(counts.values()) == sum(t.numel() for t in export("brain", network).values()) == total
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == trainable
    of_decoder = sum(count for name, count in counts.items() if name.startswith(DECODER))
    assert (total - of_decoder, of_decoder) == (encoder, decoder)


@pytest.mark.parametrize(
    ("arguments", "patch", "parameters", "stored"),
    [
        (SMALL, 32, 62_901_890, 62_997_890),
        (SMALL, 16, 19_197_698, 19_965_698),
        (SMALL | {"pooling": "last"}, 8, 16_380_674, 22_524_674),
        (SMALL, 4, 37_196_546, 86_348_546),
        (SMALL | {"embed_dim": 768}, 16, 61_398_530, 62_934_530),
        (WIDE, 32, 87_817_282, 87_817_282),
        (WIDE, 16, 29_545_026, 29_545_026),
        (WIDE, 4, 53_543_490, 53_543_490),
        (HYBRID, 16, 37_061_298, 37_061_298),
    ],
)
def test_vim_classifiers(arguments, patch, parameters, stored):
    with torch.device("meta"):
        network = VimClassifier(patch_size=patch, **{"rotary": "axial_two_of_three"} | arguments)
        state = export("brain", network)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == parameters
    assert sum(t.numel() for t in state.values()) == stored


def test_vit_classifier():
    with torch.device("meta"):
        network = ViTClassifier()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 27_971_714
