import numpy as np
import pytest

from custom_apps.seg.normalization import normalize, scheme_for_channel

IMAGE = np.random.default_rng(0).normal(100, 20, (4, 5, 6))


def test_z_score_of_everything():
    result = normalize(IMAGE, "ZScoreNormalization")
    assert result.dtype == np.float32
    assert result.mean() == pytest.approx(0, abs=1e-6)
    assert result.std() == pytest.approx(1, abs=1e-6)


def test_z_score_of_a_region_leaves_the_rest():
    image = IMAGE.copy()
    mask = np.zeros(image.shape, bool)
    mask[:, 1:4] = True
    image[~mask] = 0
    result = normalize(image, "ZScoreNormalization", mask)
    assert result[mask].mean() == pytest.approx(0, abs=1e-6)
    assert result[mask].std() == pytest.approx(1, abs=1e-6)
    assert not result[~mask].any()


def test_ct():
    properties = {"mean": 100.0, "std": 10.0, "percentile_00_5": 80.0, "percentile_99_5": 130.0}
    result = normalize(np.array([[[0.0, 90.0, 500.0]]]), "CTNormalization", intensities=properties)
    assert result.ravel().tolist() == [-2.0, -1.0, 3.0]
    with pytest.raises(ValueError, match="no foreground intensity properties"):
        normalize(IMAGE, "CTNormalization")


def test_rescaling():
    result = normalize(IMAGE, "RescaleTo01Normalization")
    assert (result.min(), result.max()) == (0, 1)


def test_rgb():
    assert normalize(np.array([[[0.0, 51.0, 255.0]]]), "RGBTo01Normalization").ravel() == pytest.approx([0, 0.2, 1])
    for bad in (-1.0, 256.0):
        with pytest.raises(ValueError, match=r"expected 0\.\.255"):
            normalize(np.array([[[bad]]]), "RGBTo01Normalization")


def test_none():
    np.testing.assert_array_equal(normalize(IMAGE, "NoNormalization"), IMAGE.astype(np.float32))


@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "RescaleTo01Normalization"])
def test_constant_images_stay_finite(scheme):
    assert not normalize(np.full((2, 3, 4), 7.0), scheme).any()


@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization"])
def test_input_is_left_alone(scheme):
    image = IMAGE.astype(np.float32)
    before = image.copy()
    normalize(image, scheme)[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "CTNormalization"),
        ("ct", "CTNormalization"),
        ("noNorm", "NoNormalization"),
        ("zscore", "ZScoreNormalization"),
        ("rescale_to_0_1", "RescaleTo01Normalization"),
        ("RGB_to_0_1", "RGBTo01Normalization"),
        ("MRI", "ZScoreNormalization"),
        ("CBCT", "ZScoreNormalization"),
        ("R", "ZScoreNormalization"),
    ],
)
def test_channel_names_choose_the_scheme(name, scheme):
    assert scheme_for_channel(name) == scheme


def test_unknown_scheme():
    with pytest.raises(ValueError, match="unknown normalization 'Nope'"):
        normalize(IMAGE, "Nope")
