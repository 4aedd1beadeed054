import csv
import json
import logging

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from custom_apps.brain.examinations import PrepareExaminationd, examinations_to_predict, read_record
from custom_apps.brain.inference import EnsembleLoader, FoldEnsemble, MirroredInferer, SaveMaps
from custom_apps.brain.loading import LoadPreparedd
from custom_apps.brain.patients import read_patient
from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.errors import DataError
from custom_apps.common.latent_map import latent_map
from custom_networks.nets.vim_classifier import VimClassifier


def classifier(seed: int = 0, patch_size: int = 4) -> VimClassifier:
    torch.manual_seed(seed)
    return VimClassifier(2, 4, (8, 12, 8), patch_size, 12, 2).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 4, 8, 12, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_ensemble_averages_probabilities_of_its_own_weights(image, tmp_path):
    networks = [classifier(seed) for seed in range(3)]
    paths = [tmp_path / f"{seed}.pt" for seed in range(3)]
    for path, network in zip(paths, networks, strict=True):
        torch.save(network.state_dict(), path)
    ensemble = FoldEnsemble(classifier(9), 3).eval()
    engine = Engine(lambda _engine, batch: None)
    EnsembleLoader(paths, ensemble).attach(engine)
    engine.run([0])
    expected = torch.stack([network(image).softmax(1) for network in networks]).mean(0)
    torch.testing.assert_close(ensemble(image).softmax(1), expected)


def test_ensemble_needs_as_many_files_as_members_and_fitting_ones(tmp_path):
    with pytest.raises(ValueError, match="1 files for 2 members"):
        EnsembleLoader([tmp_path / "a.pt"], FoldEnsemble(classifier(), 2))
    torch.save(classifier(patch_size=2).state_dict(), tmp_path / "a.pt")
    loader = EnsembleLoader([tmp_path / "a.pt"], FoldEnsemble(classifier(), 1))
    with pytest.raises(DataError, match="another network"):
        loader(Engine(lambda _engine, batch: None))


@torch.no_grad()
def test_mirrored_prediction_does_not_depend_on_the_side(image):
    network, inferer = classifier(), MirroredInferer()
    torch.testing.assert_close(inferer(image, network), inferer(image.flip(2), network))
    assert torch.equal(MirroredInferer(False)(image, network), network(image))
    assert not torch.allclose(inferer(image, network).softmax(1), network(image).softmax(1), atol=1e-5)


def test_map_of_an_ensemble_is_the_mean_of_its_members(image, tmp_path):
    networks = [classifier(seed) for seed in range(2)]
    ensemble = FoldEnsemble(networks[0], 2)
    ensemble.members[1].load_state_dict(networks[1].state_dict())
    handler = SaveMaps(tmp_path, ensemble, source="norm", reduce="l2")
    expected = sum(latent_map(network, image[:1], source="norm", reduce="l2") for network in networks)[0, 0] / 2
    torch.testing.assert_close(handler.map_of(image[0]), expected)


def test_earlier_maps_are_replaced_only_when_told_so(image, tmp_path):
    item = {"case": "a", "image": image[0], "affine": torch.eye(4)}
    logits = torch.tensor([0.0, 1.0])
    written = SaveMaps(tmp_path, classifier()).write(item, logits)
    assert {path.name for path in written.values()} == {"a_map.nii.gz", "a_map.png"}
    with pytest.raises(DataError, match="already there"):
        SaveMaps(tmp_path, classifier()).write(item, logits)
    before = np.asarray(nibabel.load(written["prepared"]).dataobj)
    SaveMaps(tmp_path, classifier(1), overwrite=True).write(item, logits)
    assert not np.array_equal(np.asarray(nibabel.load(written["prepared"]).dataobj), before)


def test_one_patient_or_a_data_set_raw_or_prepared(egd_phantom, prepared):
    assert len(examinations_to_predict(egd_phantom)) == 6
    (raw,) = examinations_to_predict(egd_phantom / "EGD-0003")
    (known,) = examinations_to_predict(prepared / "EGD-0003")
    assert raw["case"] == known["case"] == "EGD-0003"
    assert not raw["record"]
    assert known["record"]
    assert raw["mask"]
    assert known["mask"]


