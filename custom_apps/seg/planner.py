"""Planning: from the fingerprint of a data set to patch, batch, network and preparation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, Protocol

import numpy as np

from custom_apps.seg.configuration import Configuration, default_network_arguments
from custom_apps.seg.fingerprint import Fingerprint
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.memory_estimate import count_feature_map_elements
from custom_apps.seg.normalization import masks_by_nonzero, scheme_for_channel
from custom_apps.seg.planner_rules import FIRST_FEATURES, PLANNERS, REFERENCE_BATCH, PlannerRules
from custom_apps.seg.plans import Plans
from custom_apps.seg.resampling import shape_at_spacing
from custom_apps.seg.topology import Topology, topology

ANISOTROPY_THRESHOLD = 3
FIRST_PATCH_VOXELS = {2: 2048**2, 3: 256**3}
SMALLEST_BATCH = 2
LOWRES_THRESHOLD = 0.25
LOWRES_STEP = 1.03
MASK_BELOW_RELATIVE_SIZE = 0.75


class PlannedDataset(Protocol):
    """What planning must know of a data set besides its fingerprint; ``RawDataset`` has it."""

    name: str
    channel_names: Sequence[str]
    labels: LabelManager
    num_training: int
    reader_name: str


def plan(
    fingerprint: Fingerprint,
    dataset: PlannedDataset,
    planner: str = "v2.1",
    gpu_memory_gb: float | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plans:
    """Plans every configuration of a data set by nnU-Net's published rules (Isensee et al. 2021).

    Args:
        fingerprint: of the training cases.
        dataset: name, channels, labels and number of training cases.
        planner: ``v2.1`` (U-Mamba), ``current``, ``resenc_m``, ``resenc_l``, ``resenc_xl`` or ``resenc_l_torchres``
            (U-Mamba2).
        gpu_memory_gb: memory to plan for; by default that of the planner's published preset.
        overrides: for a configuration, items of ``Configuration`` to set by hand. From ``spacing`` (``3d_fullres``
            only) planning goes on; with ``patch_size`` or ``max_stages`` the network topology follows, and the batch
            size unless it is given too; ``first_features`` scales the channels of all stages; everything else replaces
            what was planned.

    Returns:
        The plan: ``2d``; for volumes ``3d_fullres``; where the patch covers too little of a case also ``3d_lowres`` and
        ``3d_cascade_fullres``.

    Raises:
        ValueError: for an unknown planner or an override that cannot be.
    """
    if planner not in PLANNERS:
        raise ValueError(f"unknown planner '{planner}', expected one of {', '.join(PLANNERS)}")
    overrides = {name: dict(items) for name, items in (overrides or {}).items()}
    work = _Planning.of(fingerprint, dataset, PLANNERS[planner], gpu_memory_gb, overrides)
    configurations = work.configurations()
    if unknown := set(overrides) - set(configurations):
        raise ValueError(f"overrides for {sorted(unknown)}, expected some of the planned {', '.join(configurations)}")
    return Plans(
        dataset_name=dataset.name,
        plans_name=work.rules.plans_name,
        original_median_spacing_after_transp=work.transposed(np.median(fingerprint.spacings, axis=0).tolist()),
        original_median_shape_after_transp=[
            int(n) for n in work.transposed(np.median(fingerprint.shapes_after_crop, axis=0).tolist())
        ],
        image_reader_writer=dataset.reader_name,
        transpose_forward=work.axes,
        transpose_backward=[work.axes.index(axis) for axis in range(3)],
        experiment_planner_used=work.rules.planner_name,
        foreground_intensity_properties_per_channel=fingerprint.foreground_intensity_properties_per_channel,
        configurations=configurations,
    )


def full_resolution_spacing(fingerprint: Fingerprint) -> list[float]:
    """Target spacing in mm: the median, but the 10th percentile along a much coarser axis with few slices."""
    spacings = np.asarray(fingerprint.spacings, dtype=float)
    spacing = np.median(spacings, axis=0)
    shape = np.median(fingerprint.shapes_after_crop, axis=0)
    worst = int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != worst]
    is_coarse = spacing[worst] > ANISOTROPY_THRESHOLD * spacing[others].max()
    if is_coarse and ANISOTROPY_THRESHOLD * shape[worst] < shape[others].min():
        finer = np.percentile(spacings[:, worst], 10)
        spacing[worst] = max(spacing[others].max() + 1e-5, finer) if finer < spacing[others].max() else finer
    return spacing.tolist()


@dataclass(frozen=True)
class _Planning:
    """One run of the planner: inputs, and what all configurations share (sizes in transposed axis order)."""

    rules: PlannerRules
    dataset: PlannedDataset
    memory_factor: float
    overrides: dict[str, dict[str, Any]]
    axes: list[int]
    spacing: list[float]
    median_shape: list[float]
    schemes: list[str]
    use_mask: list[bool]

    @classmethod
    def of(
        cls,
        fingerprint: Fingerprint,
        dataset: PlannedDataset,
        rules: PlannerRules,
        gpu_memory_gb: float | None,
        overrides: dict[str, dict[str, Any]],
    ) -> _Planning:
        spacing = full_resolution_spacing(fingerprint)
        coarsest = int(np.argmax(spacing))
        axes = [coarsest, *(axis for axis in range(3) if axis != coarsest)]
        transposed = [spacing[axis] for axis in axes]
        wanted = overrides.get("3d_fullres", {}).get("spacing", transposed)
        if len(wanted) != 3 or min(wanted) <= 0:
            raise ValueError(f"override spacing is {wanted}, expected three positive numbers in mm")
        shapes = [
            shape_at_spacing([shape[axis] for axis in axes], [case[axis] for axis in axes], wanted)
            for case, shape in zip(fingerprint.spacings, fingerprint.shapes_after_crop, strict=True)
        ]
        schemes = [scheme_for_channel(name) for name in dataset.channel_names]
        crops_much = fingerprint.median_relative_size_after_cropping < MASK_BELOW_RELATIVE_SIZE
        return cls(
            rules=rules,
            dataset=dataset,
            memory_factor=1.0 if gpu_memory_gb is None else gpu_memory_gb / rules.reference_memory_gb,
            overrides=overrides,
            axes=axes,
            spacing=[float(value) for value in wanted],
            median_shape=np.median(shapes, axis=0).tolist(),
            schemes=schemes,
            use_mask=[crops_much and masks_by_nonzero(scheme) for scheme in schemes],
        )

    def transposed(self, values: Sequence[float]) -> list[float]:
        return [values[axis] for axis in self.axes]

    def configurations(self) -> dict[str, dict[str, Any]]:
        """Every configuration as an entry of a plan file."""
        voxels = prod(self.median_shape) * self.dataset.num_training
        planned = [replace(self.configure("2d", self.spacing[1:], self.median_shape[1:], voxels), batch_dice=True)]
        if self.median_shape[0] != 1:
            full = self.configure("3d_fullres", self.spacing, self.median_shape, voxels)
            low = self.low_resolution(full)
            planned += [replace(full, batch_dice=low is not None)] + ([] if low is None else [low])
        entries = {found.name: self.overridden(found).to_dict() for found in planned}
        if "3d_lowres" in entries:
            entries["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        return entries

    def low_resolution(self, full: Configuration) -> Configuration | None:
        """Coarsens the spacing until a patch covers a quarter of the median case; None where it does at once."""
        spacing, low, shape = np.asarray(full.spacing, dtype=float), None, np.asarray(self.median_shape)
        patch, coarse_shape = full.patch_size, shape
        while prod(patch) / np.prod(coarse_shape) < LOWRES_THRESHOLD:
            fine = spacing.max() / spacing > 2
            spacing = np.where(fine, spacing * LOWRES_STEP, spacing) if fine.any() else spacing * LOWRES_STEP
            coarse_shape = np.asarray(full.spacing) / spacing * shape
            voxels = float(np.prod(coarse_shape)) * self.dataset.num_training
            rounded = [round(n) for n in coarse_shape.tolist()]
            low = self.configure("3d_lowres", spacing.tolist(), rounded, voxels)
            patch = low.patch_size
        if low is not None and self.rules.drops_similar_lowres and np.prod(shape) / np.prod(coarse_shape) < 2:
            return None
        return low

    def configure(self, name: str, spacing: list[float], median_shape: list[float], voxels: float) -> Configuration:
        """Patch, topology and batch size at one spacing, the overridden ones taken as given."""
        given = self.overrides.get(name, {})
        max_stages = given.get("max_stages")
        if "patch_size" in given:
            if len(given["patch_size"]) != len(spacing):
                raise ValueError(f"override patch_size is {given['patch_size']}, expected {len(spacing)} numbers")
            found = topology(spacing, given["patch_size"], max_stages)
        else:
            found = self.shrink(spacing, median_shape, max_stages)
        dims = len(spacing)
        reference = self.rules.reference_elements[dims] * self.memory_factor
        fitting = round(reference / self.elements(found) * REFERENCE_BATCH[dims])
        covering = round(voxels * self.rules.largest_share / prod(found.patch_size))
        return Configuration(
            name=name,
            data_identifier=f"{self.rules.plans_name}_{name}",
            spacing=spacing,
            patch_size=list(found.patch_size),
            batch_size=max(min(fitting, covering), SMALLEST_BATCH),
            median_image_size_in_voxels=median_shape,
            normalization_schemes=self.schemes,
            use_mask_for_norm=self.use_mask,
            batch_dice=False,
            strides=[list(stride) for stride in found.strides],
            kernel_sizes=[list(kernel) for kernel in found.kernel_sizes],
            features_per_stage=self.rules.features(found.num_stages, dims),
            n_conv_per_stage=self.rules.blocks(found.num_stages),
            n_conv_per_stage_decoder=[self.rules.convs_decoder] * (found.num_stages - 1),
            network_class_name=self.rules.network_class_name,
            residual_encoder=self.rules.residual,
            **default_network_arguments(dims),
            **self.rules.resampling,
        )

    def shrink(self, spacing: list[float], median_shape: list[float], max_stages: int | None) -> Topology:
        """The largest patch, of the case's proportions, that memory allows."""
        dims = len(spacing)
        inverse = 1 / np.asarray(spacing)
        first = inverse * (FIRST_PATCH_VOXELS[dims] / np.prod(inverse)) ** (1 / dims)
        wanted = [int(min(round(n), limit)) for n, limit in zip(first.tolist(), median_shape, strict=True)]
        found = topology(spacing, wanted, max_stages)
        limit = self.rules.reference_elements[dims] * self.memory_factor
        if self.rules.shrinks_by_batch:
            limit *= REFERENCE_BATCH[dims] / SMALLEST_BATCH
        while self.elements(found) > limit:
            shares = [n / limit_n for n, limit_n in zip(found.patch_size, median_shape, strict=True)]
            axis = int(np.argsort(shares, kind="stable")[-1])
            tried = _reduced(found.patch_size, axis, found.divisor[axis])
            divisor = topology(spacing, tried, max_stages).divisor
            found = topology(spacing, _reduced(found.patch_size, axis, divisor[axis]), max_stages)
        return found

    def elements(self, found: Topology) -> int:
        """Feature-map elements of the planned network for one patch."""
        return count_feature_map_elements(
            found.patch_size,
            found.strides,
            self.rules.features(found.num_stages, len(found.patch_size)),
            self.rules.blocks(found.num_stages),
            self.rules.convs_decoder,
            len(self.dataset.labels.declared),
            self.rules.residual,
        )

    def overridden(self, found: Configuration) -> Configuration:
        """Puts the remaining overrides in place."""
        given = dict(self.overrides.get(found.name, {}))
        for key in ("patch_size", "max_stages"):
            given.pop(key, None)
        if (first := given.pop("first_features", None)) is not None:
            given.setdefault("features_per_stage", [n * first // FIRST_FEATURES for n in found.features_per_stage])
        if "spacing" in given and found.name != "3d_fullres":
            raise ValueError(f"override spacing is given for {found.name}, expected for 3d_fullres only")
        known = {item.name for item in fields(Configuration)} - {"name"}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"unknown overrides {unknown} for {found.name}, expected items of a configuration")
        return replace(found, **given)


def _reduced(patch_size: Sequence[int], axis: int, amount: int) -> list[int]:
    return [n - amount if other == axis else n for other, n in enumerate(patch_size)]
