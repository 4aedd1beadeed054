import pytest

from custom_apps.common.errors import DataError
from custom_apps.echo.buv import TRAINING_LIST, VALIDATION_LIST, VIDEOS, buv_records


@pytest.fixture
def data(tmp_path):
    for name in ("benign/x.mp4", "malignant/x.mp4", "malignant/with space.mp4"):
        (tmp_path / VIDEOS / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / VIDEOS / name).touch()
    (tmp_path / TRAINING_LIST).write_text("benign/x.mp4 0\n\nmalignant/x.mp4 1\nmalignant/with space.mp4 1\n")
    return tmp_path


def test_records(data):
    records = buv_records(data, TRAINING_LIST)
    assert [record["label"] for record in records] == [0, 1, 1]
    assert [record["case"] for record in records] == ["benign/x", "malignant/x", "malignant/with space"]
    assert records[2]["image"] == str(data / VIDEOS / "malignant/with space.mp4")
    # The folder of the videos with a list beside it, or a list anywhere.
    assert buv_records(data / VIDEOS, TRAINING_LIST) == records
    assert buv_records(data / VIDEOS, data / TRAINING_LIST) == records


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benign/x.mp4\n", "line 1 is 'benign/x.mp4'"),
        ("benign/x.mp4 0\nmalignant/x.mp4 2\n", "line 2"),
        ("benign/x.mp4 0\nbenign/x.mp4 0\n", "benign/x more than once"),
        ("benign/x.mp4 0\na.mp4 1\nb.mp4 1\n", r"2 videos of trainlist01.txt missing: .*a.mp4, .*b.mp4"),
        ("\n", "lists no video"),
    ],
)
def test_unusable_lists(data, text, message):
    (data / TRAINING_LIST).write_text(text)
    with pytest.raises(DataError, match=message):
        buv_records(data, TRAINING_LIST)


def test_missing_files(data):
    with pytest.raises(DataError, match=VALIDATION_LIST):
        buv_records(data, VALIDATION_LIST)
    with pytest.raises(DataError, match="no such folder"):
        buv_records(data / "absent", TRAINING_LIST)
