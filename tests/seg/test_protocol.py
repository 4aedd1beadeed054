import math

import numpy as np
import pytest

from custom_apps.seg.protocol import SegmentationProtocol, protocol_for, published_protocol
from custom_apps.seg.surface_distance import surface_distances

LABELS = {"labels": {"background": 0, "liver": 1, "aorta": 2}}


def maps():
    reference = np.zeros((8, 12, 10), np.int16)
    reference[1:7, 2:6, 2:6] = 1
    reference[2:5, 8:10, 7:9] = 2
    prediction = np.roll(reference, 1, 2)
    prediction[6:8, 8:10, 8:10] = 2
    return prediction, reference


def by_label(protocol, prediction, reference, spacing=(2.0, 1.0, 1.0)):
    return {row["label"]: row for row in protocol.score(prediction, reference, spacing, "a")}


def test_every_measure_of_every_structure():
    prediction, reference = maps()
    protocol = SegmentationProtocol(LABELS, ("dice", "iou", "nsd", "hd95_mm", "hd_mm", "asd_mm"), tolerance_mm=1.0)
    rows = by_label(protocol, prediction, reference)
    assert list(rows) == ["liver", "aorta"]
    liver = rows["liver"]
    assert (liver["case"], liver["ids"], liver["n_ref"], liver["n_pred"]) == ("a", (1,), 96, 96)
    assert liver["dice"] == 0.75
    assert liver["iou"] == 0.6
    distances = surface_distances(prediction == 1, reference == 1, (2, 1, 1))
    assert liver["nsd"] == distances.normalized_surface_dice(1.0)
    assert liver["hd95_mm"] == distances.robust_hausdorff_mm(95)
    assert liver["hd_mm"] == distances.robust_hausdorff_mm(100)
    assert liver["asd_mm"] == distances.symmetric_average_mm()


def test_a_bounded_structure_is_scored_where_the_reference_labels_it():
    prediction, reference = maps()
    bounded = SegmentationProtocol(LABELS, bounded=["Aorta"])
    short = SegmentationProtocol(LABELS, bounded=["Aorta"], drop_last_slice=True)
    free, within, published = (
        by_label(p, prediction, reference)["aorta"] for p in (SegmentationProtocol(LABELS), bounded, short)
    )
    assert free["n_pred"] == 12 + 8
    assert (within["n_pred"], within["n_ref"]) == (12, 12)
    assert (published["n_pred"], published["n_ref"]) == (8, 8)
    assert by_label(bounded, prediction, np.where(reference == 2, 0, reference))["aorta"]["dice"] == 0


def test_conventions_for_absent_structures():
    empty = np.zeros((3, 4, 4), np.int16)
    challenge = SegmentationProtocol(LABELS, ("dice", "nsd"), "challenge", 1.0)
    assert {row["dice"] for row in challenge.score(empty, empty, (1, 1, 1))} == {1.0}
    assert {row["nsd"] for row in challenge.score(empty, empty, (1, 1, 1))} == {1.0}
    nnunet = SegmentationProtocol(LABELS, ("dice", "nsd", "hd95_mm"), "nnunet", 1.0)
    assert all(math.isnan(row[m]) for row in nnunet.score(empty, empty, (1, 1, 1)) for m in nnunet.measures)
    liver = nnunet.score(empty, empty + 1, (1, 1, 1))[0]
    assert (liver["dice"], liver["nsd"], liver["hd95_mm"]) == (0, 0, math.inf)


def test_voxels_to_ignore_do_not_count():
    labels = {"labels": {"background": 0, "liver": 1, "ignore": 2}}
    reference = np.zeros((2, 4, 4), np.int16)
    reference[:, :2] = 1
    prediction = reference.copy()
    prediction[:, 2] = 1
    reference[:, 2] = 2
    row = SegmentationProtocol(labels).score(prediction, reference, (1, 1, 1))[0]
    assert row["dice"] == 1
    assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == 2 * 3 * 4


def test_regions_are_unions_of_labels():
    labels = {"labels": {"background": 0, "organ": [1, 2], "tumor": 2}, "regions_class_order": [1, 2]}
    prediction, reference = maps()
    rows = by_label(SegmentationProtocol(labels), prediction, reference)
    assert rows["organ"]["n_ref"] == (reference > 0).sum()
    assert rows["tumor"]["n_ref"] == (reference == 2).sum()


