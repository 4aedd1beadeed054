import csv
import shutil

import nibabel
import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.echo.camus import ARRAYS, TABLE, camus_records
from custom_apps.echo.camus_preparation import half_sequence, prepare_camus, read_info, standard_array


@pytest.fixture
def raw(camus_phantom, tmp_path):
    for name in ("database_nifti", "database_split"):
        shutil.copytree(camus_phantom / name, tmp_path / "raw" / name)
    return tmp_path / "raw"


def test_records(camus_phantom):
    training = camus_records(camus_phantom, None, "train")
    assert [record["case"] for record in training] == ["patient0001", "patient0002", "patient0003"]
    assert len(camus_records(camus_phantom, camus_phantom / TABLE, ["val", "test"])) == 3
    record = training[0]
    facts = read_info(camus_phantom / "database_nifti" / "patient0001" / "Info_4CH.cfg")
    assert record["ef_percent"] == float(facts["EF"])
    assert (record["fps"], record["quality"]) == (50, "Good")
    # The folder of the arrays itself may be given.
    assert camus_records(camus_phantom / ARRAYS, None, "train") == training


def test_image_quality_filter(camus_phantom):
    assert [r["quality"] for r in camus_records(camus_phantom, None, "train", ["Good", "Poor"])] == ["Good", "Poor"]
    with pytest.raises(DataError, match="no patient of split val with quality Poor"):
        camus_records(camus_phantom, None, "val", ["Poor"])
    with pytest.raises(ValueError, match="quality"):
        camus_records(camus_phantom, None, "val", ["good"])


def test_frames_run_from_diastole_to_systole(tmp_path):
    stored = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)  # width 6, height 4, 5 frames
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), path)
    forward = half_sequence(path, {"ED": "1", "ES": "5"})
    assert forward.shape == (5, 4, 6)
    assert forward[2, 3, 1] == stored[1, 3, 2]
    backward = half_sequence(path, {"ED": "5", "ES": "2"})
    assert np.array_equal(backward, forward[:0:-1])
    for first, last in ((0, 5), (1, 6), (2, 2), ("x", 3)):
        with pytest.raises(DataError, match=r"a.nii.gz"):
            half_sequence(path, {"ED": str(first), "ES": str(last)})


def test_arrays_keep_both_ends_and_the_range():
    frames = np.zeros((3, 20, 30), np.uint8)
    frames[0], frames[1], frames[2] = 255, 51, 102
    array = standard_array(frames, 5, 16)
    assert array.shape == (5, 1, 16, 16)
    assert array.dtype == np.float32
    assert array[:, 0, 4, 7].tolist() == pytest.approx([1, 0.6, 0.2, 0.3, 0.4], abs=1e-6)


def test_preparation(raw, tmp_path):
    output = prepare_camus(raw, tmp_path / "out", frames=8, size=24)
    with open(output / TABLE) as file:
        rows = list(csv.DictReader(file))
    assert [row["Split"] for row in rows] == ["train", "train", "train", "val", "test", "test"]
    assert np.load(output / ARRAYS / "patient0003.npy").shape == (8, 1, 24, 24)
    # The ventricle empties in every patient, in whichever order the frames are stored.
    for row in rows:
        array = np.load(output / ARRAYS / f"{row['file_name']}.npy")[:, 0]
        assert array[0, 6:14, 8:16].mean() < array[-1, 6:14, 8:16].mean()
    with pytest.raises(DataError, match="not overwritten"):
        prepare_camus(raw, output)


def test_unusable_raw_data(raw, tmp_path):
    info = raw / "database_nifti" / "patient0002" / "Info_4CH.cfg"
    text = info.read_text()
    info.write_text(text.replace("EF:", "LVef:"))
    assert read_info(info)["EF"] == read_info(info)["LVef"]
    info.write_text(text.replace("ImageQuality", "Quality"))
    with pytest.raises(DataError, match=r"patient0002.*ImageQuality missing"):
        prepare_camus(raw, tmp_path / "out")
    info.write_text(text)
    sequence = raw / "database_nifti" / "patient0003" / "patient0003_4CH_half_sequence.nii.gz"
    sequence.write_bytes(sequence.read_bytes()[:500])
    with pytest.raises(DataError, match="patient0003_4CH_half_sequence"):
        prepare_camus(raw, tmp_path / "out")
    sequence.unlink()
    with pytest.raises(DataError, match="no such file"):
        prepare_camus(raw, tmp_path / "out")
    assert not (tmp_path / "out" / TABLE).exists()
    listed = raw / "database_split" / "subgroup_training.txt"
    listed.write_text("patient0001\npatient0099\n")
    with pytest.raises(DataError, match="patient0099"):
        prepare_camus(raw, tmp_path / "out")
    listed.write_text("patient0001\n")
    with pytest.raises(DataError, match=r"patient0002: patient is in no subgroup"):
        prepare_camus(raw, tmp_path / "out")


def test_unusable_prepared_data(camus_phantom, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        camus_records(tmp_path / "absent")
    with pytest.raises(DataError, match=TABLE):
        camus_records(tmp_path)
    shutil.copy(camus_phantom / TABLE, tmp_path)
    with pytest.raises(DataError, match=r"3 listed arrays missing: .*patient0001.npy"):
        camus_records(tmp_path)
    text = (tmp_path / TABLE).read_text()
    (tmp_path / TABLE).write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(DataError, match="patient0001 more than once"):
        camus_records(tmp_path)
