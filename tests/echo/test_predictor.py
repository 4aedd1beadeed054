import csv
import json
import math

import nibabel
import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.echo.chains import EchoNetClips
from custom_apps.echo.clip_protocols import ClipProtocols
from custom_apps.echo.ef_export import AverageClipsd, SaveEF
from custom_apps.echo.lv_export import SaveLV, resize_masks, write_mask
from custom_apps.echo.predictor import EFPredictor, VentriclePredictor, load_network
from custom_apps.echo.video_file import read_video
from custom_apps.echo.video_writing import write_video
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.mamba3d_segmenter import Mamba3DSegmenter
from tests.bundles.bundle_cli import ROOT
from tests.echo.test_dicom_video import write_dicom

ENCODER = {"clip_size": (4, 16, 16), "patch_size": 8, "embed_dim": 16, "num_macro_blocks": 1}


@pytest.fixture
def chain():
    return EchoNetClips(training=False, length=4, period=2, size=16)


@pytest.fixture
def regressor():
    torch.manual_seed(0)
    return Mamba3DRegressor(final_dim=8, initial_output=50.0, **ENCODER)


@pytest.fixture
def segmenter():
    torch.manual_seed(1)
    return Mamba3DSegmenter(**ENCODER)


def speckle(frames: int = 11, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 255, (frames, *size), dtype=np.uint8)


def test_ef_of_a_video_is_that_of_its_clips(tmp_path, chain, regressor):
    write_video(speckle(), tmp_path / "a.avi", 40)
    found = EFPredictor(regressor, chain, clips=2, stride=2, batch_size=3).predict(tmp_path / "a.avi")
    assert found.clip_starts == (0, 2, 4)
    clips = EchoNetClips(training=False, length=4, period=2, size=16, start="all")({"image": str(tmp_path / "a.avi")})
    with torch.no_grad():
        expected = regressor(clips["image"][[0, 2, 4]])[:, 0].tolist()
    np.testing.assert_allclose(found.clip_ef_percent, expected, rtol=1e-5)
    assert found.ef_percent == pytest.approx(np.mean(expected))
    assert found.std_over_clips == pytest.approx(np.std(expected, ddof=1))
    assert found.by_protocol["one_clip"] == found.clip_ef_percent[0]


def test_dicom_gives_what_the_video_gives(tmp_path, chain, regressor, segmenter):
    frames = speckle()
    write_dicom(tmp_path / "a.dcm", frames, "MONOCHROME2", FrameTime=25.0)
    write_dicom(tmp_path / "color.dcm", np.repeat(frames[..., None], 3, -1), "RGB", FrameTime=25.0)
    predictor = EFPredictor(regressor, chain)
    gray, color = (predictor.predict(tmp_path / f"{name}.dcm") for name in ("a", "color"))
    np.testing.assert_allclose(gray.clip_ef_percent, color.clip_ef_percent, atol=1e-2)
    masks, curve = VentriclePredictor(segmenter, chain, window_frames=4).predict(tmp_path / "a.dcm")
    assert masks.shape == (11, 40, 60)
    assert set(np.unique(masks)) <= {0, 1}
    assert curve.fps == pytest.approx(40)