def test_a_single_slice_is_measured_as_a_curve_or_as_a_slab():
    reference = np.zeros((1, 20, 20), np.int16)
    reference[0, 5:15, 5:15] = 1
    prediction = np.roll(reference, 3, 2)
    labels = {"labels": {"background": 0, "tool": 1}}
    curve, slab = (
        SegmentationProtocol(labels, ("nsd",), tolerance_mm=2.0, planar=planar).score(
            prediction, reference, (999, 1, 1)
        )[0]["nsd"]
        for planar in ("contour", "slab")
    )
    assert curve == surface_distances(prediction[0] > 0, reference[0] > 0, (1, 1)).normalized_surface_dice(2)
    assert slab == surface_distances(prediction > 0, reference > 0, (1, 1, 1)).normalized_surface_dice(2)
    assert curve < slab, "in a slab every pixel is surface, so the inside counts as agreement"


def test_published_protocols():
    names = ["liver", "right kidney", "spleen", "pancreas", "aorta", "IVC", "RAG", "LAG", "gallbladder"]
    names += ["esophagus", "stomach", "duodenum", "left kidney"]
    labels = {"labels": {"background": 0, **{name: number for number, name in enumerate(names, 1)}}}
    abdomen = published_protocol("umamba_abdomen", labels)
    assert [s.tolerance_mm for s in abdomen.structures] == [5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3]
    assert [s.name for s in abdomen.structures if s.bounded] == ["aorta", "IVC", "esophagus"]
    assert published_protocol("umamba_endoscopy", LABELS).average == "cases"
    assert published_protocol("nnunet", LABELS).measures == ("dice", "iou")
    with pytest.raises(ValueError, match="no tolerance_mm for tail"):
        published_protocol("umamba_abdomen", {"labels": {"background": 0, "tail": 1}})
    with pytest.raises(ValueError, match="protocol: unknown 'flare'"):
        published_protocol("flare", LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ("dices",)}, "measures: unknown 'dices'"),
        ({"convention": "one"}, "convention must be"),
        ({"measures": ("nsd",)}, "no tolerance_mm for liver, aorta"),
        ({"measures": ("nsd",), "tolerance_mm": {"liver": 2}}, "no tolerance_mm for aorta"),
        ({"planar": "flat"}, "planar: unknown"),
        ({"average": "voxels"}, "average: unknown"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationProtocol(LABELS, **options)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="case_3: expected maps"):
        SegmentationProtocol(LABELS).score(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), (1, 1, 1), "case_3")


def test_toothfairy3_scores_dice_and_hd95():
    labels = {"labels": {"background": 0, "tooth": 1, "canal": 2, "bridge": 3}}
    reference = np.zeros((10, 10, 10), np.int16)
    reference[2:6, 2:6, 2:6] = 1
    reference[7:9, 7:9, 7:9] = 2
    prediction = np.roll(np.where(reference == 1, 1, 0), 1, 0)
    rows = by_label(published_protocol("toothfairy3", labels), prediction, reference, (0.3, 0.3, 0.3))
    assert rows["tooth"]["dice"] == 0.75
    assert rows["tooth"]["hd95_mm"] == pytest.approx(0.3)
    assert (rows["canal"]["dice"], rows["canal"]["hd95_mm"]) == (0, math.inf)
    assert rows["bridge"]["dice"] == 1
    assert math.isnan(rows["bridge"]["hd95_mm"])


def test_stsr2025_scores_overlap_surface_and_instances():
    labels = {"labels": {"background": 0, "Tooth": 1, "Pulp": 2, "Wisdom tooth": 3}}
    reference = np.zeros((12, 12, 12), np.int16)
    for corner in (0, 7):
        reference[corner : corner + 4, 1:5, 1:5] = 1
    reference[0:4, 7:11, 7:11] = 3
    prediction = reference.copy()
    prediction[7:11, 1:5, 1:5] = 3
    rows = by_label(published_protocol("stsr2025", labels), prediction, reference, (0.3, 0.3, 0.3))
    assert list(published_protocol("stsr2025", labels).measures) == ["dice", "nsd", "iou", "identification"]
    assert rows["Tooth"]["identification"] == 0.5, "a tooth with the name of another is not identified"
    assert rows["Wisdom tooth"]["identification"] == 1
    assert all(math.isnan(rows["Pulp"][measure]) for measure in ("dice", "nsd", "iou", "identification"))
    assert rows["Tooth"]["iou"] == 0.5


def test_protocol_by_name_or_settings():
    named = protocol_for(LABELS, "toothfairy3", measures=["iou"], convention="nnunet")
    assert (named.measures, named.convention) == (("dice", "hd95_mm"), "challenge")
    assert protocol_for(LABELS, measures=["iou", "instance_f1"]).measures == ("iou", "instance_f1")
    with pytest.raises(ValueError, match="protocol: unknown 'tooth'"):
        protocol_for(LABELS, "tooth")
