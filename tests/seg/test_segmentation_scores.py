import json
import math

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose

from custom_apps.seg.case_export import RestoreSegmentationd
from custom_apps.seg.case_lists import labelled_cases
from custom_apps.seg.case_loading import LoadImageCased, PreprocessCased
from custom_apps.seg.case_times import CaseTimes
from custom_apps.seg.overlay_figures import OverlayFigures
from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.segmentation_scores import SegmentationScores
from custom_apps.seg.sliding_window import PatchwiseInferer
from tests.seg import scoring_on_rank
from tests.seg.model_phantom import LABELS, IntensityNetwork, label_map, model, write_case

PROTOCOL = SegmentationProtocol({"labels": LABELS}, ("dice", "nsd"), tolerance_mm=1.0)


def item(case, shift):
    labels = torch.from_numpy(label_map(seed=ord(case)).astype(np.int16))[None]
    properties = json.dumps({"spacing": [2.0, 1.0, 1.0]})
    return {"pred": labels.roll(shift, 2), "label": labels, "case": case, "properties": properties}


def test_the_value_is_the_mean_over_cases():
    metric = SegmentationScores(PROTOCOL)
    for case, shift in (("a", 0), ("b", 1)):
        metric.update(item(case, shift))
    value = metric.compute()
    assert value == metric.tables.mean("dice")
    assert metric.tables.values("dice", "liver")[0] == 1
    assert 0 < value < 1
    metric.reset()
    assert math.isnan(metric.compute())


def test_what_cannot_be_scored_is_refused():
    metric = SegmentationScores(PROTOCOL)
    with pytest.raises(ValueError, match="without label, properties"):
        metric.update({"pred": torch.zeros(1, 2, 2, 2), "case": "a"})
    with pytest.raises(ValueError, match="expected a label map"):
        metric.update(item("a", 0) | {"pred": torch.zeros(3, 2, 2, 2)})
    with pytest.raises(ValueError, match="is not among"):
        SegmentationScores(PROTOCOL, measure="iou")


def test_an_evaluator_scores_files_in_their_own_geometry(tmp_path):
    """The whole chain of evaluate.yaml, with a network that is right about everything."""
    folder = tmp_path / "Dataset900_Phantom"
    for case in "abc":
        write_case(folder, case, label_map(seed=ord(case)))
    for split in ("images", "labels"):
        (folder / f"{split}Ts").rename(folder / f"{split}Tr")
    phantom = model()
    (folder / "dataset.json").write_text(json.dumps(phantom.dataset_json))
    items = labelled_cases(folder)
    before = Compose([LoadImageCased(), PreprocessCased(model=phantom)])
    metric = SegmentationScores(PROTOCOL, output_dir=tmp_path / "scores")
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, before), batch_size=1),
        network=IntensityNetwork(),
        inferer=PatchwiseInferer(phantom.configuration.patch_size),
        postprocessing=RestoreSegmentationd(model=phantom),
        key_val_metric={"val_dice": metric},
        val_handlers=[
            OverlayFigures(tmp_path / "overlays.png", PROTOCOL, cases=2),
            CaseTimes(tmp_path / "times.csv"),
        ],
    )
    evaluator.run()
    assert evaluator.state.metrics["val_dice"] == 1
    assert evaluator.state.metrics["val_nsd_kidney"] == 1
    assert evaluator.state.best_metric == 1
    assert metric.tables.cases == ["a", "b", "c"]
    assert (tmp_path / "scores" / "summary.json").is_file()
    assert (tmp_path / "overlays.png").stat().st_size > 10_000
    assert (tmp_path / "times.csv").read_text().count("\n") == 4


def test_two_ranks_count_every_case_once(tmp_path):
    """A sampler that pads to an even split hands one case to both ranks; the result must not move."""
    single = SegmentationScores(scoring_on_rank.PROTOCOL)
    cases = [item("a", 0), item("b", 1), item("c", 2)]
    for case in cases:
        single.update(case)
    expected = single.compute()
    shares = [[cases[0], cases[2]], [cases[1], cases[0]]]
    arguments = (str(tmp_path / "init"), shares, str(tmp_path / "scores"))
    multiprocessing.spawn(scoring_on_rank.run, arguments, nprocs=2)
    for value, number in torch.load(tmp_path / "init.values", weights_only=True):
        assert value.item() == pytest.approx(expected, abs=1e-12)
        assert number == 3
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert [entry["case"] for entry in summary["metric_per_case"]] == ["a", "b", "c"]
