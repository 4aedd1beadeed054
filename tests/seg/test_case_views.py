import numpy as np
import pytest

from custom_apps.seg.case_views import view_of
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.volume_io import read_images, read_segmentation
from tests.seg.model_phantom import LABELS, label_map, write_case

PROTOCOL = SegmentationProtocol({"labels": LABELS})


def volume_view(tmp_path, spacing_mm=(3.0, 1.0, 0.5)):
    labels = label_map((9, 22, 18))
    path = write_case(tmp_path, "a", labels, spacing_mm)
    image, properties = read_images([path])
    reference = read_segmentation(tmp_path / "labelsTs" / "a.nii.gz")[0][0]
    return labels, view_of("a", image, reference, np.roll(reference, 1, 2), properties, PROTOCOL)


def test_slices_are_in_patient_orientation(tmp_path):
    """The phantom's first axis runs to the back, its second to the head, its third to the right."""
    labels, view = volume_view(tmp_path)
    assert [part.title.split()[0] for part in view.slices] == ["axial", "coronal", "sagittal"]
    assert [part.image.shape for part in view.slices] == [(9, 18), (22, 18), (22, 9)]
    assert [part.aspect for part in view.slices] == pytest.approx([3.0 / 0.5, 1.0 / 0.5, 1.0 / 3.0])
    assert [part.upwards for part in view.slices] == [False, True, True]
    axial = view.slices[0]
    row = int(axial.title.split()[1]) - 1
    assert np.array_equal(axial.reference, labels[:, row, ::-1]), "left of the patient belongs on the right of the page"


def test_the_chosen_slices_show_every_label(tmp_path):
    _, view = volume_view(tmp_path)
    assert all({1, 2} <= set(np.unique(part.reference)) for part in view.slices)
    assert all(0 <= part.image.min() <= part.image.max() <= 1 for part in view.slices)


def test_dice_is_that_of_the_case(tmp_path):
    labels, view = volume_view(tmp_path)
    moved = np.roll(labels, 1, 2)
    for name, label in (("liver", 1), ("kidney", 2)):
        both = ((labels == label) & (moved == label)).sum()
        assert view.dice[name] == 2 * both / (2 * (labels == label).sum())
    assert view.mean_dice == pytest.approx(np.mean(list(view.dice.values())))


def test_an_empty_case_has_no_dice():
    empty = np.zeros((4, 5, 6), np.int16)
    view = view_of("a", np.zeros((1, 4, 5, 6)), empty, empty, {"spacing": [1, 1, 1]}, PROTOCOL)
    assert np.isnan(view.mean_dice)
    assert len(view.slices) == 3


def test_a_2d_image_keeps_its_colours():
    labels = label_map((1, 30, 20))
    image = np.stack([labels[0] * value for value in (0, 100, 200)])[:, None].astype(np.float32)
    view = view_of("cell", image, labels, labels, {"spacing": [999, 1, 1]}, PROTOCOL)
    assert len(view.slices) == 1
    assert view.slices[0].image.shape == (30, 20, 3)
    assert view.mean_dice == 1
