import numpy as np
import pytest
import torch

from custom_apps.seg.augmentation import TrainingTransforms, ValidationTransforms


def item(size, seed=0):
    random = np.random.RandomState(seed)
    image = torch.from_numpy(random.normal(size=(2, *size)).astype(np.float32))
    label = torch.zeros(1, *size, dtype=torch.int16)
    label[0, size[0] // 2 :] = 2
    label[0, :2] = -1
    return {"image": image, "label": label}


@pytest.mark.parametrize("recipe", ["u_mamba", "u_mamba2"])
@pytest.mark.parametrize("patch", [(9, 11, 13), (4, 14, 15), (14, 9)])
def test_every_draw_gives_a_clean_item(recipe, patch):
    made = TrainingTransforms(patch, recipe, masked_channels=[1])
    for seed in range(40):
        result = made.set_random_state(seed)(item(made.initial_patch_size))
        assert result["image"].shape == (2, *patch)
        assert result["image"].dtype == torch.float32
        assert torch.isfinite(result["image"]).all()
        assert set(result["label"].unique().tolist()) <= {0, 2}
        assert result["label"].dtype == torch.int16
        assert type(result["image"]) is type(result["label"]) is torch.Tensor


def test_published_probabilities_and_recipes():
    def steps(recipe, **options):
        return {type(t).__name__: t for t in TrainingTransforms((40, 56, 40), recipe, **options).transforms}

    first, second = steps("u_mamba"), steps("u_mamba2")
    assert first["RandRotateScaleCropd"].interpolation == first["RandChannelLowResolutiond"].interpolation == "cubic"
    assert second["RandRotateScaleCropd"].interpolation == second["RandChannelLowResolutiond"].interpolation == "linear"
    assert steps("u_mamba", interpolation="linear")["RandRotateScaleCropd"].interpolation == "linear"
    assert not first["RandChannelBlurd"].each_axis
    assert second["RandChannelBlurd"].each_axis
    for chain, brightness in [(first, "RandScaleIntensityd"), (second, "RandChannelBrightnessd")]:
        probabilities = {name: t.prob for name, t in chain.items() if hasattr(t, "prob")}
        assert probabilities.pop(brightness) == 0.15
        assert probabilities == {
            "RandRotateScaleCropd": 1.0,
            "RandGaussianNoised": 0.1,
            "RandChannelBlurd": 0.2,
            "RandChannelContrastd": 0.15,
            "RandChannelLowResolutiond": 0.25,
            "RandChannelGammad": 0.3,
            "RandFlipd": 0.5,
        }
    gammas = [t.prob for t in TrainingTransforms((8, 8)).transforms if type(t).__name__ == "RandChannelGammad"]
    assert gammas == [0.1, 0.3]


def test_dummy_2d_keeps_the_resolution_across_slices():
    def fixed(patch):
        chain = TrainingTransforms(patch).transforms
        return next(t.fixed_axes for t in chain if type(t).__name__ == "RandChannelLowResolutiond")

    assert fixed((10, 40, 40)) == {0}
    assert fixed((30, 40, 40)) == set()


def test_mirroring_options():
    def names(**options):
        return [type(t).__name__ for t in TrainingTransforms((8, 8, 8), **options).transforms]

    assert names().count("RandFlipd") == 3
    assert names(mirror_axes=[0, 1]).count("RandFlipd") == 2
    assert "RandFlipd" not in names(mirror_axes=[])
    assert "RandLeftRightFlipd" in names(left_right_pairs=[[1, 2]])
    with pytest.raises(ValueError, match="recipe"):
        TrainingTransforms((8, 8), "nnunet")


def test_labels_of_the_sides_are_exchanged_along_the_given_axis():
    label = torch.zeros(1, 8, 8, 8, dtype=torch.int16)
    label[0, :4], label[0, 4:] = 1, 2
    seen = set()
    made = TrainingTransforms((8, 8, 8), mirror_axes=[0], left_right_pairs=[[1, 2]], left_right_axis=0)
    mirror = next(t for t in made.transforms if type(t).__name__ == "RandLeftRightFlipd")
    for seed in range(8):
        mirror.set_random_state(seed)
        image = torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 8, 8)
        result = mirror({"image": image, "label": label})
        seen.add(bool(result["image"][0, 0, 0, 0]))
        assert torch.equal(result["label"], label), "left stays left, whether the patient was mirrored or not"
    assert seen == {True, False}


def test_same_seed_same_patch():
    made = TrainingTransforms((9, 11, 13))
    data = item(made.initial_patch_size)
    first, second = (made.set_random_state(11)(data)["image"] for _ in range(2))
    assert torch.equal(first, second)


def test_validation_only_clears_the_outside():
    data = item((6, 5, 4))
    result = ValidationTransforms()(data)
    assert torch.equal(result["image"], data["image"])
    assert torch.equal(result["label"], data["label"].clamp(min=0))