def test_a_folder_can_be_continued(tmp_path, chain, regressor):
    for name in ("a", "b"):
        write_video(speckle(9 + ord(name) % 3), tmp_path / "in" / f"{name}.avi", 50)
    predictor = EFPredictor(regressor, chain, clips=None, stride=1)
    assert predictor.predict_folder(tmp_path / "in", tmp_path / "out") == ["a.avi", "b.avi"]
    table = (tmp_path / "out" / "ef.csv").read_text()
    with pytest.raises(DataError, match="earlier predictions"):
        predictor.predict_folder(tmp_path / "in", tmp_path / "out")
    write_dicom(tmp_path / "in" / "c.dcm", speckle(12), "MONOCHROME2")
    assert predictor.predict_folder(tmp_path / "in", tmp_path / "out", existing="skip") == ["c.dcm"]
    with open(tmp_path / "out" / "ef.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == ["a.avi", "b.avi", "c.dcm"]
    assert table.splitlines()[1] in (tmp_path / "out" / "ef.csv").read_text()
    assert rows[2]["fps"] == ""
    details = json.loads((tmp_path / "out" / "ef.json").read_text())["videos"]
    assert len(details[0]["clip_ef_percent"]) == int(rows[0]["clips"]) == len(details[0]["clip_starts"])
    assert np.mean(details[0]["clip_ef_percent"]) == pytest.approx(float(rows[0]["ef_percent"]))
    assert len(predictor.predict_folder(tmp_path / "in", tmp_path / "out", existing="overwrite")) == 3


def test_a_broken_video_is_named(tmp_path, chain, regressor):
    (tmp_path / "broken.avi").write_bytes(b"RIFF, but no more")
    with pytest.raises(DataError, match=r"broken\.avi"):
        EFPredictor(regressor, chain).predict(tmp_path / "broken.avi")


def test_files_of_the_ventricle(tmp_path, chain, segmenter):
    frames = speckle(13)
    write_video(frames, tmp_path / "in" / "a.avi", 25)
    predictor = VentriclePredictor(segmenter, chain, window_frames=4)
    kinds = ("masks", "video", "sheet", "curve")
    assert predictor.predict_folder(tmp_path / "in", tmp_path / "out", kinds=kinds) == ["a.avi"]
    image = nibabel.load(tmp_path / "out" / "a_lv.nii.gz")
    masks, _ = predictor.predict(tmp_path / "in" / "a.avi")
    np.testing.assert_array_equal(np.asarray(image.dataobj), masks.transpose(2, 1, 0))
    assert image.header.get_zooms() == pytest.approx((1, 1, 0.04))
    assert len(read_video(tmp_path / "out" / "a_lv.avi").frames) == 13
    assert (tmp_path / "out" / "a_lv.png").stat().st_size > 5000
    assert (tmp_path / "out" / "a_lv_area.png").stat().st_size > 5000
    assert predictor.predict_folder(tmp_path / "in", tmp_path / "out", "skip", kinds) == []


def test_masks_in_another_size():
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[:, 2:6, 1:5] = 1
    bigger = resize_masks(masks, (32, 16))
    assert bigger.shape == (2, 32, 16)
    assert bigger[:, 8:24, 2:10].float().mean() > 0.95
    assert int(bigger.sum()) == pytest.approx(8 * int(masks.sum()), rel=0.1)
    assert resize_masks(masks, (8, 8)) is masks


def test_a_mask_of_unknown_rate(tmp_path):
    write_mask(tmp_path / "m.nii.gz", np.ones((3, 4, 5)), math.nan)
    image = nibabel.load(tmp_path / "m.nii.gz")
    assert image.shape == (5, 4, 3)
    assert image.header.get_zooms() == (1, 1, 1)
    assert image.get_data_dtype() == np.uint8


def test_unknown_kind_of_file(tmp_path):
    with pytest.raises(ValueError, match="dicom"):
        SaveLV(tmp_path, 0.1, 0.2, kinds=["dicom"])


def test_a_prediction_that_is_not_finite_names_the_file():
    item = {"pred": torch.tensor([50.0, math.nan]), "image": torch.zeros(1, 5, 2, 2), "file_name": "x.avi"}
    with pytest.raises(FloatingPointError, match=r"x\.avi"):
        AverageClipsd("pred", ClipProtocols(length=4, period=1, clips=None))(item)


def test_nothing_to_save_leaves_no_file(tmp_path):
    save = SaveEF(tmp_path)
    save.begin()
    save.write()
    assert list(tmp_path.iterdir()) == []


def test_network_of_the_bundle_with_overlays_and_weights(tmp_path):
    bundle = ROOT / "bundles" / "echo_ef_mamba3d"
    options = {"clip_length": 4, "frame_size": 16, "patch_size": 8, "embed_dim": 16, "num_macro_blocks": 1}
    torch.save(Mamba3DSegmenter(**ENCODER).state_dict(), tmp_path / "model.pt")
    network, chain = load_network(bundle, tmp_path / "model.pt", ("inference_segmentation",), **options)
    assert isinstance(network, Mamba3DSegmenter)
    write_video(speckle(), tmp_path / "a.avi", 50)
    masks, _ = VentriclePredictor(network, chain).predict(tmp_path / "a.avi")
    assert masks.shape == (11, 40, 60)
    with pytest.raises(DataError, match=r"model\.pt"):
        load_network(bundle, tmp_path / "model.pt", (), **options, final_dim=8)
