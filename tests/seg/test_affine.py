import nibabel
import numpy as np
import pytest

from custom_apps.seg.affine import affine_of, properties_of
from custom_apps.seg.volume_io import read_images
from tests.seg.model_phantom import label_map, write_case


def test_it_is_the_affine_of_nibabel_with_the_axes_turned(tmp_path):
    path = write_case(tmp_path, "a", label_map(), spacing_mm=(3.0, 0.7, 0.9))
    _, properties = read_images([path])
    assert affine_of(properties) == pytest.approx(nibabel.load(path).affine[:, [2, 1, 0, 3]], abs=1e-5)


def test_there_and_back(tmp_path):
    path = write_case(tmp_path, "a", label_map(), spacing_mm=(3.0, 0.7, 0.9))
    properties = properties_of(nibabel.load(path).affine)
    read = read_images([path])[1]
    assert properties["spacing"] == pytest.approx(read["spacing"], abs=1e-5)
    for name in ("spacing", "origin", "direction"):
        assert properties["sitk"][name] == pytest.approx(read["sitk"][name], abs=1e-5)
    assert affine_of(properties)[:, [2, 1, 0, 3]] == pytest.approx(nibabel.load(path).affine, abs=1e-9)


def test_images_without_a_position_keep_their_spacing():
    affine = affine_of({"spacing": [999.0, 2.0, 3.0]})
    assert np.linalg.norm(affine[:3, :3], axis=0).tolist() == [999.0, 2.0, 3.0]
