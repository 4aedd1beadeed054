import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.component_filter import ComponentFilter
from custom_apps.seg.ensemble import EnsembleNetwork
from custom_apps.seg.predictor import CasePredictor
from custom_apps.seg.sliding_window import PatchwiseInferer
from tests.seg.model_phantom import IntensityNetwork, label_map, model, write_case


@pytest.fixture
def phantom(tmp_path):
    phantom = model(tmp_path / "model")
    phantom.folder.mkdir()
    write_json(phantom.dataset_json, phantom.folder / "dataset.json")
    return phantom


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_a_folder_is_predicted_exactly(tmp_path, phantom):
    maps = {case: label_map((9, 20 + seed, 31), seed) for seed, case in enumerate(("a", "b_1", "c"))}
    for case, labels in maps.items():
        write_case(tmp_path, case, labels)
    predictor = CasePredictor(phantom, IntensityNetwork(as_list=True))
    assert predictor.predict_folder(tmp_path / "imagesTs", tmp_path / "out") == ["a", "b_1", "c"]
    for case, labels in maps.items():
        assert np.array_equal(read(tmp_path / "out" / f"{case}.nii.gz"), labels)
    with open(tmp_path / "out" / "prediction_times.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b_1", "c"]
    assert all(float(row["seconds"]) > 0 and float(row["host_mib"]) > 0 for row in rows)
    assert np.array_equal(predictor.predict(tmp_path / "imagesTs" / "a_0000.nii.gz"), maps["a"])


def test_a_broken_run_is_continued(tmp_path, phantom):
    for case in "ab":
        write_case(tmp_path, case, label_map())
    predictor = CasePredictor(phantom, IntensityNetwork())
    out = tmp_path / "out"
    assert predictor.predict_folder(tmp_path / "imagesTs", out, part=0, parts=2) == ["a"]
    with pytest.raises(DataError, match="was predicted before"):
        predictor.predict_folder(tmp_path / "imagesTs", out)
    assert predictor.predict_folder(tmp_path / "imagesTs", out, existing="skip") == ["b"]
    assert [row.split(",")[0] for row in (out / "prediction_times.csv").read_text().split()] == ["case", "b"]
    assert predictor.predict_folder(tmp_path / "imagesTs", out, existing="skip") == []
    assert predictor.predict_folder(tmp_path / "imagesTs", out, existing="overwrite") == ["a", "b"]


def test_a_network_that_fails_leaves_no_file(tmp_path, phantom):
    write_case(tmp_path, "case_9", label_map())
    network = IntensityNetwork(levels=(0.5, float("nan"), 2.0))
    with pytest.raises(DataError, match="case_9"):
        CasePredictor(phantom, network).predict_folder(tmp_path / "imagesTs", tmp_path / "out")
    assert not (tmp_path / "out" / "case_9.nii.gz").exists()


def test_mirroring_changes_nothing_for_a_pointwise_network(tmp_path, phantom):
    labels = label_map()
    path = write_case(tmp_path, "a", labels)
    inferer = PatchwiseInferer(phantom.configuration.patch_size, mirror_axes=(0, 1, 2), sw_batch_size=3)
    assert np.array_equal(CasePredictor(phantom, IntensityNetwork(), inferer).predict(path), labels)


def test_components_are_filtered(tmp_path, phantom):
    labels = label_map()
    path = write_case(tmp_path, "a", labels)
    cut = ComponentFilter({2: 1e9})
    found = CasePredictor(phantom, IntensityNetwork(), component_filter=cut).predict(path)
    assert np.array_equal(found, np.where(labels == 2, 0, labels))


def test_colour_images(tmp_path):
    phantom = model(tmp_path / "model", (1.0, 1.0), (16, 16), channels=3, file_ending=".png")
    phantom.folder.mkdir()
    write_json(phantom.dataset_json, phantom.folder / "dataset.json")
    labels = label_map((1, 37, 29))[0]
    (tmp_path / "images").mkdir()
    colours = np.stack([np.where(labels == 0, 50, labels * 100)] * 3, -1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "images" / "cell_0000.png")
    predictor = CasePredictor(phantom, IntensityNetwork(), probabilities=True)
    predictor.predict_folder(tmp_path / "images", tmp_path / "out")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "cell.png")), labels)
    with np.load(tmp_path / "out" / "cell.npz") as archive:
        assert archive["probabilities"].shape == (3, 1, 37, 29)


def test_folds_on_disk_are_averaged(tmp_path):
    phantom = model(tmp_path / "fold_0", patch_size=(8, 8, 8))
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = []
    for fold in range(2):
        torch.manual_seed(fold)
        network = phantom.network().eval()
        folder = tmp_path / f"fold_{fold}"
        replace(phantom, folder=folder).write()
        torch.save(network.state_dict(), folder / "model.pt")
        with torch.no_grad():
            expected.append(network(x))
    predictor = CasePredictor.from_folders([tmp_path / "fold_0", tmp_path / "fold_1"])
    assert isinstance(predictor.network, EnsembleNetwork)
    with torch.no_grad():
        assert torch.allclose(predictor.network(x), (expected[0] + expected[1]) / 2, atol=1e-6)
    assert not isinstance(CasePredictor.from_folders(tmp_path / "fold_1" / ".." / "fold_0").network, EnsembleNetwork)
    (tmp_path / "fold_1" / "model.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"fold_1/model.pt"):
        CasePredictor.from_folders([tmp_path / "fold_0", tmp_path / "fold_1"])


def test_probabilities_of_folder_prediction_carry_the_geometry(tmp_path, phantom):
    write_case(tmp_path, "a", label_map())
    CasePredictor(phantom, IntensityNetwork(), probabilities=True).predict_folder(
        tmp_path / "imagesTs", tmp_path / "out"
    )
    assert json.loads((tmp_path / "out" / "a.json").read_text())["spacing"] == pytest.approx([2, 1, 1])
