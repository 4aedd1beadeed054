import pandas
import pytest

from custom_apps.brain.labels_table import COLUMNS, Markers, find_labels, read_labels, write_labels
from custom_apps.common.errors import DataError

ROWS = [("EGD-0001", 1, 0, 2), ("EGD-0002", 0, -1, 4), ("EGD-0003", -1, -1, -1)]


@pytest.mark.parametrize("name", ["labels.csv", "labels.xlsx"])
def test_round_trip(tmp_path, name):
    write_labels([dict(zip(COLUMNS, row, strict=True)) for row in ROWS], tmp_path / name)
    assert read_labels(tmp_path / name) == {row[0]: Markers(*row[1:]) for row in ROWS}


def test_columns_go_by_name_and_cells_may_be_empty(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffGrade;1p/19q;note;idh;SUBJECT\n2;1;x;1.0;A\n;;;0;B\n", encoding="utf-8")
    assert read_labels(path) == {"A": Markers(1, 1, 2), "B": Markers(0, -1, -1)}


def test_one_marker_is_enough(tmp_path):
    (tmp_path / "labels.csv").write_text("Subject,IDH\nA,1\n")
    assert read_labels(tmp_path / "labels.csv")["A"] == Markers(idh=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Subject,Age\nA,50\n", "its columns are Subject, Age"),
        ("Name,IDH\nA,1\n", "its columns are Name, IDH"),
        ("Subject,IDH\nA,1\nA,0\n", "A is there twice"),
        ("Subject,IDH\nA,mutated\n", "IDH of A is 'mutated'"),
        ("Subject,IDH\nA,2\n", "IDH of A is '2'"),
        ("Subject,IDH\nA,0.5\n", "IDH of A is '0.5'"),
        ("Subject,IDH,Grade\nA,1,7\n", "GRADE of A is '7'"),
        ("Subject,IDH\n,1\n", "row 2 names no patient"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=r"labels.csv") as error:
        read_labels(tmp_path / "labels.csv")
    assert message in str(error.value)


def test_unreadable_and_absent_tables(tmp_path):
    (tmp_path / "labels.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(DataError, match="not a readable table"):
        read_labels(tmp_path / "labels.xlsx")
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "absent.csv")


def test_only_the_first_sheet_counts(tmp_path):
    with pandas.ExcelWriter(tmp_path / "labels.xlsx") as writer:
        pandas.DataFrame([["A", 1]], columns=["Subject", "IDH"]).to_excel(writer, sheet_name="Sheet1", index=False)
        pandas.DataFrame([["B", 9]], columns=["Subject", "IDH"]).to_excel(writer, sheet_name="Notes", index=False)
    assert list(read_labels(tmp_path / "labels.xlsx")) == ["A"]


def test_a_table_is_found_in_the_folder_or_one_below(tmp_path):
    assert find_labels(tmp_path) is None
    (tmp_path / "METADATA").mkdir()
    below = tmp_path / "METADATA" / "Genetic_and_Histological_labels.xlsx"
    write_labels([dict(zip(COLUMNS, ROWS[0], strict=True))], below)
    assert find_labels(tmp_path) == below
    write_labels([dict(zip(COLUMNS, ROWS[0], strict=True))], tmp_path / "labels.csv")
    assert find_labels(tmp_path) == tmp_path / "labels.csv"
