import csv
from types import SimpleNamespace

from ignite.engine import Engine

from custom_apps.seg.case_times import CaseTimes


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(path, batches):
    engine = Engine(lambda *_: SimpleNamespace())
    CaseTimes(path).attach(engine)
    engine.run([[{"case": case} for case in batch] for batch in batches], max_epochs=1)


def test_every_case_has_its_time_and_memory(tmp_path):
    path = tmp_path / "times.csv"
    run(path, [["b"], ["a", "c"]])
    rows = read(path)
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["seconds"] == rows[2]["seconds"], "cases of a batch share its time"
    assert all(float(row["host_mib"]) > 0 for row in rows)


def test_a_continued_run_keeps_the_earlier_rows(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("case,seconds,host_mib,device_mib\na,123.5,1.0,\nb,7,1.0,\n")
    run(path, [["b"], ["c"]])
    rows = read(path)
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["seconds"] == "123.5"
    assert float(rows[1]["seconds"]) < 7
