import gzip
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.seg.volume_io import (
    file_ending,
    read_images,
    read_segmentation,
    write_probabilities,
    write_segmentation,
)
from tests.seg.raw_data import volume, write

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_geometry_survives_a_round_trip(tmp_path, ending):
    image, label = volume(0, (5, 7, 9))
    path = write(image, tmp_path / f"x_0000{ending}", (3.0, 1.0, 1.25), (10.0, -20.0, 30.5), OBLIQUE)
    array, properties = read_images([path])
    assert array.dtype == np.float32
    assert array.shape == (1, 5, 7, 9)
    np.testing.assert_array_equal(array[0], image)
    assert properties["spacing"] == pytest.approx([3.0, 1.0, 1.25], abs=1e-6)
    properties = json.loads(json.dumps(properties))
    write_segmentation(label, tmp_path / f"x{ending}", properties)
    before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / f"x{ending}"))
    assert after.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    for getter in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(before, getter)() == pytest.approx(getattr(after, getter)(), abs=1e-6)
    again, _ = read_segmentation(tmp_path / f"x{ending}")
    np.testing.assert_array_equal(again[0], label)
    assert again.dtype == np.int16


def test_axes_are_those_of_the_header_reversed(tmp_path):
    data = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "x_0000.nii.gz")
    array, properties = read_images([tmp_path / "x_0000.nii.gz"])
    np.testing.assert_array_equal(array[0], data.T)
    assert properties["spacing"] == pytest.approx([3.0, 2.0, 1.0])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_scaled_integers_of_either_byte_order(tmp_path, byte_order):
    header = nibabel.Nifti1Header(endianness=byte_order)
    header.set_data_dtype(np.int16)
    data = np.random.default_rng(0).normal(size=(3, 4, 5))
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4), header), tmp_path / "x_0000.nii")
    array, _ = read_images([tmp_path / "x_0000.nii"])
    np.testing.assert_allclose(array[0], data.T, atol=1e-3)
    assert array.dtype == np.dtype("float32")


def test_two_channels(tmp_path):
    image, _ = volume(0)
    paths = [write(image * (c + 1), tmp_path / f"x_{c:04d}.nii.gz") for c in range(2)]
    np.testing.assert_array_equal(read_images(paths)[0], np.stack([image, image * 2]))


def test_reorienting_reader(tmp_path):
    image, _ = volume(0, (4, 5, 6))
    flipped = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    path = write(image, tmp_path / "x_0000.nii.gz", direction=flipped)
    plain, _ = read_images([path])
    array, properties = read_images([path], reader="NibabelIOWithReorient")
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(array[0], canonical.get_fdata().T)
    assert properties["spacing"] == pytest.approx(canonical.header.get_zooms()[::-1])
    write_segmentation((array[0] > 0).astype(np.uint8), tmp_path / "x.nii.gz", properties)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "x.nii.gz")[0], plain > 0)


def test_flat_itk_file_has_a_pseudo_spacing(tmp_path):
    path = write(volume(0)[0][2], tmp_path / "x_0000.nii.gz", (1.5, 0.5))
    array, properties = read_images([path])
    assert array.shape == (1, 1, 14, 12)
    assert properties["spacing"] == pytest.approx([999 * 1.5, 1.5, 0.5])
    write_segmentation(volume(0)[1][2:3], tmp_path / "x.nii.gz", properties)
    assert sitk.ReadImage(str(tmp_path / "x.nii.gz")).GetDimension() == 2


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("colours", [1, 3])
def test_natural_images(tmp_path, ending, colours):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    pixels = pixels if colours == 3 else pixels[..., 0]
    Image.fromarray(pixels).save(tmp_path / f"x_0000{ending}")
    array, properties = read_images([tmp_path / f"x_0000{ending}"])
    assert array.shape == (colours, 1, 6, 9)
    np.testing.assert_array_equal(array[:, 0], np.moveaxis(np.atleast_3d(pixels), -1, 0))
    assert properties["spacing"] == [999.0, 1.0, 1.0]
    label = (array[:1, 0] > 100).astype(np.int16)
    write_segmentation(label, tmp_path / f"x{ending}", properties)
    np.testing.assert_array_equal(read_segmentation(tmp_path / f"x{ending}")[0][0], label)


def test_many_labels_need_sixteen_bits(tmp_path):
    label = np.arange(300, dtype=np.int16).reshape(1, 15, 20)
    for name in ("x.png", "x.nii.gz"):
        write_segmentation(label, tmp_path / name, {"spacing": [1.0, 1.0, 1.0]})
        np.testing.assert_array_equal(read_segmentation(tmp_path / name)[0][0], label)


def test_palette_and_binary_label_images_give_indices(tmp_path):
    indices = np.random.default_rng(0).integers(0, 3, (6, 9), dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "palette.png")
    Image.fromarray(indices > 0).save(tmp_path / "binary.png")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "palette.png")[0][0, 0], indices)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "binary.png")[0][0, 0], indices > 0)


