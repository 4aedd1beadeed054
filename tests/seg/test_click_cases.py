import json
import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_apps.common.errors import DataError
from custom_apps.seg.case_export import RestoreSegmentationd
from custom_apps.seg.case_loading import LoadImageCased, PreprocessCased
from custom_apps.seg.click_cases import PaintClicksd, PrepareClicksd, paint_crosses
from custom_apps.seg.click_inferer import ClickInferer
from custom_apps.seg.clicks import Click, write_clicks
from tests.seg.click_phantom import BallNetwork, click_model
from tests.seg.model_phantom import LABELS, intensities, label_map, model, write_case


@pytest.fixture
def phantom():
    return click_model(spacing=(1.5, 0.8, 1.3), transpose=(1, 2, 0), patch_size=(16, 16, 16))


@pytest.fixture
def case(tmp_path):
    return write_case(tmp_path, "case_1", label_map((12, 26, 31), seed=2), margin=3)


def loaded(path, phantom, **item):
    item = PreprocessCased("image", phantom)(LoadImageCased("image")({"image": [str(path)], **item}))
    return item


def predicted(item, phantom):
    clicks = (item["click_points"], item["click_labels"])
    item["pred"] = ClickInferer(phantom.configuration.patch_size)(item["image"][None], BallNetwork(), clicks=clicks)[0]
    return PaintClicksd("pred")(RestoreSegmentationd("pred", phantom)(item))["pred"]


def test_clicks_beside_the_image_reach_their_voxel(case, phantom):
    clicks = [Click(1, (6, 13, 20)), Click(2, (3, 8, 9))]
    write_clicks(clicks, {"liver": 1, "kidney": 2}, case.parent / "case_1_clicks.json")
    item = PrepareClicksd(phantom)(loaded(case, phantom))
    assert item["click_points"].shape == (2, 3)
    assert item["click_labels"].tolist() == [0, 1]
    found = predicted(item, phantom)[0].numpy()
    for click in clicks:
        assert found[click.point] == click.label
        voxels = np.argwhere(found == click.label)
        away = np.abs(voxels - click.point).max(axis=0)
        assert (away * [2.0, 1.0, 1.0] <= 2.5 * 1.5 + 2).all(), "a ball about the click, in mm"


def test_clicks_from_a_folder_from_the_item_or_none(case, phantom, tmp_path):
    write_clicks([Click(2, (5, 13, 14))], {"liver": 1, "kidney": 2}, tmp_path / "clicks" / "case_1_clicks.json")
    found = PrepareClicksd(phantom, clicks_dir=tmp_path / "clicks")(loaded(case, phantom))
    assert found["click_labels"].tolist() == [1]
    content = {"points": [{"name": "liver", "point": [5, 13, 14]}] * 2}
    given = PrepareClicksd(phantom, clicks_dir=tmp_path / "clicks")(loaded(case, phantom, clicks=content))
    assert given["click_labels"].tolist() == [0, 0]
    assert torch.equal(given["click_points"][0], found["click_points"][0])
    for transform in (PrepareClicksd(phantom, "none", tmp_path / "clicks"), PrepareClicksd(phantom)):
        none = transform(loaded(case, phantom))
        assert none["click_points"].shape == (0, 3)
        assert none["clicks"] == "[]"


def test_simulated_clicks_lie_on_the_reference(case, phantom):
    label = case.parents[1] / "labelsTs" / "case_1.nii.gz"
    item = PrepareClicksd(phantom, "simulated", seed=4)(loaded(case, phantom, label=str(label)))
    again = PrepareClicksd(phantom, "simulated", seed=4)(loaded(case, phantom, label=str(label)))
    clicks = [(number, tuple(map(int, point))) for number, point in json.loads(item["clicks"])]
    assert item["clicks"] == again["clicks"]
    assert {number for number, _ in clicks} == {1, 2}
    assert all(item["label"][0][point] == number for number, point in clicks)


def test_image_in_monai_order(phantom):
    """Clicks count axes as the file's array (z, y, x) also when the image came as (x, y, z)."""
    labels = label_map((12, 26, 31), seed=2)
    image = MetaTensor(torch.from_numpy(intensities(labels)).permute(2, 1, 0)[None], affine=np.diag([1, 1, 2, 1.0]))
    content = {"points": [{"name": "liver", "point": [6, 13, 20]}]}
    item = PreprocessCased("image", phantom)({"image": image, "clicks": content})
    found = predicted(PrepareClicksd(phantom)(item), phantom)
    assert found.shape == (1, 31, 26, 12)
    assert found[0, 20, 13, 6] == 1
    assert isinstance(found, MetaTensor)


def test_a_click_in_the_air_around_the_patient_is_logged(case, phantom, caplog):
    content = {"points": [{"name": "liver", "point": [6, 0, 0]}]}
    with caplog.at_level(logging.WARNING):
        item = PrepareClicksd(phantom)(loaded(case, phantom, clicks=content))
    assert item["click_points"].shape == (0, 3)
    assert "case_1: 1 clicks lie in the zeros" in caplog.text


def test_problems_are_named(case, phantom, tmp_path):
    outside = {"points": [{"name": "liver", "point": [6, 13, 31]}]}
    with pytest.raises(DataError, match=r"case_1_0000.nii.gz: click 1 at .* is outside"):
        PrepareClicksd(phantom)(loaded(case, phantom, clicks=outside))
    with pytest.raises(DataError, match="no such folder"):
        PrepareClicksd(phantom, clicks_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="takes no clicks"):
        PrepareClicksd(model(patch_size=(16, 16, 16)))(loaded(case, phantom))
    with pytest.raises(ValueError, match="source"):
        PrepareClicksd(phantom, "guessed")


def test_crosses():
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1, 2, 3], labels[0, 0, 1], labels[2, 3, 3] = 1, 1, 2
    paint_crosses(labels, [Click(1, (2.2, 1.8, 3.0)), Click(1, (0, 0, 0)), Click(2, (3, 0, 5)), Click(2, (1, 3, 5))])
    expected = np.zeros((4, 5, 6), np.int16)
    expected[1, 2, 3] = expected[3, 2, 3] = expected[2, 1, 3] = expected[2, 3, 3] = 1
    expected[2, 2, 2:5] = 1
    # At the corner three arms are cut off; where a label is not in the cross nothing is painted.
    expected[0, 0, 0] = expected[1, 0, 0] = expected[0, 1, 0] = expected[0, 0, 1] = 1
    assert np.array_equal(labels, expected)


def test_painting_keeps_the_geometry():
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    labels = MetaTensor(torch.zeros(1, 4, 5, 6, dtype=torch.int16), affine=affine)
    labels[0, 1, 2, 3] = LABELS["kidney"]
    item = {"pred": labels, "properties": json.dumps({}), "clicks": json.dumps([[2, [1.0, 2.0, 3.0]]])}
    found = PaintClicksd("pred")(item)["pred"]
    assert np.array_equal(found.affine, affine)
    assert found.dtype == torch.int16
    assert (found == 2).sum() == 7
    assert (labels == 2).sum() == 1
