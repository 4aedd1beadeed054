import nibabel
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.preparation import Preparation, prepare_images
from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.errors import DataError

SHAPE = (18, 22, 14)


def oblique(spacing_mm=(1.0, 1.0, 1.0), signs=(1, 1, 1)):
    c, s = np.cos(0.2), np.sin(0.2)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(np.multiply(spacing_mm, signs))
    affine[:3, 3] = (12, -30, 7)
    return affine


def write(tmp_path, arrays, affine, suffix=""):
    paths = [tmp_path / f"p{suffix}_{name}.nii.gz" for name in CONTRASTS]
    for array, path in zip(arrays, paths, strict=True):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return paths


def brain(low=(3, 4, 2), high=(15, 20, 11), channels=4, seed=0, shape=SHAPE):
    random = np.random.default_rng(seed)
    arrays = np.zeros((channels, *shape), np.float32)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    arrays[(slice(None), *box)] = random.uniform(100, 900, (channels, *np.subtract(high, low)))
    return arrays


def positions(shape, affine):
    """Places of all voxels in mm, (3, x, y, z)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def test_crop_takes_whole_voxels(tmp_path):
    arrays, affine = brain(), oblique()
    prepared = prepare_images(write(tmp_path, arrays, affine), preparation=Preparation(size=(10, 20, 12)))
    # The box 3:15, 4:20, 2:11 is cut to 10 about its middle, and padded to 20 and to 12.
    expected = np.zeros((10, 20, 12), np.float32)
    expected[:, 2:18, 2:11] = arrays[0, 4:14, 4:20, 2:11]
    low, high = np.percentile(expected[expected != 0], (0.1, 99.9))
    gray = np.where(expected != 0, np.rint(np.clip((expected - low) / (high - low), 0, 1) * 255), 0)
    assert np.array_equal(prepared.image[0], gray)
    assert prepared.image.dtype == np.uint8
    assert np.allclose(prepared.affine @ (0, 2, 2, 1), affine @ (4, 4, 2, 1))
    assert prepared.record["limits"]["t1"] == pytest.approx([low, high])
    assert prepared.record["cut_mm"] == pytest.approx([2, 0, 0])


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_orientation_of_the_file_does_not_matter(tmp_path, signs, order):
    arrays, affine = brain(), oblique()
    reference = prepare_images(write(tmp_path, arrays, affine), preparation=Preparation(size=(16, 18, 12)))
    ornt = np.array([[order.index(a), signs[a]] for a in range(3)], float)
    turned = [nibabel.Nifti1Image(array, affine).as_reoriented(ornt) for array in arrays]
    paths = write(tmp_path, [np.asarray(image.dataobj) for image in turned], turned[0].affine, "turned")
    prepared = prepare_images(paths, preparation=Preparation(size=(16, 18, 12)))
    assert np.array_equal(prepared.image, reference.image)
    assert np.allclose(prepared.affine, reference.affine)


@pytest.mark.parametrize("fit", ["crop", "resize"])
@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 3.0), (0.5, 0.6, 0.5)])
def test_resampled_voxels_stay_at_their_place(tmp_path, fit, spacing_mm):
    affine, shape = oblique(spacing_mm), (24, 28, 20)
    ramp = positions(shape, affine)
    ramp = ramp - ramp.min(axis=(1, 2, 3), keepdims=True) + 100
    paths = write(tmp_path, [*ramp.astype(np.float32), ramp[0].astype(np.float32)], affine)
    settings = Preparation(size=(21, 19, 23), spacing_mm=1.5, fit=fit, percentiles=(0, 100))
    prepared = prepare_images(paths, preparation=settings)
    assert np.linalg.norm(prepared.affine[:3, :3], axis=0) == pytest.approx([prepared.record["spacing_mm"]] * 3)
    # Away from the margin gray values are a linear function of the place.
    inside = binary_erosion((prepared.image[:3] > 0).any(axis=0), iterations=2)
    assert inside.sum() > 50
    where = positions(prepared.image.shape[1:], prepared.affine)
    for axis in range(3):
        low, high = prepared.record["limits"][CONTRASTS[axis]]
        found = prepared.image[axis][inside] / 255 * (high - low) + low
        place = found - 100 + positions(shape, affine)[axis].min()
        tolerance = (high - low) / 255 + 0.02
        assert np.abs(place - where[axis][inside]).max() < tolerance


def test_resize_holds_the_whole_foreground(tmp_path):
    prepared = prepare_images(
        write(tmp_path, brain(), oblique()), preparation=Preparation(size=(8, 8, 8), fit="resize")
    )
    assert prepared.record["spacing_mm"] == pytest.approx(16 / 8)
    assert prepared.record["cut_mm"] == [0, 0, 0]
    filled = (prepared.image > 0).any(axis=0)
    extents = [int(filled.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    assert extents[:2] == [6, 8]
    assert extents[2] in (4, 5)


def test_background_stays_zero_with_negative_intensities(tmp_path):
    arrays = brain()
    arrays = np.where(arrays != 0, arrays - 500, 0).astype(np.float32)
    prepared = prepare_images(write(tmp_path, arrays, oblique()), preparation=Preparation(size=SHAPE))
    assert prepared.image.min() == 0
    assert prepared.image[:, 0, 0].max() == 0
    assert prepared.image.max() == 255


def test_contrasts_keep_their_own_scale(tmp_path):
    arrays = brain() * np.array([1, 10, 0.1, 3]).reshape(4, 1, 1, 1)
    prepared = prepare_images(
        write(tmp_path, arrays.astype(np.float32), oblique()), preparation=Preparation(size=SHAPE)
    )
    assert [int(channel.max()) for channel in prepared.image] == [255] * 4


def test_mask_goes_along_by_nearest_neighbor(tmp_path):
    arrays, affine = brain(), oblique((2, 2, 2))
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:9, 6:10, 4:8] = 4
    nibabel.save(nibabel.Nifti1Image(mask, affine), tmp_path / "p_seg.nii.gz")
    prepared = prepare_images(
        write(tmp_path, arrays, affine), tmp_path / "p_seg.nii.gz", Preparation(size=(40, 40, 30))
    )
    assert set(np.unique(prepared.mask)) == {0, 4}
    assert (prepared.mask > 0).sum() == pytest.approx(8 * 64, rel=0.02)
    place = positions(prepared.mask.shape, prepared.affine)[:, prepared.mask > 0].mean(axis=1)
    assert place == pytest.approx((affine @ (6.5, 7.5, 5.5, 1))[:3], abs=0.3)


def test_dicom_gives_the_same_as_nifti(tmp_path):
    arrays, affine = np.rint(brain()).astype(np.int16), oblique((1.0, 1.2, 2.0))
    folders = [write_dicom_series(a, affine, tmp_path / name) for a, name in zip(arrays, CONTRASTS, strict=True)]
    settings = Preparation(size=(16, 18, 24))
    nifti = prepare_images(write(tmp_path, arrays, affine), preparation=settings)
    dicom = prepare_images(folders, preparation=settings)
    assert np.abs(nifti.image.astype(int) - dicom.image.astype(int)).max() <= 1
    assert np.allclose(nifti.affine, dicom.affine, atol=1e-5)


def test_other_grids_are_refused_or_resampled(tmp_path):
    arrays, affine = brain(), oblique()
    paths = write(tmp_path, arrays, affine)
    coarse = affine.copy()
    coarse[:3, :3] *= 2
    coarse[:3, 3] += affine[:3, :3] @ (0.5, 0.5, 0.5)
    halved = arrays[3].reshape(9, 2, 11, 2, 7, 2).mean(axis=(1, 3, 5))
    nibabel.save(nibabel.Nifti1Image(halved, coarse), paths[3])
    with pytest.raises(DataError, match=r"p_flair.nii.gz: shape is \(9, 11, 7\).*--resample"):
        prepare_images(paths, preparation=Preparation(size=SHAPE))
    prepared = prepare_images(paths, preparation=Preparation(size=SHAPE, resample=True))
    assert prepared.record["resampled_to_one_grid"]
    assert prepared.image[3].max() == 255
    assert np.linalg.norm(prepared.affine[:3, :3], axis=0) == pytest.approx([1] * 3)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_contrast_is_named(tmp_path, value):
    arrays = brain()
    arrays[2] = value
    with pytest.raises(DataError, match=rf"p_t1ce.nii.gz: every voxel is {value:g}"):
        prepare_images(write(tmp_path, arrays, oblique()), preparation=Preparation(size=SHAPE))


def test_nan_is_named(tmp_path):
    arrays = brain()
    arrays[1, 5, 5, 5] = np.nan
    with pytest.raises(DataError, match=r"p_t2.nii.gz: has NaN"):
        prepare_images(write(tmp_path, arrays, oblique()), preparation=Preparation(size=SHAPE))


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": (1, 2)}, {"fit": "stretch"}, {"percentiles": (50, 40)}, {"spacing_mm": 0}]
)
def test_bad_settings(options):
    with pytest.raises(ValueError, match=r"must be|make no sense"):
        Preparation(**options)
