import pytest

from custom_apps.common import distributed, prediction_items
from custom_apps.common.errors import DataError
from custom_apps.echo.video_lists import video_files, videos_to_predict


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "videos"
    for name in ("b.avi", "a.MP4", "sub/a.dcm", "notes.txt", ".hidden.avi"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 200)
    (root / "scan").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 9)
    (root / "other").write_bytes(b"\0" * 200)
    return root


def test_videos_of_a_folder(folder):
    items = videos_to_predict(folder)
    assert [item["file_name"] for item in items] == ["a.MP4", "b.avi", "scan", "sub/a.dcm"]
    assert [item["case"] for item in items] == ["a", "b", "scan", "sub_a"]
    assert video_files(folder / "b.avi") == [folder / "b.avi"]
    assert videos_to_predict(folder / "b.avi")[0]["file_name"] == "b.avi"


def test_videos_of_a_data_set(echonet_phantom):
    items = videos_to_predict(echonet_phantom)
    assert len(items) == 8
    assert items[0]["file_name"] == "phantom_tr_000.avi"


def test_nothing_to_predict(tmp_path):
    with pytest.raises(DataError, match="no such"):
        video_files(tmp_path / "missing")
    with pytest.raises(DataError, match="no videos"):
        video_files(tmp_path)


def test_two_videos_of_one_name(folder):
    (folder / "b.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="'b'"):
        videos_to_predict(folder)


def test_earlier_files(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    endings = ["_lv.nii.gz", "_lv.avi"]
    (out / "b_lv.nii.gz").touch()
    with pytest.raises(DataError, match="predicted before"):
        videos_to_predict(folder, out, endings)
    # Half of its files are there: it is done again.
    assert len(videos_to_predict(folder, out, endings, "skip")) == 4
    (out / "b_lv.avi").touch()
    assert [item["case"] for item in videos_to_predict(folder, out, endings, "skip")] == ["a", "scan", "sub_a"]
    assert len(videos_to_predict(folder, out, endings, "overwrite")) == 4
    with pytest.raises(ValueError, match="existing"):
        videos_to_predict(folder, out, endings, "ask")


def test_earlier_table(folder, tmp_path):
    (tmp_path / "ef.csv").write_text("file_name,ef_percent\nb.avi,50\nsub/a.dcm,40\n")
    with pytest.raises(DataError, match=r"ef\.csv"):
        videos_to_predict(folder, tmp_path, shared_table="ef.csv")
    left = videos_to_predict(folder, tmp_path, existing="skip", shared_table="ef.csv")
    assert [item["case"] for item in left] == ["a", "scan"]


def test_processes_divide_the_videos(folder, monkeypatch):
    monkeypatch.setattr(prediction_items, "world_size", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr(prediction_items, "rank", lambda number=number: number)
        shares.append([item["case"] for item in videos_to_predict(folder)])
    assert shares == [["a", "sub_a"], ["b"], ["scan"]]
    monkeypatch.setattr(prediction_items, "world_size", lambda: 5)
    with pytest.raises(DataError, match="4 files for 5 processes"):
        videos_to_predict(folder)
    assert distributed.world_size() == 1