@pytest.mark.parametrize("json_name", ["x_0000.json", "x.json"])
def test_tiff_stack(tmp_path, json_name):
    stack = np.random.default_rng(0).integers(0, 999, (5, 6, 7)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x_0000.tif", stack)
    with pytest.raises(DataError, match="has no spacing file"):
        read_images([tmp_path / "x_0000.tif"])
    (tmp_path / json_name).write_text('{"spacing": [2, 0.5, 0.25]}')
    array, properties = read_images([tmp_path / "x_0000.tif"])
    np.testing.assert_array_equal(array[0], stack)
    assert properties["spacing"] == [2.0, 0.5, 0.25]
    (tmp_path / "out").mkdir()
    write_segmentation(stack % 3, tmp_path / "out" / "x.tif", properties)
    label, again = read_segmentation(tmp_path / "out" / "x.tif")
    np.testing.assert_array_equal(label[0], stack % 3)
    assert again["spacing"] == properties["spacing"]


@pytest.mark.parametrize("content", ["{", "{}", '{"spacing": [1, 2]}', '{"spacing": [1, 2, 0]}', '{"spacing": "abc"}'])
def test_broken_spacing_file(tmp_path, content):
    tifffile.imwrite(tmp_path / "x_0000.tif", np.zeros((5, 6, 7), np.uint8))
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json: (is no spacing file|spacing is)"):
        read_images([tmp_path / "x_0000.tif"])


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif"])
def test_truncated_empty_and_foreign_files(tmp_path, ending):
    path = tmp_path / f"x_0000{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 40), dtype=np.uint8)
    if ending in (".png", ".tif"):
        Image.fromarray(noise[0]).save(path)
    else:
        write(noise, path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not an image " * 50):
        path.write_bytes(broken)
        with pytest.raises(DataError) as caught:
            read_images([path])
        assert caught.value.path == str(path)


def test_gzip_cut_after_whole_blocks(tmp_path):
    path = write(volume(0)[0], tmp_path / "x_0000.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    with pytest.raises(DataError, match="truncated"):
        read_images([path])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    image, _ = volume(0)
    image[1, 2, 3] = value
    with pytest.raises(DataError, match=r"x_0000\.nii\.gz: has NaN or infinite"):
        read_images([write(image, tmp_path / "x_0000.nii.gz")])


def test_four_dimensions_and_vectors(tmp_path):
    four = write(np.zeros((2, 3, 4, 5), np.float32), tmp_path / "x_0000.nii.gz", (1, 1, 1, 1), (0, 0, 0, 0))
    with pytest.raises(DataError, match="image is 4D"):
        read_images([four])
    vector = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "v_0000.mha"))
    with pytest.raises(DataError, match="3 values per voxel"):
        read_images([tmp_path / "v_0000.mha"])


def test_channels_that_do_not_fit(tmp_path):
    first = write(volume(0)[0], tmp_path / "x_0000.nii.gz")
    shape = write(volume(0, (6, 14, 12))[0], tmp_path / "x_0001.nii.gz")
    spacing = write(volume(0)[0], tmp_path / "x_0002.nii.gz", (3.0, 1.0, 1.3))
    with pytest.raises(
        DataError, match=r"x_0001\.nii\.gz: shape is \(6, 14, 12\) \(expected \(5, 14, 12\) as in x_0000"
    ):
        read_images([first, shape])
    with pytest.raises(DataError, match=r"x_0002\.nii\.gz: spacing is"):
        read_images([first, spacing])


@pytest.mark.parametrize("bad", [0.5, -1.0, 40000.0, np.nan])
def test_label_values(tmp_path, bad):
    label = np.zeros((3, 4, 5), np.float32)
    label[1, 1, 1] = bad
    with pytest.raises(DataError, match="label map has values"):
        read_segmentation(write(label, tmp_path / "x.nii.gz"))


def test_whole_numbers_in_a_float_label_map_are_fine(tmp_path):
    label = volume(0)[1].astype(np.float64)
    np.testing.assert_array_equal(read_segmentation(write(label, tmp_path / "x.nii.gz"))[0][0], label)


def test_colour_label_map(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="label map has 3 channels"):
        read_segmentation(tmp_path / "x.png")


def test_nothing_is_overwritten_silently(tmp_path):
    label, properties = volume(0)[1], {"spacing": [1.0, 1.0, 1.0]}
    path = tmp_path / "x.nii.gz"
    write_segmentation(label, path, properties)
    with pytest.raises(DataError, match="file exists"):
        write_segmentation(label * 0, path, properties)
    assert read_segmentation(path)[0].any()
    write_segmentation(label * 0, path, properties, overwrite=True)
    assert not read_segmentation(path)[0].any()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.nii.gz"]


def test_probabilities(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5, 6))
    write_probabilities(values, tmp_path / "x.npz", {"spacing": [1.0, 2.0, 3.0]})
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_allclose(archive["probabilities"], values, atol=1e-7)
        assert archive["probabilities"].dtype == np.float32
    assert json.loads((tmp_path / "x.json").read_text()) == {"spacing": [1.0, 2.0, 3.0]}
    with pytest.raises(DataError, match="file exists"):
        write_probabilities(values, tmp_path / "x.npz", {})


def test_unknown_ending_and_missing_file(tmp_path):
    assert file_ending("a/b.c.NII.GZ") == ".nii.gz"
    with pytest.raises(DataError, match="unknown file ending"):
        read_images([tmp_path / "x.jpg"])
    with pytest.raises(DataError, match="file is missing"):
        read_images([tmp_path / "x_0000.nii.gz"])
    with pytest.raises(ValueError, match="no image files"):
        read_images([])
