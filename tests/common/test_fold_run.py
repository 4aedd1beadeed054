import json

import pytest

from custom_apps.common.errors import DataError
from custom_apps.common.fold_run import configuration, run_folds

TRAIN = """
folds: 2
fold: 9
note: plain
output_dir: null
tracking_title: none
run:
  - "$open(@output_dir + '/runs.txt', 'a').write('%d of %d %s %s\\\\n' % (@fold, @folds, @note, @tracking_title))"
"""
EVALUATE = """
run:
  - "$open(@output_dir + '/runs.txt', 'a').write('evaluated %d %s\\\\n' % (@folds, @note))"
"""


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.yaml").write_text(TRAIN)
    (configs / "evaluate.yaml").write_text(EVALUATE)
    (configs / "special.yaml").write_text("note: special\n")
    (configs / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    logging = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=\n"
    (configs / "logging.conf").write_text(logging)
    return tmp_path / "bundle"


def runs(folder) -> list[str]:
    return (folder / "runs.txt").read_text().splitlines()


def test_folds_one_after_another_and_then_the_evaluation(bundle, tmp_path):
    run_folds(bundle, folds=3, output_dir=str(tmp_path))
    assert runs(tmp_path) == [f"{fold} of 3 plain none" for fold in range(3)] + ["evaluated 3 plain"]


def test_some_folds_parts_overlays_and_overrides(bundle, tmp_path):
    run_folds(bundle, folds=4, only=2, parts="train", overlays="special", output_dir=str(tmp_path))
    run_folds(bundle, folds=4, only=[0, 3], parts=["train"], output_dir=str(tmp_path), note="mine")
    run_folds(bundle, folds=4, parts="evaluate", overlays=["special"], output_dir=str(tmp_path))
    assert runs(tmp_path) == ["2 of 4 special none", "0 of 4 mine none", "3 of 4 mine none", "evaluated 4 special"]


def test_folds_parts_and_configurations_that_do_not_exist(bundle, tmp_path):
    with pytest.raises(ValueError, match="from 0 to 2"):
        run_folds(bundle, folds=3, only=[3], output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="parts"):
        run_folds(bundle, parts="predict", output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="nothing to do"):
        run_folds(bundle, only=[], parts="train", output_dir=str(tmp_path))
    with pytest.raises(DataError, match="evaluate, special, train"):
        run_folds(bundle, overlays="speical", output_dir=str(tmp_path))
    assert not (tmp_path / "runs.txt").exists()
    assert configuration(bundle, str(bundle / "configs" / "special.yaml")).name == "special.yaml"
