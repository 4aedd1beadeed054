"""Numbers of parameters of the published networks, counted on the meta device."""

import pytest
import torch

from custom_networks.layers.sequence_mixers import DirectedMixer
from custom_networks.nets.mamba3d import Mamba3DEncoder
from custom_networks.nets.mamba3d_classifier import Mamba3DClassifier
from custom_networks.nets.mamba3d_mae import Mamba3DMAE
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.mamba3d_segmenter import Mamba3DSegmenter
from custom_networks.nets.umamba import UMambaBot, UMambaEnc
from custom_networks.nets.umamba2 import UMamba2
from tests.nets_contract.published_plans import CT_3D, HIPPOCAMPUS_3D, plan_2d, resenc


def count(build, **arguments) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(**arguments).parameters())


MR_2D, ENDOSCOPY, MICROSCOPY = plan_2d(7, 1, 14), plan_2d(7, 3, 8), plan_2d(8, 3, 3)


@pytest.mark.parametrize(
    ("plan", "input_size", "bot", "enc"),
    [
        (CT_3D, [40, 224, 192], 41_945_158, 42_842_798),
        (CT_3D, [48, 160, 224], 41_945_158, 42_842_798),
        (MR_2D, [320, 320], 47_533_012, 47_015_538),
        (ENDOSCOPY, [384, 640], 47_524_592, 47_680_592),
        (MICROSCOPY, [512, 512], 64_797_301, 64_014_261),
        (HIPPOCAMPUS_3D, [40, 56, 40], 7_323_305, 7_255_571),
        (plan_2d(4, 1, 3, 256), [56, 40], 2_815_081, 2_421_267),
    ],
    ids=["CT 3D", "MR 3D", "MR 2D", "endoscopy", "microscopy", "hippocampus 3D", "hippocampus 2D"],
)
def test_umamba(plan, input_size, bot, enc):
    assert count(UMambaBot, **plan) == bot
    assert count(UMambaEnc, input_size=input_size, **plan) == enc


@pytest.mark.parametrize(
    ("plan", "mamba_in_bot", "mamba_in_enc", "input_size"),
    [(CT_3D, 675_840, 1_573_480, [40, 224, 192]), (MR_2D, 1_695_744, 1_178_270, [320, 320])],
)
def test_without_mixer_only_the_mamba_part_is_gone(plan, mamba_in_bot, mamba_in_enc, input_size):
    plain = count(UMambaBot, mixer="none", **plan)
    assert count(UMambaBot, **plan) - plain == mamba_in_bot
    assert count(UMambaEnc, mixer="none", input_size=input_size, **plan) == plain
    assert count(UMambaEnc, input_size=input_size, **plan) - plain == mamba_in_enc


@pytest.mark.parametrize(
    ("last_stride", "classes", "bottleneck", "patch_size", "expected"),
    [
        ([1, 2, 2], 47, "mamba2", None, 142_172_946),
        ([1, 1, 1], 47, "mamba2", None, 141_865_746),
        ([1, 1, 1], 3, "mamba2_cross_click2", [160, 288, 288], 144_779_850),
        ([1, 2, 2], 13, "mamba2", None, 142_134_662),
        ([1, 1, 1], 1, "mamba2", None, 141_813_950),
        ([1, 1, 1], 47, "none", None, 141_223_482),
        ([1, 1, 1], 47, "mamba", None, 141_899_322),
    ],
    ids=["ToothFairy3 task 1", "task 1 final", "task 2 clicks", "STSR", "pre-training", "plain", "Mamba-1"],
)
def test_umamba2(last_stride, classes, bottleneck, patch_size, expected):
    plan = resenc(last_stride, 1, classes)
    assert count(UMamba2, bottleneck=bottleneck, patch_size=patch_size, **plan) == expected


P4 = {"time_patch_size": 2, "patch_size": 4}


@pytest.mark.parametrize(
    ("size", "width", "encoder", "pretraining", "ejection_fraction"),
    [
        ({}, 384, 34_868_352, 46_577_152, 40_703_873),
        (P4, 192, 9_098_688, 12_147_104, 12_279_617),
        ({}, 96, 2_496_288, 3_350_080, 4_349_921),
        ({}, 192, 9_139_776, 12_229_504, 12_320_705),
        ({}, 768, 136_091_904, 181_627_648, 147_236_609),
        (P4, 96, 2_475_744, 3_308_768, 4_329_377),
    ],
    ids=["p16/384", "p4/192", "p16/96", "p16/192", "p16/768", "p4/96"],
)
def test_mamba3d(size, width, encoder, pretraining, ejection_fraction):
    assert count(Mamba3DEncoder, embed_dim=width, **size) == encoder
    assert count(Mamba3DMAE, embed_dim=width, **size) == pretraining
    assert count(Mamba3DRegressor, embed_dim=width, **size) == ejection_fraction


def test_mamba3d_segmenter_and_classifier():
    assert count(Mamba3DSegmenter) == 35_066_240
    assert count(Mamba3DSegmenter, embed_dim=192, **P4) == 9_111_424
    assert count(Mamba3DClassifier) == 42_999_682


def test_mamba3d_with_mamba2():
    assert count(Mamba3DRegressor, mixer="mamba2") == 41_718_497
    assert count(Mamba3DRegressor, mixer="mamba2", embed_dim=192, **P4) == 13_142_177


@pytest.mark.parametrize(
    ("width", "mixer", "expected"), [(384, "mamba", 963_840), (192, "mamba", 251_520), (384, "mamba2", 992_024)]
)
def test_one_mixer_of_mamba3d(width, mixer, expected):
    assert count(DirectedMixer, width=width, mixer=mixer) == expected
