import json

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.locations import write_locations
from custom_apps.seg.prepared import CasePaths, PreparedDataset
from tests.seg.plan_example import plans
from tests.seg.raw_data import describe


@pytest.fixture
def root(tmp_path):
    describe(tmp_path)
    plans().write(tmp_path / "plans.json")
    folder = tmp_path / "nnUNetPlans_3d_fullres"
    folder.mkdir()
    for name in ("b", "a"):
        paths = CasePaths(folder, name)
        np.save(paths.image, np.full((1, 3, 4, 5), ord(name), np.float32))
        np.save(paths.seg, np.zeros((1, 3, 4, 5), np.int8))
        write_locations({1: np.zeros((2, 4), np.int32)}, paths.locations)
        paths.properties.write_text(json.dumps({"spacing": [1.0, 1.0, 1.0]}))
    return tmp_path


def test_reads_cases(root):
    found = PreparedDataset(root)
    assert found.cases == ["a", "b"]
    assert found.configuration == plans().configuration("3d_fullres")
    case = found.load("b")
    assert isinstance(case.image, np.memmap)
    assert not case.image.flags.writeable
    assert (case.image == ord("b")).all()
    assert case.locations[1].shape == (2, 4)
    assert case.properties == {"spacing": [1.0, 1.0, 1.0]}


def test_unfinished_cases_do_not_count(root):
    (root / "nnUNetPlans_3d_fullres" / "a.json").unlink()
    assert PreparedDataset(root).cases == ["b"]


def test_a_plan_in_memory_wins(root):
    found = PreparedDataset(root, plans=plans(batch_size=9))
    assert found.configuration.batch_size == 9


@pytest.mark.parametrize("name", ["a.npy", "a_seg.npy", "a_locations.npz", "a.json"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"nothing of the kind"])
def test_damaged_files(root, name, content):
    (root / "nnUNetPlans_3d_fullres" / name).write_bytes(content)
    with pytest.raises(DataError, match="case 'a' cannot be read"):
        PreparedDataset(root).load("a")


def test_errors_name_what_is_missing(root):
    with pytest.raises(DataError, match="no such folder"):
        PreparedDataset(root / "nowhere")
    with pytest.raises(DataError, match="no configuration '2d'"):
        PreparedDataset(root, "2d")
    with pytest.raises(DataError, match="no prepared case 'c'"):
        PreparedDataset(root).load("c")
    for path in (root / "nnUNetPlans_3d_fullres").glob("*.json"):
        path.unlink()
    with pytest.raises(DataError, match="no prepared case"):
        PreparedDataset(root)
