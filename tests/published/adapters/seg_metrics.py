"""Evaluation of U-Mamba: overlaps and surface distances of organs, instance scores of cells."""

import torch

from custom_apps.seg.instance_metrics import instances_of, score_instances, without_boundary_instances
from custom_apps.seg.overlap_metrics import OverlapCounts, reference_extent
from custom_apps.seg.surface_distance import surface_distances
from tests.published.vector import Vector, adapter, assert_output


def organ_scores(prediction, reference, spacing, tolerance) -> dict:
    distances = surface_distances(prediction, reference, spacing)
    bounded = (..., reference_extent(reference, axis=-1, drop_last=True))
    to_prediction, to_reference = distances.average_mm()
    of_reference, of_prediction = distances.overlaps(tolerance)
    return {
        "dsc": OverlapCounts.of(prediction, reference).dice("challenge"),
        "dsc_z_bounded": OverlapCounts.of(prediction[bounded], reference[bounded]).dice("challenge"),
        "nsd": distances.normalized_surface_dice(tolerance),
        "hd95": distances.robust_hausdorff_mm(95),
        "hd100": distances.robust_hausdorff_mm(100),
        "asd_gt_to_pred": to_prediction,
        "asd_pred_to_gt": to_reference,
        "overlap_gt": of_reference,
        "overlap_pred": of_prediction,
    }


@adapter(lambda v: "SurfaceDice.py" in v.source and "compute_cell_metric" in v.source)
def metrics(vector: Vector) -> None:
    inputs = {name: value.numpy() for name, value in vector.section("in").items()}
    config, expected = vector.config, vector.section("out")
    ours = organ_scores(
        inputs["pred"].astype(bool), inputs["gt"].astype(bool), inputs["spacing"].tolist(), config["tolerance_mm"]
    )
    predicted, reference = instances_of(inputs["semantic_pred"]), inputs["inst_gt"]
    ours |= {
        "inst_pred": predicted,
        "inst_pred_no_boundary": without_boundary_instances(predicted, config["boundary_px"]),
        "inst_gt_no_boundary": without_boundary_instances(reference, config["boundary_px"]),
        "cell_foreground_dice": OverlapCounts.of(predicted > 0, reference > 0).dice("challenge"),
    }
    for threshold in config["f1_thresholds"]:
        score = score_instances(predicted, reference, threshold, boundary_width=config["boundary_px"])
        ours[f"tp_fp_fn_{threshold}"] = [score.tp, score.fp, score.fn]
        ours[f"f1_{threshold}"] = score.f1
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        computed = torch.as_tensor(ours[name], dtype=torch.float64 if value.is_floating_point() else torch.int64)
        assert_output(name, computed.reshape(value.shape), value, 1e-9)
