import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImaged

from custom_apps.common.errors import DataError
from custom_apps.seg.case_export import RestoreSegmentationd, SaveImageCased
from custom_apps.seg.case_loading import LoadImageCased, PreprocessCased
from tests.seg.model_phantom import IntensityNetwork, label_map, model, write_case


def predicted(path, phantom, loader=None):
    data = (loader or LoadImageCased())({"image": str(path)})
    data = PreprocessCased(model=phantom)(data)
    data["pred"] = IntensityNetwork()(data["image"][None])[0]
    return data


def test_the_label_map_is_written_in_the_geometry_of_the_image(tmp_path):
    labels, phantom = label_map(), model()
    path = write_case(tmp_path, "a", labels)
    data = RestoreSegmentationd(model=phantom)(predicted(path, phantom))
    assert isinstance(data["pred"], MetaTensor)
    SaveImageCased(output_dir=tmp_path / "out")(data)
    written, image = sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz")), sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(written), labels)
    assert written.GetPixelID() == sitk.sitkUInt8
    for name in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(written, name)() == pytest.approx(getattr(image, name)(), abs=1e-5)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.nii.gz"]


def test_probabilities_are_stored_beside_it(tmp_path):
    labels, phantom = label_map(), model()
    path = write_case(tmp_path, "a", labels)
    data = RestoreSegmentationd(model=phantom, probabilities_key="probabilities")(predicted(path, phantom))
    SaveImageCased(output_dir=tmp_path / "out", probabilities_key="probabilities")(data)
    with np.load(tmp_path / "out" / "a.npz") as archive:
        assert np.array_equal(archive["probabilities"].argmax(0), labels)


def test_nothing_is_overwritten_unasked(tmp_path):
    phantom = model()
    data = RestoreSegmentationd(model=phantom)(predicted(write_case(tmp_path, "a", label_map()), phantom))
    SaveImageCased(output_dir=tmp_path / "out")(data)
    before = (tmp_path / "out" / "a.nii.gz").read_bytes()
    with pytest.raises(DataError, match=r"a.nii.gz: file exists"):
        SaveImageCased(output_dir=tmp_path / "out")(data)
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == before
    SaveImageCased(output_dir=tmp_path / "out", overwrite=True)(data)


def test_monai_and_nibabel_place_the_result_where_we_do(tmp_path):
    """A labelling server writes the MetaTensor itself; its file must show the same voxels at the same positions."""
    labels, phantom = label_map(), model()
    path = write_case(tmp_path, "a", labels)
    data = RestoreSegmentationd(model=phantom)(predicted(path, phantom))
    SaveImaged("pred", output_dir=tmp_path / "monai", output_postfix="", separate_folder=False, print_log=False)(data)
    written = nibabel.load(tmp_path / "monai" / "a_0000.nii.gz")
    reference = nibabel.load(tmp_path / "labelsTs" / "a.nii.gz")
    points = [
        np.array(
            sorted(nibabel.affines.apply_affine(file.affine, np.argwhere(file.get_fdata() == 1)).round(3).tolist())
        )
        for file in (written, reference)
    ]
    assert points[0] == pytest.approx(points[1], abs=1e-2)


def test_an_image_in_monai_order_gets_its_labels_in_that_order(tmp_path):
    labels, phantom = label_map(), model()
    path = write_case(tmp_path, "a", labels)
    loader = LoadImaged("image", ensure_channel_first=True)
    data = RestoreSegmentationd(model=phantom)(predicted(path, phantom, loader))
    assert np.array_equal(data["pred"][0].numpy(), labels.transpose(2, 1, 0))
    assert data["pred"].affine.numpy() == pytest.approx(nibabel.load(path).affine, abs=1e-5)
    SaveImageCased(output_dir=tmp_path / "out")(data)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))), labels)


def test_servers_recognise_the_writer():
    writer = SaveImageCased(output_dir="anywhere")
    assert isinstance(writer, SaveImaged)
    assert type(writer).__name__.startswith("SaveImage")
    with pytest.raises(NotImplementedError):
        writer.set_options(init_kwargs={})


def test_non_finite_logits_name_the_case(tmp_path):
    phantom = model()
    data = predicted(write_case(tmp_path, "liver_3", label_map()), phantom)
    data["pred"][0, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="liver_3"):
        RestoreSegmentationd(model=phantom)(data)


def test_many_labels_need_sixteen_bits(tmp_path):
    labels = torch.full((1, 2, 3, 4), 300, dtype=torch.int16)
    data = {"pred": labels, "case": "a", "properties": json.dumps({"spacing": [1, 1, 1]})}
    SaveImageCased(output_dir=tmp_path)(data)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))).max() == 300
