import gzip

import nibabel
import numpy as np
import pytest

from custom_apps.common.dicom_series import dicom_series, read_dicom_series, write_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.volume_file import grid_problem, nifti_stem, read_volume, write_nifti


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(-500, 2000, (7, 9, 5)).astype(np.int16)


def oblique(signs=(-1, 1, 1)):
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.diag(np.multiply(signs, (1.1, 0.9, 2.5)))
    affine[:3, 3] = (10, -20, 30)
    return affine


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_round_trip(tmp_path, array, name):
    write_nifti(array, oblique(), tmp_path / name)
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, array)
    assert np.allclose(volume.affine, oblique(), atol=1e-6)
    assert volume.spacing_mm == pytest.approx((1.1, 0.9, 2.5))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(DataError, match="not overwritten"):
        write_nifti(array, oblique(), tmp_path / name)
    write_nifti(array[1:], oblique(), tmp_path / name, overwrite=True)
    assert read_volume(tmp_path / name).array.shape == (6, 9, 5)


def test_scale_factors_apply(tmp_path, array):
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert np.allclose(read_volume(tmp_path / "a.nii.gz").array, array * 0.5 + 10)


def test_fourth_axis_of_length_one(tmp_path, array):
    nibabel.save(nibabel.Nifti1Image(array[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").array.shape == array.shape


def bad_file(path, kind, array):
    match kind:
        case "four axes":
            nibabel.save(nibabel.Nifti1Image(np.stack([array] * 2, -1), np.eye(4)), path)
        case "two axes":
            nibabel.save(nibabel.Nifti1Image(array[..., 0], np.eye(4)), path)
        case "nan":
            nibabel.save(nibabel.Nifti1Image(np.where(array > 0, np.nan, array).astype(np.float32), np.eye(4)), path)
        case "singular":
            image = nibabel.Nifti1Image(array, np.eye(4))
            image.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
            nibabel.save(image, path)
        case "truncated":
            write_nifti(array, np.eye(4), path)
            path.write_bytes(path.read_bytes()[:-50])
        case "header only":
            write_nifti(array, np.eye(4), path)
            path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:400]))
        case "no NIfTI":
            path.write_bytes(b"hello")


@pytest.mark.parametrize(
    "kind", ["four axes", "two axes", "nan", "singular", "truncated", "header only", "no NIfTI", "absent"]
)
def test_bad_files_are_named(tmp_path, array, kind):
    path = tmp_path / "bad.nii.gz"
    bad_file(path, kind, array)
    with pytest.raises(DataError, match=r"bad\.nii\.gz"):
        read_volume(path)


def test_unknown_ending(tmp_path, array):
    with pytest.raises(DataError, match="unknown file ending"):
        read_volume(tmp_path / "a.mha")
    with pytest.raises(DataError, match="unknown file ending"):
        write_nifti(array, np.eye(4), tmp_path / "a.mha")
    assert (nifti_stem("x/a.b.nii.gz"), nifti_stem("c.nii"), nifti_stem("d.png")) == ("a.b", "c", "d.png")


def test_grids():
    affine, shifted = oblique(), oblique()
    shifted[0, 3] += 0.05
    assert grid_problem((7, 9, 5), affine, (7, 9, 5), shifted) is None
    shifted[0, 3] += 0.1
    assert "0.15 mm" in grid_problem((7, 9, 5), affine, (7, 9, 5), shifted)[0]
    assert grid_problem((7, 9, 5), affine, (7, 9, 6), affine) == ("shape is (7, 9, 5)", "(7, 9, 6)")
    turned = affine @ np.diag([1, 1, 1.1, 1])
    assert grid_problem((7, 9, 5), affine, (7, 9, 5), turned)


@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, -1), (1, 1, 1)])
def test_dicom_round_trip(tmp_path, array, signs):
    folder = write_dicom_series(array, oblique(signs), tmp_path / "s", {"0008|103e": "T1 post"})
    found, affine = read_dicom_series(folder)
    places = {}
    for values, matrix in ((array, oblique(signs)), (found, affine)):
        corner = matrix @ (0, 0, 0, 1)
        places[tuple(np.round(corner[:3], 3))] = values[0, 0, 0]
    # Slices may come in the other order; every voxel must lie where it lay.
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij")).reshape(3, -1)
    where = oblique(signs) @ np.vstack([index, np.ones(index.shape[1])])
    back = np.rint(np.linalg.inv(affine) @ where)[:3].astype(int)
    assert np.abs(affine @ np.vstack([back, np.ones(back.shape[1])]) - where).max() < 1e-4
    assert np.array_equal(found[tuple(back)], array[tuple(index)])
    assert [text for text, _ in dicom_series(folder).values()] == ["T1 post"]


def test_order_of_file_names_does_not_matter(tmp_path, array):
    folder = write_dicom_series(array, oblique(), tmp_path / "s")
    expected = read_dicom_series(folder)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        path.rename(folder / f"IM{number}")
    found = read_dicom_series(folder)
    assert np.array_equal(found[0], expected[0])
    assert np.allclose(found[1], expected[1])


def test_missing_slice(tmp_path, array):
    folder = write_dicom_series(array, oblique(), tmp_path / "s")
    (folder / "0003.dcm").unlink()
    with pytest.raises(DataError, match=r"slices 5 mm apart among others 2.5 mm apart"):
        read_dicom_series(folder)


def test_two_series_in_a_folder(tmp_path, array):
    first = write_dicom_series(array, oblique(), tmp_path / "a", {"0008|103e": "T1"})
    second = write_dicom_series(array + 1, oblique(), tmp_path / "b", {"0008|103e": "T2"})
    for path in second.iterdir():
        path.rename(first / f"b{path.name}")
    with pytest.raises(DataError, match=r"2 series \(T"):
        read_dicom_series(first)
    series = next(name for name, (text, _) in dicom_series(first).items() if text == "T2")
    assert np.array_equal(np.sort(read_dicom_series(first, series)[0], axis=None), np.sort(array + 1, axis=None))
    with pytest.raises(DataError, match="no series"):
        read_dicom_series(first, "1.2.3")


def test_damaged_slice(tmp_path, array):
    folder = write_dicom_series(array, oblique(), tmp_path / "s")
    path = folder / "0002.dcm"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"/s: "):
        read_dicom_series(folder)


def test_what_is_no_dicom(tmp_path, array):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no DICOM slices"):
        read_volume(tmp_path)
    with pytest.raises(ValueError, match="whole numbers"):
        write_dicom_series(array.astype(np.float32), np.eye(4), tmp_path / "s")
    with pytest.raises(DataError, match="not overwritten"):
        write_dicom_series(array, np.eye(4), tmp_path)
