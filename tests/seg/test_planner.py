from types import SimpleNamespace

import pytest

from custom_apps.seg.fingerprint import Fingerprint
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.planner import full_resolution_spacing, plan


def dataset(channels=("CT",), labels=13, num_training=50):
    names = {"background": 0} | {f"organ {i}": i for i in range(1, labels + 1)}
    return SimpleNamespace(
        name="Dataset001_Some",
        channel_names=list(channels),
        labels=LabelManager(names),
        num_training=num_training,
        reader_name="SimpleITKIO",
    )


def fingerprint(shape, spacing, relative_size=1.0, cases=3):
    return Fingerprint([list(spacing)] * cases, [list(shape)] * cases, relative_size, {"0": {"mean": 0.0, "std": 1.0}})


ABDOMEN = fingerprint((97, 512, 512), (2.5, 0.8, 0.8))
SMALL = fingerprint((30, 60, 64), (5.0, 4.5, 4.5))


def test_published_umamba_plan_of_abdomen_mr():
    plans = plan(fingerprint((72, 260, 320), (3.0, 1.2, 1.2)), dataset(["MR"], num_training=60))
    volumes, slices = plans.configuration("3d_fullres"), plans.configuration("2d")
    assert (volumes.patch_size, volumes.batch_size) == ([48, 160, 224], 2)
    assert (slices.patch_size, slices.batch_size) == ([320, 320], 30)
    assert slices.features_per_stage == [32, 64, 128, 256, 512, 512, 512]


@pytest.mark.parametrize(("planner", "patch"), [("v2.1", [384, 640]), ("current", [896, 1536])])
def test_the_two_generations_of_the_2d_rule(planner, patch):
    plans = plan(fingerprint((1, 1080, 1920), (999, 1, 1)), dataset("RGB", 7, 1800), planner)
    assert plans.configuration("2d").patch_size == patch
    assert list(plans.configurations) == ["2d"]


def test_coarsest_axis_comes_first():
    plans = plan(fingerprint((512, 97, 512), (0.8, 2.5, 0.7)), dataset())
    assert plans.transpose_forward == [1, 0, 2]
    assert plans.transpose_backward == [1, 0, 2]
    assert plans.original_median_shape_after_transp == [97, 512, 512]
    assert plans.configuration("3d_fullres").spacing == [2.5, 0.8, 0.7]
    turned = plan(fingerprint((512, 512, 97), (0.7, 0.8, 2.5)), dataset())
    assert turned.transpose_forward == [2, 0, 1]
    assert turned.transpose_backward == [1, 2, 0]


def test_finer_slices_than_the_median_for_few_thick_ones():
    spacings = [[z, 1.0, 1.0] for z in (4.0, 5.0, 6.0, 7.0, 8.0)]
    few = Fingerprint(spacings, [[10, 200, 200]] * 5, 1.0, {})
    many = Fingerprint(spacings, [[100, 200, 200]] * 5, 1.0, {})
    assert full_resolution_spacing(few) == pytest.approx([4.4, 1, 1])
    assert full_resolution_spacing(many) == [6.0, 1.0, 1.0]
    spread = Fingerprint([[0.5, 1.0, 1.0]] * 2 + spacings, [[10, 200, 200]] * 7, 1.0, {})
    assert full_resolution_spacing(spread) == pytest.approx([1 + 1e-5, 1, 1])


def test_low_resolution_and_cascade():
    plans = plan(ABDOMEN, dataset())
    assert set(plans.configurations) == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    assert plans.configuration("3d_fullres").batch_dice
    assert not plans.configuration("3d_lowres").batch_dice
    cascade = plans.configuration("3d_cascade_fullres")
    assert cascade.previous_stage == "3d_lowres"
    assert cascade.patch_size == plans.configuration("3d_fullres").patch_size


def test_more_memory_gives_a_larger_patch():
    usual = plan(ABDOMEN, dataset()).configuration("3d_fullres")
    more = plan(ABDOMEN, dataset(), gpu_memory_gb=24).configuration("3d_fullres")
    assert more.patch_size[1] > usual.patch_size[1]


@pytest.mark.parametrize(
    ("channels", "relative_size", "schemes", "masks"),
    [
        (["CT"], 0.5, ["CTNormalization"], [False]),
        (["T1", "noNorm"], 0.5, ["ZScoreNormalization", "NoNormalization"], [True, False]),
        (["T1"], 0.75, ["ZScoreNormalization"], [False]),
        (["rgb_to_0_1"], 0.5, ["RGBTo01Normalization"], [False]),
    ],
)
def test_normalization(channels, relative_size, schemes, masks):
    found = plan(fingerprint((30, 60, 64), (5, 4.5, 4.5), relative_size), dataset(channels)).configuration("2d")
    assert found.normalization_schemes == schemes
    assert found.use_mask_for_norm == masks


def test_patch_override_brings_its_topology_and_batch():
    usual = plan(SMALL, dataset()).configuration("3d_fullres")
    found = plan(SMALL, dataset(), overrides={"3d_fullres": {"patch_size": [16, 30, 32]}}).configuration("3d_fullres")
    assert found.patch_size == [16, 32, 32]
    assert len(found.strides) == len(found.features_per_stage) < len(usual.strides) + 1
    assert found.batch_size > usual.batch_size
    given = {"patch_size": [16, 32, 32], "batch_size": 3, "max_stages": 3, "features_per_stage": [8, 16, 24]}
    found = plan(SMALL, dataset(), overrides={"3d_fullres": given}).configuration("3d_fullres")
    assert (found.batch_size, found.features_per_stage, len(found.strides)) == (3, [8, 16, 24], 3)


def test_spacing_override_is_planned_on():
    plans = plan(SMALL, dataset(), overrides={"3d_fullres": {"spacing": [5.0, 9.0, 9.0]}})
    found = plans.configuration("3d_fullres")
    assert found.spacing == [5.0, 9.0, 9.0]
    assert found.median_image_size_in_voxels == [30, 30, 32]
    assert plans.configuration("2d").spacing == [9.0, 9.0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"3d_lowres": {"batch_size": 2}}, "3d_lowres"),
        ({"3d_fullres": {"patch": [16, 16, 16]}}, "unknown overrides"),
        ({"3d_fullres": {"patch_size": [16, 16]}}, "expected 3 numbers"),
        ({"3d_fullres": {"features_per_stage": [8]}}, "features_per_stage has 1 entries"),
        ({"3d_fullres": {"spacing": [1, 1, 0]}}, "three positive numbers"),
        ({"2d": {"spacing": [1, 1]}}, "3d_fullres only"),
    ],
)
def test_overrides_that_cannot_be(overrides, message):
    with pytest.raises(ValueError, match=message):
        plan(SMALL, dataset(), overrides=overrides)


def test_unknown_planner():
    with pytest.raises(ValueError, match="unknown planner 'v3'"):
        plan(SMALL, dataset(), "v3")
