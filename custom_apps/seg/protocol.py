"""How a segmentation is scored: which measures, with which tolerance, and what an absent structure counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from custom_apps.seg.instance_scores import component_score, identification_accuracy, instance_f1
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.overlap_metrics import EmptyConvention, OverlapCounts, reference_extent, value_of_absence
from custom_apps.seg.surface_distance import SurfaceDistances, surface_distances

OVERLAP_MEASURES = ("dice", "iou")
SURFACE_MEASURES = ("nsd", "hd95_mm", "hd_mm", "asd_mm")
INSTANCE_MEASURES = ("instance_f1", "identification")
COUNTS = ("tp", "fp", "fn", "tn", "n_pred", "n_ref")
SLICE_AXIS = 0

ABDOMEN_TOLERANCES_MM = {
    "liver": 5.0,
    "right kidney": 3.0,
    "spleen": 3.0,
    "pancreas": 5.0,
    "aorta": 2.0,
    "inferior vena cava": 2.0,
    "right adrenal gland": 2.0,
    "left adrenal gland": 2.0,
    "gallbladder": 2.0,
    "esophagus": 3.0,
    "stomach": 5.0,
    "duodenum": 7.0,
    "left kidney": 3.0,
}
"""Tolerances of the surface Dice in the FLARE 2022 challenge and in U-Mamba's evaluation of abdominal organs."""

ABDOMEN_BOUNDED = ("aorta", "inferior vena cava", "esophagus")
"""Organs whose annotation stops inside the image; scored between the first and the last labelled slice."""

STSR_TOLERANCE_MM = 1.0
"""Tolerance of the surface Dice for teeth and pulps; the challenge's own is not published."""

SYNONYMS = {
    "ivc": "inferior vena cava",
    "postcava": "inferior vena cava",
    "rag": "right adrenal gland",
    "lag": "left adrenal gland",
    "right adrenal": "right adrenal gland",
    "left adrenal": "left adrenal gland",
    "oesophagus": "esophagus",
    "gall bladder": "gallbladder",
}


@dataclass(frozen=True)
class Structure:
    """A structure that is scored.

    Attributes:
        name: as the data set calls it.
        ids: labels that make it up; several for a region.
        tolerance_mm: of the surface Dice.
        bounded: score only the slices between the first and last one that the reference labels.
    """

    name: str
    ids: tuple[int, ...]
    tolerance_mm: float | None = None
    bounded: bool = False


class SegmentationProtocol:
    """Scores every foreground label (or region) of a case.

    Args:
        labels: labels of the data set, or the content of its ``dataset.json``.
        measures: any of ``dice``, ``iou``, ``nsd`` (surface Dice), ``hd95_mm``, ``hd_mm``, ``asd_mm``, and of the
            connected components of a label ``instance_f1`` and ``identification``, see
            :mod:`custom_apps.seg.instance_scores`.
        convention: what an absent structure counts, see :data:`custom_apps.seg.overlap_metrics.EmptyConvention`.
            Distances to or from an empty structure are infinite; between two empty ones NaN.
        tolerance_mm: of ``nsd``; one number, or a number per name.
        bounded: names of structures scored between the first and last slice that the reference labels.
        drop_last_slice: leave out the last of those slices, as U-Mamba's scripts do.
        planar: how the surface of a one-slice image is measured: ``contour``, as a curve in the plane, or ``slab``, as
            the hull of voxels one high (U-Mamba's endoscopy script, there every pixel of a mask is surface).
        average: order of averaging: ``labels`` (over cases, then over labels) or ``cases`` (over the labels present in
            a case, then over cases).

    Raises:
        ValueError: for unknown measures, conventions or names, and for a label without tolerance.
    """

    def __init__(
        self,
        labels: LabelManager | Mapping[str, Any],
        measures: Sequence[str] = ("dice", "iou"),
        convention: EmptyConvention = "nnunet",
        tolerance_mm: float | Mapping[str, float] | None = None,
        bounded: Sequence[str] = (),
        drop_last_slice: bool = False,
        planar: str = "contour",
        average: str = "labels",
    ):
        value_of_absence(convention)
        _check_names("measures", measures, (*OVERLAP_MEASURES, *SURFACE_MEASURES, *INSTANCE_MEASURES))
        _check_names("planar", [planar], ("contour", "slab"))
        _check_names("average", [average], ("labels", "cases"))
        labels = labels if isinstance(labels, LabelManager) else LabelManager.from_dataset_json(labels)
        self.measures, self.convention = tuple(measures), convention
        self.drop_last_slice, self.planar, self.average = drop_last_slice, planar, average
        self.ignore_label = labels.ignore_label
        self.structures = _structures(labels, tolerance_mm, bounded)
        if "nsd" in self.measures and (bare := [s.name for s in self.structures if s.tolerance_mm is None]):
            raise ValueError(f"no tolerance_mm for {', '.join(bare)}, which nsd needs")

    def score(
        self, prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], case: str = ""
    ) -> list[dict[str, Any]]:
        """Scores one case.

        Args:
            prediction: label map (z, y, x).
            reference: label map of the same shape.
            spacing_mm: voxel edge per axis.
            case: name, put into every row.

        Returns:
            One row per structure: ``case``, ``label``, ``ids``, the measures, and the voxel counts ``tp``, ``fp``,
            ``fn``, ``tn``, ``n_pred``, ``n_ref``.

        Raises:
            ValueError: if the shapes differ.
        """
        if prediction.shape != reference.shape or reference.ndim != 3:
            raise ValueError(f"{case}: expected maps (z, y, x), got {prediction.shape} and {reference.shape}")
        valid = None if self.ignore_label is None else reference != self.ignore_label
        spacing = [float(edge) for edge in spacing_mm]
        rows = []
        for structure in self.structures:
            masks = [np.isin(labels, structure.ids) for labels in (prediction, reference)]
            masks = masks if valid is None else [mask & valid for mask in masks]
            frame = slice(None)
            if structure.bounded and masks[1].any():
                frame = reference_extent(masks[1], SLICE_AXIS, self.drop_last_slice)
            masks = [mask[frame] for mask in masks]
            counts = OverlapCounts.of(*masks, None if valid is None else valid[frame])
            row = {"case": case, "label": structure.name, "ids": structure.ids}
            row |= self._measured(structure, counts, masks, spacing)
            rows.append(row | {name: getattr(counts, name) for name in COUNTS})
        return rows

    def _measured(
        self, structure: Structure, counts: OverlapCounts, masks: list[np.ndarray], spacing: list[float]
    ) -> dict[str, float]:
        values = {"dice": counts.dice, "iou": counts.iou}
        row = {name: values[name](self.convention) for name in OVERLAP_MEASURES if name in self.measures}
        wanted = [name for name in SURFACE_MEASURES if name in self.measures]
        if wanted:
            distances = self._distances(masks, spacing)
            row |= {name: self._surface_measure(name, distances, structure, counts) for name in wanted}
        if set(INSTANCE_MEASURES) & set(self.measures):
            score = component_score(*masks)
            found = dict(zip(INSTANCE_MEASURES, (instance_f1, identification_accuracy), strict=True))
            row |= {name: rate(score, self.convention) for name, rate in found.items() if name in self.measures}
        return row

    def _distances(self, masks: list[np.ndarray], spacing: list[float]) -> SurfaceDistances:
        if masks[0].shape[SLICE_AXIS] != 1:
            return surface_distances(*masks, spacing)
        if self.planar == "contour":
            return surface_distances(*(mask[0] for mask in masks), spacing[1:])
        # The spacing of a lone slice is a stand-in (999); a slab has voxels as high as they are wide.
        return surface_distances(*masks, [min(spacing[1:]), *spacing[1:]])

    def _surface_measure(
        self, name: str, distances: SurfaceDistances, structure: Structure, counts: OverlapCounts
    ) -> float:
        if name == "nsd":
            both_empty = not counts.n_pred and not counts.n_ref
            return (
                value_of_absence(self.convention)
                if both_empty
                else distances.normalized_surface_dice(structure.tolerance_mm)
            )
        if name == "asd_mm":
            return distances.symmetric_average_mm()
        return distances.robust_hausdorff_mm(95 if name == "hd95_mm" else 100)


