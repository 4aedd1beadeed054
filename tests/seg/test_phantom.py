import numpy as np
import pytest
import tifffile

from custom_apps.common.errors import DataError
from custom_apps.seg.check import check_dataset
from custom_apps.seg.phantom_cbct import write_cbct_phantom
from custom_apps.seg.phantom_cells import write_cell_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.seg.raw_dataset import RawDataset

WRITERS = [
    (write_ct_phantom, {"shape": (16, 32, 36)}),
    (write_cell_phantom, {"shape": (48, 64)}),
    (write_cbct_phantom, {"size": 28}),
]


def contents(folder):
    dataset = RawDataset(folder)
    cases = [*dataset.training_cases, *dataset.test_cases]
    return [(dataset.read_image(case)[0], dataset.read_label(case)[0]) for case in cases]


@pytest.mark.parametrize(("write", "size"), WRITERS)
def test_sound_seeded_and_never_overwritten(tmp_path, write, size):
    first = write(tmp_path / "a", cases=2, test_cases=1, seed=3, **size)
    assert check_dataset(first) == []
    dataset = RawDataset(first)
    assert (len(dataset.training_cases), len(dataset.test_cases)) == (2, 1)
    again, other = (write(tmp_path / f"b{s}", cases=2, test_cases=1, seed=s, **size) for s in (3, 4))
    for (image, label), (image_again, label_again) in zip(contents(first), contents(again), strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(label, label_again)
    assert not any(
        np.array_equal(image, image_other)
        for (image, _), (image_other, _) in zip(contents(first), contents(other), strict=True)
    )
    with pytest.raises(DataError, match="not overwritten"):
        write(tmp_path / "a", cases=2, test_cases=1, **size)


def test_ct_has_every_organ_with_its_contrast(tmp_path):
    dataset = RawDataset(write_ct_phantom(tmp_path, cases=3, test_cases=1))
    spacings, means = set(), []
    for case in dataset.training_cases:
        image, properties = dataset.read_image(case)
        label, _ = dataset.read_label(case)
        spacings.add(tuple(properties["spacing"]))
        assert np.unique(label).tolist() == dataset.labels.all_labels
        means.append([image[label == organ].mean() for organ in dataset.labels.foreground_labels])
        assert image.min() < -900
    assert len(spacings) == 3
    liver, spleen, kidneys, aorta = np.mean(means, axis=0)
    assert 60 < liver < spleen < kidneys < aorta < 350


def test_cells_have_interior_boundary_and_instances(tmp_path):
    folder = write_cell_phantom(tmp_path, cases=1, test_cases=2)
    dataset = RawDataset(folder)
    assert dataset.channel_names == ["R", "G", "B"]
    for case in dataset.test_cases:
        label, _ = dataset.read_label(case)
        instances = tifffile.imread(folder / "labelsTs_instances" / f"{case.identifier}_label.tiff")
        assert instances.max() > 5
        np.testing.assert_array_equal(instances > 0, label[0, 0] > 0)
        for number in range(1, instances.max() + 1):
            assert set(np.unique(label[0, 0][instances == number])) <= {1, 2}