def test_a_raw_patient_becomes_what_was_prepared_before(egd_phantom, prepared):
    chain = PrepareExaminationd(size=(16, 20, 16), spacing_mm=12.0)
    (raw,), (known,) = (examinations_to_predict(folder / "EGD-0002") for folder in (egd_phantom, prepared))
    ours, theirs = chain(raw), chain(known)
    assert torch.equal(ours["image"].as_tensor(), theirs["image"].as_tensor())
    assert torch.equal(ours["image"].as_tensor(), LoadPreparedd().load(known["image"]).as_tensor())
    torch.testing.assert_close(ours["image"].affine, theirs["image"].affine, atol=1e-4, rtol=0)
    assert torch.equal(ours["tumor"], theirs["tumor"])
    flair = nibabel.load(read_patient(egd_phantom / "EGD-0002").files["flair"])
    for item in (ours, theirs):
        assert item["original_shape"].tolist() == list(flair.shape)
        np.testing.assert_allclose(item["original_affine"], flair.affine, atol=1e-4)


def test_dicom_series_become_the_same_volume(egd_phantom, tmp_path):
    patient = read_patient(egd_phantom / "EGD-0002")
    for name in ("t1", "t2", "t1ce", "flair"):
        image = nibabel.load(patient.files[name])
        write_dicom_series(np.asarray(image.dataobj), image.affine, tmp_path / "study" / name)
    chain = PrepareExaminationd(size=(16, 20, 16), spacing_mm=12.0)
    (raw,), (dicom,) = examinations_to_predict(egd_phantom / "EGD-0002"), examinations_to_predict(tmp_path / "study")
    ours, theirs = chain(dicom), chain(raw)
    assert "tumor" not in ours
    difference = ours["image"].as_tensor().int() - theirs["image"].as_tensor().int()
    assert difference.abs().max() <= 1


def test_cut_brain_is_warned_of(egd_phantom, caplog):
    (item,) = examinations_to_predict(egd_phantom / "EGD-0001")
    with caplog.at_level(logging.WARNING):
        volume = PrepareExaminationd(size=(8, 8, 8), spacing_mm=12.0)(item)["image"]
    assert volume.shape == (4, 8, 8, 8)
    assert "the brain is cut" in caplog.text


def test_earlier_predictions(egd_phantom, tmp_path):
    with open(tmp_path / "markers.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "probability"], ["EGD-0001", 0.5]])
    with pytest.raises(DataError, match="earlier predictions"):
        examinations_to_predict(egd_phantom, tmp_path)
    left = examinations_to_predict(egd_phantom, tmp_path, "skip")
    assert [item["case"] for item in left] == [f"EGD-000{number}" for number in range(2, 7)]
    assert len(examinations_to_predict(egd_phantom, tmp_path, "overwrite")) == 6
    with pytest.raises(ValueError, match="existing"):
        examinations_to_predict(egd_phantom, tmp_path, "again")


def test_broken_input_names_the_file(egd_copy, prepared_copy, tmp_path):
    patient = egd_copy / "EGD-0001"
    next(patient.glob("3_T2/NIFTI/*.nii.gz")).unlink()
    with pytest.raises(DataError, match=r"EGD-0001.*t2"):
        examinations_to_predict(patient)
    with pytest.raises(DataError, match="no such folder"):
        examinations_to_predict(tmp_path / "nobody")
    record = prepared_copy / "EGD-0002" / "EGD-0002.json"
    for content in ({"case": "EGD-0002"}, {"original_affine": [1, 2], "original_shape": [4, 4, 4]}):
        record.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"EGD-0002\.json"):
            read_record(record)
    with pytest.raises(DataError, match="shape"):
        PrepareExaminationd(size=(8, 8, 8))(examinations_to_predict(prepared_copy / "EGD-0003")[0])
