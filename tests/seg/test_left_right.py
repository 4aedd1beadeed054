import numpy as np
import pytest
import torch

from custom_apps.seg.augmentation_labels import toothfairy3_left_right_pairs
from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.left_right import label_id, left_right_axis, left_right_pairs
from custom_apps.seg.model_folder import ModelFolder
from custom_apps.seg.predictor import CasePredictor
from custom_apps.seg.sliding_window import PatchwiseInferer
from tests.seg.model_phantom import model
from tests.seg.raw_data import write

SIDES = {"background": 0, "Left_IAC": 1, "Right_IAC": 2, "RIGHT lung": 3, "LEFT lung": 4, "cleft": 5, "upright": 6}


def test_pairs_by_name_are_those_published():
    labels = LabelManager(open_label_map("toothfairy3_task1").labels)
    found = {frozenset(pair) for pair in left_right_pairs(labels, "by_name")}
    assert found == {frozenset(pair) for pair in toothfairy3_left_right_pairs()}


def test_pairs_by_name_look_at_whole_words():
    assert left_right_pairs(LabelManager(SIDES), "by_name") == ((1, 2), (3, 4))
    with pytest.raises(ValueError, match="found no names"):
        left_right_pairs(LabelManager({"background": 0, "left": 1}), "by_name")


def test_pairs_by_id_or_name():
    labels = LabelManager(SIDES)
    assert left_right_pairs(labels, [[1, "Right_IAC"]]) == ((1, 2),)
    assert left_right_pairs(labels, None) == ()
    assert label_id(labels, "cleft") == 5


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[1, 9]], "label 9 is not declared, expected one of 0 background, 1 Left_IAC"),
        ([[1, "Left"]], "label 'Left' is not declared"),
        ([[1, 2], [2, 3]], "each used once"),
        ([[0, 1]], "each used once"),
        ([[1, 2, 3]], "pairs of different labels"),
        ("names", "'by_name' or null"),
    ],
)
def test_bad_pairs_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        left_right_pairs(LabelManager(SIDES), pairs)


def test_regions_have_no_sides():
    regions = LabelManager({"background": 0, "all": [1, 2], "core": 2}, [1, 2])
    with pytest.raises(ValueError, match="without regions"):
        left_right_pairs(regions, [[1, 2]])


@pytest.mark.parametrize(
    ("transpose", "patch_size", "axis"),
    [((0, 1, 2), (8, 8, 8), 2), ((2, 0, 1), (8, 8, 8), 0), ((1, 0, 2), (8, 8), 1), ((2, 0, 1), (8, 8), None)],
)
def test_the_axis_follows_the_transposition(transpose, patch_size, axis):
    folder = model(transpose=transpose, patch_size=patch_size, spacing=[1.0] * len(patch_size))
    assert left_right_axis(folder.plans, folder.configuration) == axis


def sided(folder, transpose=(0, 1, 2)) -> ModelFolder:
    plain = model(folder, spacing=(1.0, 1.0, 1.0), patch_size=(8, 8, 8), transpose=transpose)
    return ModelFolder(folder, plain.plans, plain.configuration, plain.dataset_json, plain.labels, (0, 1, 2), ((1, 2),))


def test_the_model_folder_keeps_the_pairs(tmp_path):
    sided(tmp_path).write()
    read = ModelFolder.read(tmp_path)
    assert read.left_right_pairs == ((1, 2),)
    assert (read.exchange.pairs, read.exchange.axis) == ([(1, 2)], 2)
    model(tmp_path).write()
    assert ModelFolder.read(tmp_path).exchange is None


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_a_mirrored_patient_gets_the_mirrored_answer_with_the_labels_of_the_sides_exchanged(tmp_path, transpose):
    torch.manual_seed(0)
    # No symmetry of its own, so that only the exchange under test-time mirroring can give the property.
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(6, 3, 1))
    folder = sided(tmp_path, transpose)
    image = np.zeros((12, 14, 16), np.float32)
    # Noise, since labels 1 and 2 tie where the image is its own mirror image; a border of air, which is cropped.
    image[:, 2:-2, 3:-1] = np.random.default_rng(0).normal(300, 200, (12, 10, 12))
    paths = [
        write(array, tmp_path / name / "a_0000.nii.gz", (1.0, 1.0, 1.0))
        for name, array in (("straight", image), ("mirrored", image[..., ::-1]))
    ]
    answers = {}
    for name, exchange in (("exchanged", folder.exchange), ("plain", None)):
        axis = folder.exchange.axis
        # Of odd size, since the weights of windows of even size are not symmetric.
        inferer = PatchwiseInferer((9, 9, 9), mirror_axes=(axis,), exchange=exchange)
        answers[name] = [CasePredictor(folder, network, inferer).predict(path) for path in paths]
    straight, mirrored = answers["exchanged"]
    assert len(np.unique(straight)) == 3
    np.testing.assert_array_equal(np.array([0, 2, 1])[mirrored[..., ::-1]], straight)
    assert not np.array_equal(straight, answers["plain"][0]), "the exchange has no influence here"