def published_protocol(name: str, labels: LabelManager | Mapping[str, Any]) -> SegmentationProtocol:
    """The protocol behind published numbers.

    Args:
        name: ``nnunet`` (Dice and IoU, absent structures left out), ``umamba_abdomen`` (Dice and surface Dice with
            organ tolerances, tubes bounded and short of their last slice, absent structures count 1),
            ``umamba_endoscopy`` (mean over the labels present in an image, tolerance 2 pixels), ``toothfairy3`` (Dice
            and HD95, absent structures count 1), ``stsr2025`` (Dice, surface Dice with tolerance 1 mm, IoU and
            identification of instances, absent structures left out).
        labels: labels of the data set, or the content of its ``dataset.json``.

    Raises:
        ValueError: for another name, or labels that the protocol has no tolerance for.
    """
    settings: dict[str, dict[str, Any]] = {
        "nnunet": {"measures": ("dice", "iou")},
        "umamba_abdomen": {
            "measures": ("dice", "nsd"),
            "convention": "challenge",
            "tolerance_mm": ABDOMEN_TOLERANCES_MM,
            "bounded": ABDOMEN_BOUNDED,
            "drop_last_slice": True,
        },
        "umamba_endoscopy": {"measures": ("dice", "nsd"), "tolerance_mm": 2.0, "planar": "slab", "average": "cases"},
        "toothfairy3": {"measures": ("dice", "hd95_mm"), "convention": "challenge"},
        "stsr2025": {"measures": ("dice", "nsd", "iou", "identification"), "tolerance_mm": STSR_TOLERANCE_MM},
    }
    _check_names("protocol", [name], tuple(settings))
    return SegmentationProtocol(labels, **settings[name])


def protocol_for(
    labels: LabelManager | Mapping[str, Any], published: str | None = None, **settings: Any
) -> SegmentationProtocol:
    """A published protocol by its name, or one of the given settings.

    Args:
        labels: labels of the data set, or the content of its ``dataset.json``.
        published: name of :func:`published_protocol`, whose settings then count alone.
        settings: arguments of :class:`SegmentationProtocol`.
    """
    return SegmentationProtocol(labels, **settings) if published is None else published_protocol(published, labels)


def _structures(
    labels: LabelManager, tolerance_mm: float | Mapping[str, float] | None, bounded: Sequence[str]
) -> list[Structure]:
    if labels.has_regions:
        named = list(zip(labels.names, labels.foreground_regions, strict=True))
    else:
        named = [(name, (label,)) for name, label in zip(labels.names, labels.all_labels, strict=True) if label != 0]
    by_name = tolerance_mm if isinstance(tolerance_mm, Mapping) else {name: tolerance_mm for name, _ in named}
    tolerances = {_plain_name(name): value for name, value in by_name.items()}
    tubes = {_plain_name(name) for name in bounded}
    return [
        Structure(name, tuple(ids), tolerances.get(_plain_name(name)), _plain_name(name) in tubes)
        for name, ids in named
    ]


def _plain_name(name: str) -> str:
    """A structure's name without the spelling differences between data sets."""
    plain = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    return SYNONYMS.get(plain, plain)


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{what}: unknown {', '.join(map(repr, unknown))}, expected {', '.join(known)}")
