import json
import re
import shutil

import nibabel
import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.check import check_dataset
from custom_apps.seg.data_import import import_dataset
from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.phantom_cbct import write_cbct_phantom, write_stsr_phantom, write_toothfairy3_phantom
from custom_apps.seg.phantom_jaw import SOURCE_IDS
from custom_apps.seg.raw_dataset import RawDataset
from custom_apps.seg.restored_ids import RestoreLabelIdsd, output_ids
from tests.seg.model_phantom import model

MISTAKEN = "ToothFairy3S_0048"


@pytest.fixture(scope="module")
def toothfairy3(tmp_path_factory):
    return write_toothfairy3_phantom(tmp_path_factory.mktemp("raw"), cases=2, size=28)


def voxels(path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_phantom_in_nnunet_layout_is_sound_and_has_both_sides(tmp_path):
    folder = write_cbct_phantom(tmp_path, cases=1, test_cases=1, size=36)
    assert check_dataset(folder) == []
    dataset = RawDataset(folder)
    label, _ = dataset.read_label(dataset.training_cases[0])
    assert np.unique(label).tolist() == dataset.labels.all_labels
    middle = label.shape[3] / 2
    for name, side in (("Left_IAC", 1), ("Right_IAC", -1), ("Lower Left First Molar", 1)):
        x = np.argwhere(label[0] == dataset.labels.declared[name])[:, 2].mean()
        assert side * (x - middle) > 3, f"{name} lies on the wrong side"
    with pytest.raises(DataError, match="not overwritten"):
        write_cbct_phantom(tmp_path, cases=1, test_cases=0)


def test_toothfairy3_task1(toothfairy3, tmp_path):
    output = tmp_path / "Dataset119_ToothFairy3"
    assert import_dataset(toothfairy3, output, "toothfairy3_task1", images="copy") == []
    assert check_dataset(output) == []
    label_map = open_label_map("toothfairy3_task1")
    for path in sorted((toothfairy3 / "labelsTr").iterdir()):
        source, mapped = voxels(path), voxels(output / "labelsTr" / path.name)
        meant = {60: 38, 160: 138} if path.name.startswith(MISTAKEN) else {}
        assert {60, 160} & set(np.unique(source)) == set(meant)
        table = label_map.table
        expected = np.vectorize(lambda id_, meant=meant, table=table: table[meant.get(id_, id_)])(source)
        np.testing.assert_array_equal(mapped, expected)
        np.testing.assert_allclose(
            nibabel.load(output / "labelsTr" / path.name).affine, nibabel.load(path).affine, atol=1e-5
        )
    assert set(np.unique(voxels(toothfairy3 / "labelsTr" / f"{MISTAKEN}.nii.gz"))) >= {60, 160}, "source left alone"
    image = output / "imagesTr" / f"{MISTAKEN}_0000.nii.gz"
    assert not image.is_symlink()
    assert image.read_bytes() == (toothfairy3 / "imagesTr" / image.name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_toothfairy3_task2_with_clicks(toothfairy3, tmp_path):
    output = tmp_path / "Dataset219_ToothFairy3"
    assert import_dataset(toothfairy3, output, "toothfairy3_task2", workers=2) == []
    dataset = RawDataset(output)
    assert dataset.labels.names == ["background", "Left_IAC", "Right_IAC"]
    assert all(path.is_symlink() for case in dataset.training_cases for path in case.images)
    label, _ = dataset.read_label(dataset.training_cases[0])
    clicks = json.loads((output / "imagesTr" / "ToothFairy3P_000_clicks.json").read_text())["points"]
    for click in clicks:
        assert label[0][tuple(click["point"])] == dataset.labels.declared[click["name"]]


def test_ids_that_the_map_does_not_cover_are_named_and_nothing_is_written(toothfairy3, tmp_path):
    raw = shutil.copytree(toothfairy3, tmp_path / "raw")
    for old, new in (
        ("labelsTr/{}.nii.gz", "labelsTr/b.nii.gz"),
        ("imagesTr/{}_0000.nii.gz", "imagesTr/b_0000.nii.gz"),
    ):
        (raw / old.format(MISTAKEN)).rename(raw / new)
    problems = import_dataset(raw, tmp_path / "out", "toothfairy3_task1")
    assert [(problem.path, problem.problem) for problem in problems] == [
        (str(raw / "labelsTr" / "b.nii.gz"), "has the ids [60, 160], which are not mapped")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_gaps_need_a_label_map_and_nothing_is_overwritten(toothfairy3, tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json: its labels are not consecutive.*toothfairy3_task1"):
        import_dataset(toothfairy3, tmp_path / "out")
    with pytest.raises(DataError, match=r"toothfairy3_challenge: .*expected a label map for training"):
        import_dataset(toothfairy3, tmp_path / "out", "toothfairy3_challenge")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not overwritten"):
        import_dataset(toothfairy3, tmp_path / "out", "toothfairy3_task1")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="images must be one of link, copy"):
        import_dataset(toothfairy3, tmp_path / "new", images="move")


def test_stsr_with_its_split_and_unlabeled_images(tmp_path):
    raw = write_stsr_phantom(tmp_path, cases=2, test_cases=1, size=28, unlabeled=2)
    output = tmp_path / "Dataset319_STSR"
    assert import_dataset(raw, output) == []
    assert check_dataset(output) == []
    assert len(RawDataset(output).labels.foreground_labels) == 12
    assert set(np.unique(voxels(output / "labelsTr" / "STSR_Train_001.nii.gz"))) == {0, 1, 2, 3, 12}
    assert json.loads((output / "splits_final.json").read_text()) == [
        {
            "train": ["STSR_Train_000", "STSR_Train_001"],
            "val": ["STSR_Validation_000"],
            "unlabeled": ["STSR_Unlabeled_000", "STSR_Unlabeled_001"],
        }
    ]
    assert (output / "unlabeledTr" / "STSR_Unlabeled_001_0000.nii.gz").is_file()
    (raw / "Images" / "STSR_Train_001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"STSR_Train_001\.nii\.gz: file is missing"):
        import_dataset(raw, tmp_path / "other")


def decathlon(root, **changes):
    random = np.random.default_rng(0)
    affine = np.array([[-2.0, 0, 0, 9], [0, 1.5, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1]])
    for name, array in {
        "imagesTr/a": random.normal(size=(6, 5, 4, 2)).astype(np.float32),
        "labelsTr/a": random.integers(0, 3, (6, 5, 4)).astype(np.uint8),
        "imagesTs/b": random.normal(size=(6, 5, 4, 2)).astype(np.float32),
    }.items():
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
        path.with_name(f"._{path.name}").write_bytes(b"macOS")
    content = {
        "name": "BRATS",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "tumor"},
        "numTraining": 1,
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/b.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content | changes))
    return root


def test_decathlon_images_are_split_into_channels(tmp_path):
    raw, output = decathlon(tmp_path / "Task01_BrainTumour"), tmp_path / "Dataset001_BrainTumour"
    assert import_dataset(raw, output) == []
    assert check_dataset(output) == []
    dataset = RawDataset(output)
    assert dataset.channel_names == ["FLAIR", "T1w"]
    assert dataset.labels.declared == {"background": 0, "edema": 1, "tumor": 2}
    assert [case.identifier for case in dataset.test_cases] == ["b"]
    source = nibabel.load(raw / "imagesTr" / "a.nii.gz")
    for channel in range(2):
        written = nibabel.load(output / "imagesTr" / f"a_{channel:04d}.nii.gz")
        np.testing.assert_array_equal(written.get_fdata(), source.get_fdata()[..., channel])
        np.testing.assert_allclose(written.affine, source.affine)
    np.testing.assert_array_equal(voxels(output / "labelsTr/a.nii.gz"), voxels(raw / "labelsTr/a.nii.gz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"0": "CT", "1": "PET", "2": "MR"}}, "image of shape"),
        ({"modality": {"0": "CT"}}, "image of shape"),
        ({"modality": {"1": "CT"}}, "channels are"),
        ({"labels": {"one": 1}}, "labels are"),
        ({"labels": ["background"]}, "no map 'labels'"),
        ({"training": [{"image": "imagesTr/a.nii.gz"}]}, "'training' holds"),
        ({"training": []}, "'training' is no list of cases"),
        ({"training": [{"image": "imagesTr/c.nii.gz", "label": "labelsTr/c.nii.gz"}]}, "file is missing"),
        ({"labels": {"0": "background", "1": "edema"}}, r"has the ids \[2\]"),
    ],
)
def test_what_is_wrong_with_a_decathlon_set_is_named(tmp_path, changes, message):
    raw = decathlon(tmp_path / "raw", **changes)
    try:
        found = " ".join(f"{problem.path}: {problem.problem}" for problem in import_dataset(raw, tmp_path / "out"))
    except DataError as error:
        found = str(error)
    assert str(raw) in found
    assert re.search(message, found), found
    assert not (tmp_path / "out").exists()


def test_a_folder_of_no_known_layout(tmp_path):
    with pytest.raises(DataError, match=r"has neither dataset\.json nor Images and Masks"):
        import_dataset(tmp_path, tmp_path / "out")
    raw = decathlon(tmp_path / "raw")
    (raw / "imagesTr" / "a.nii.gz").write_bytes(b"nothing")
    problems = import_dataset(raw, tmp_path / "out")
    assert len(problems) == 1
    assert "cannot be read" in problems[0].problem


def imported_model(tmp_path, label_map: str) -> ModelFolder:
    plain, mapping = model(tmp_path), open_label_map(label_map)
    description = plain.dataset_json | {"labels": mapping.labels, "label_map": mapping.record()}
    labels = LabelManager.from_dataset_json(description)
    return ModelFolder(tmp_path, plain.plans, plain.configuration, description, labels, ())


def test_predictions_get_the_ids_of_a_submission_back(tmp_path):
    mapping = open_label_map("toothfairy3_task1")
    folder = imported_model(tmp_path, "toothfairy3_task1")
    folder.write()
    predicted = torch.arange(47, dtype=torch.int16).reshape(1, 1, 1, 47)
    restored = RestoreLabelIdsd("pred", ModelFolder.read(tmp_path))({"pred": predicted})["pred"]
    assert restored.flatten().tolist() == [mapping.output_ids.get(label, label) for label in range(47)]
    assert restored.max() == 53
    assert predicted.max() == 46, "the input is left alone"
    plain = RestoreLabelIdsd("pred", model(tmp_path))({"pred": predicted})["pred"]
    assert torch.equal(plain, predicted)
    broken = ModelFolder(
        tmp_path, folder.plans, folder.configuration, {"label_map": {"output_ids": [1]}}, folder.labels, ()
    )
    with pytest.raises(DataError, match="'label_map' is broken"):
        output_ids(broken)
    assert set(SOURCE_IDS) <= set(mapping.table)
