import json

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, LoadImaged

from custom_apps.common.errors import DataError
from custom_apps.seg.case_loading import LoadImageCased, PreprocessCased, case_name
from tests.seg.model_phantom import intensities, label_map, model, write_case


def test_names_of_cases():
    assert case_name("/data/amos_0507_0000.nii.gz") == "amos_0507"
    assert case_name("cell_12.png") == "cell_12"
    assert case_name("a_b.c_0001.mha") == "a_b.c"


def test_image_and_label_map_are_read_with_their_geometry(tmp_path):
    labels = label_map()
    path = write_case(tmp_path, "a", labels)
    data = LoadImageCased()({"image": [str(path)], "label": str(tmp_path / "labelsTs" / "a.nii.gz")})
    assert data["case"] == "a"
    assert data["image_path"] == str(path)
    assert data["image"].shape == (1, *labels.shape)
    assert np.array_equal(data["image"][0].numpy(), intensities(labels, 2))
    assert np.array_equal(data["label"][0].numpy(), labels)
    assert data["image"].affine.numpy() == pytest.approx(nibabel.load(path).affine[:, [2, 1, 0, 3]], abs=1e-5)
    assert json.loads(data["properties"])["spacing"] == pytest.approx([2, 1, 1])


def test_a_single_path_is_enough(tmp_path):
    path = write_case(tmp_path, "a", label_map())
    assert LoadImageCased()({"image": str(path)})["image"].shape == (1, 10, 24, 20)


def test_a_label_map_of_another_shape_is_named(tmp_path):
    path = write_case(tmp_path, "a", label_map())
    write_case(tmp_path, "b", label_map((10, 24, 21)))
    with pytest.raises(DataError, match=r"b.nii.gz: shape is \(10, 24, 21\)"):
        LoadImageCased()({"image": [path], "label": str(tmp_path / "labelsTs" / "b.nii.gz")})


def test_an_unusable_image_is_named(tmp_path):
    (tmp_path / "broken_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="broken_0000"):
        LoadImageCased()({"image": str(tmp_path / "broken_0000.nii.gz")})
    path = write_case(tmp_path, "a", label_map())
    with pytest.raises(DataError, match=r"a_0000.nii.gz: 1 channels"):
        PreprocessCased(model=model(channels=2))(LoadImageCased()({"image": [path]}))


def test_preparation_leaves_the_label_map_alone(tmp_path):
    path = write_case(tmp_path, "a", label_map())
    data = LoadImageCased()({"image": [path], "label": str(tmp_path / "labelsTs" / "a.nii.gz")})
    prepared = PreprocessCased(model=model())(data)
    assert prepared["label"].shape == (1, 10, 24, 20)
    assert prepared["image"].shape == (1, 10, 20, 16), "two voxels of air are cropped on each side"
    assert type(prepared["image"]) is torch.Tensor
    assert json.loads(prepared["properties"])["bbox_used_for_cropping"] == [[0, 10], [2, 22], [2, 18]]


@pytest.mark.parametrize("workers", [0, 1])
def test_items_pass_through_a_data_loader(tmp_path, workers):
    paths = [write_case(tmp_path, case, label_map(seed=seed)) for seed, case in enumerate("ab")]
    transform = Compose([LoadImageCased(), PreprocessCased(model=model())])
    items = [{"case": case, "image": [str(path)]} for case, path in zip("ab", paths, strict=True)]
    batches = list(DataLoader(Dataset(items, transform), batch_size=1, num_workers=workers))
    assert [batch["case"] for batch in batches] == [["a"], ["b"]]
    assert "shape_before_cropping" in json.loads(batches[0]["properties"][0])


def test_an_image_that_monai_read_gives_the_same_input(tmp_path):
    path = write_case(tmp_path, "a", label_map(), spacing_mm=(2.0, 1.1, 0.9))
    ours = PreprocessCased(model=model())(LoadImageCased()({"image": [path]}))
    theirs = PreprocessCased(model=model())(LoadImaged("image", ensure_channel_first=True)({"image": str(path)}))
    assert theirs["case"] == "a"
    assert torch.allclose(ours["image"], theirs["image"], atol=1e-5)
    found, expected = (json.loads(data["properties"]) for data in (theirs, ours))
    assert found["spacing"] == pytest.approx(expected["spacing"], abs=1e-5)


def test_a_bare_array_is_taken_too():
    data = PreprocessCased(model=model(spacing=(1, 1, 1)))({"image": np.ones((9, 8, 7), np.float32)})
    assert data["image"].shape == (1, 7, 8, 9)
    assert data["case"] == "image"
    with pytest.raises(ValueError, match="expected an image"):
        PreprocessCased(model=model())({"image": MetaTensor(torch.ones(3, 3))})


def test_a_model_is_needed():
    with pytest.raises(ValueError, match="needs a model"):
        PreprocessCased("image")
