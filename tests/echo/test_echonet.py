import csv
import logging

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.echo.echonet import echonet_records, read_tracings

HEADER = ["FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"]


def write_dataset(root, rows, traced=None, header=HEADER):
    """Empty files under the videos' names: records are made without decoding."""
    (root / "Videos").mkdir(parents=True)
    for row in rows:
        (root / "Videos" / f"{row[0].removesuffix('.avi')}.avi").touch()
    with open(root / "FileList.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    if traced is not None:
        with open(root / "VolumeTracings.csv", "w", newline="") as file:
            csv.writer(file).writerows([["FileName", "X1", "Y1", "X2", "Y2", "Frame"], *traced])
    return root


def row(name, split="TRAIN", ef=55.5):
    return [name, ef, 40, 90, 112, 112, 50, 170, split]


def chords(name, frame, count=3, width=4.0):
    return [[name, 10, 0, 10, 9, frame], *([name, 10 - width, 3 * i, 10 + width, 3 * i, frame] for i in range(count))]


def names(records):
    return [record["case"] for record in records]


def test_records_of_a_split(tmp_path, caplog):
    rows = [row("b"), row("a", "VAL", 30), row("c", "TEST"), row("d", "train", 61.25)]
    root = write_dataset(tmp_path / "data", rows)
    with caplog.at_level(logging.INFO):
        records = echonet_records(root, "train")
    assert "2 TRAIN, 1 VAL, 1 TEST" in caplog.text
    assert names(records) == ["b", "d"]
    assert records[1] == {
        "image": str(root / "Videos" / "d.avi"),
        "case": "d",
        "ef_percent": 61.25,
        "esv_ml": 40,
        "edv_ml": 90,
        "fps": 50,
        "frames": 170,
        "split": "TRAIN",
    }
    assert names(echonet_records(root, ["VAL", "test"])) == ["a", "c"]
    assert len(echonet_records(root, "all")) == 4


def test_both_spellings_of_names_in_both_files(tmp_path):
    rows = [row("a.avi"), row("b")]
    traced = chords("a", 3) + chords("a", 9) + chords("b.avi", 3) + chords("b.avi", 9)
    records = echonet_records(write_dataset(tmp_path / "data", rows, traced), "TRAIN", "segmentation")
    assert names(records) == ["a", "b"]
    assert records[0]["image"].endswith("a.avi")
    assert not records[0]["image"].endswith(".avi.avi")


def test_own_videos_may_have_other_endings(tmp_path):
    root = write_dataset(tmp_path / "data", [row("a"), row("b.mp4"), row("1.2.840.dcm"), row("c.AVI"), row("d")])
    for path in (root / "Videos").iterdir():
        path.unlink()
    for name in ("a.avi", "a.mp4", "b.mp4", "1.2.840.dcm", "c.AVI", "d.txt", "d.mov"):
        (root / "Videos" / name).touch()
    records = echonet_records(root, "TRAIN")
    assert names(records) == ["a", "b", "1.2.840", "c", "d"]
    files = [record["image"].rpartition("/")[2] for record in records]
    assert files == ["a.avi", "b.mp4", "1.2.840.dcm", "c.AVI", "d.mov"]


def test_first_listed_tracing_is_systole_whatever_its_frame(tmp_path):
    traced = chords("a", 46, width=2) + chords("a", 50) + chords("a", 12, width=4)
    record = echonet_records(write_dataset(tmp_path / "data", [row("a")], traced), "TRAIN", "segmentation")[0]
    pair = record["tracings"]
    assert (pair.end_systole.frame, pair.end_diastole.frame) == (46, 12)
    assert pair.end_systole.rows.shape == (4, 4)
    assert np.array_equal(pair.end_systole.rows[0], [10, 0, 10, 9])


def test_untraced_videos_are_left_out_and_named(tmp_path, caplog):
    traced = chords("a", 3) + chords("a", 9) + chords("b", 4)
    root = write_dataset(tmp_path / "data", [row("a"), row("b"), row("c")], traced)
    for task in ("ef", "segmentation", "pretraining"):
        caplog.clear()
        assert names(echonet_records(root, "TRAIN", task)) == ["a"]
        assert "2 videos" in caplog.text
        assert "'b', 'c'" in caplog.text
    assert len(echonet_records(root, "TRAIN", "ef", drop_untraced=False)) == 3
    assert names(echonet_records(root, "TRAIN", "segmentation", drop_untraced=False)) == ["a"]


def test_share_of_the_list(tmp_path):
    root = write_dataset(tmp_path / "data", [row(f"v{i:02d}") for i in range(19)])
    everything = names(echonet_records(root, "TRAIN"))
    assert names(echonet_records(root, "TRAIN", keep_ratio=0.3)) == everything[:5]
    some = names(echonet_records(root, "TRAIN", keep_ratio=0.3, keep="random", seed=1))
    assert len(set(some)) == 5
    assert some == sorted(some) != everything[:5]
    assert some == names(echonet_records(root, "TRAIN", keep_ratio=0.3, keep="random", seed=1))
    assert some != names(echonet_records(root, "TRAIN", keep_ratio=0.3, keep="random", seed=2))
    with pytest.raises(DataError, match="keep_ratio"):
        echonet_records(root, "TRAIN", keep_ratio=0.01)
    with pytest.raises(ValueError, match="keep_ratio"):
        echonet_records(root, "TRAIN", keep_ratio=1.5)


def test_every_missing_video_is_named(tmp_path):
    root = write_dataset(tmp_path / "data", [row(f"v{i:02d}") for i in range(15)])
    for i in (2, 7, 14):
        (root / "Videos" / f"v{i:02d}.avi").unlink()
    with pytest.raises(DataError, match=r"3 listed videos missing: v02.avi, v07.avi, v14.avi"):
        echonet_records(root, "TRAIN")


@pytest.mark.parametrize("ef", [-0.1, 100.5, "nan", "", "high", "inf"])
def test_ef_outside_its_range(tmp_path, ef):
    root = write_dataset(tmp_path / "data", [row("a"), row("bad", ef=ef)])
    with pytest.raises(DataError, match=r"FileList.csv: EF of bad"):
        echonet_records(root, "TRAIN")


def test_pretraining_needs_names_and_splits_only(tmp_path):
    root = write_dataset(tmp_path / "data", [["a", "TRAIN"]], header=["FileName", "Split"])
    assert names(echonet_records(root, "TRAIN", "pretraining")) == ["a"]
    with pytest.raises(DataError, match="EF"):
        echonet_records(root, "TRAIN", "ef")
    with pytest.raises(DataError, match="VolumeTracings"):
        echonet_records(root, "TRAIN", "segmentation")


def test_unusable_lists(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        echonet_records(tmp_path / "absent", "TRAIN")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"FileList.csv missing"):
        echonet_records(tmp_path / "bare", "TRAIN")
    root = write_dataset(tmp_path / "twice", [row("a"), row("a.avi")])
    with pytest.raises(DataError, match="lists a more than once"):
        echonet_records(root, "TRAIN")
    with pytest.raises(DataError, match=r"no video of split VALID .expected one of TRAIN"):
        echonet_records(write_dataset(tmp_path / "split", [row("a")]), ["VALID", "TRAIN"])
    with pytest.raises(DataError, match="Split missing"):
        echonet_records(write_dataset(tmp_path / "header", [["a", 1]], header=["FileName", "EF"]), "TRAIN")
    with pytest.raises(DataError, match="lists no video"):
        echonet_records(write_dataset(tmp_path / "empty", []), "TRAIN")
    with pytest.raises(ValueError, match="task"):
        echonet_records(root, "TRAIN", "ejection")


def test_tracings_with_broken_numbers_or_header(tmp_path):
    root = write_dataset(tmp_path / "data", [row("a")], [["a.avi", "x", 1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"tracing of a.avi"):
        read_tracings(root / "VolumeTracings.csv")
    (root / "VolumeTracings.csv").write_text("FileName,X1,Y1,X2,Y2\na.avi,1,2,3,4\n")
    with pytest.raises(DataError, match="column Frame missing"):
        read_tracings(root / "VolumeTracings.csv")
