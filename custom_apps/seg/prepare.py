"""Preparing a data set: check, fingerprint, plan, and the arrays of every training case."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.disk_space import require_space
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.common.problems import errors_of, problem_table
from custom_apps.seg.case_pool import processes_for, run_cases
from custom_apps.seg.check import check_dataset, total_bytes
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.fingerprint import Fingerprint, extract_fingerprint
from custom_apps.seg.locations import regions_to_locate, sample_locations, write_locations
from custom_apps.seg.planner import plan
from custom_apps.seg.plans import Plans
from custom_apps.seg.preparation_record import PreparationRecord, array_items
from custom_apps.seg.prepared import (
    DATASET_FILE,
    FINGERPRINT_FILE,
    PLANS_FILE,
    SPLITS_FILE,
    CasePaths,
    PreparedDataset,
)
from custom_apps.seg.preprocessing import preprocess_case, target_spacing
from custom_apps.seg.raw_dataset import Case, RawDataset
from custom_apps.seg.resampling import shape_at_spacing
from custom_apps.seg.splits import make_splits, read_splits

logger = logging.getLogger(__name__)

LOCK_FILE = ".preparation.lock"
FOLDS = 5
PROBLEMS_SHOWN = 5


def prepare_dataset(
    dataset_dir: str | Path | RawDataset,
    prepared_dir: str | Path,
    configuration: str = "3d_fullres",
    planner: str = "v2.1",
    overrides: Mapping[str, Any] | None = None,
    num_processes: int | None = None,
    gpu_memory_gb: float | None = None,
    plans_file: str | Path | None = None,
) -> PreparedDataset:
    """Prepares one configuration of a raw data set in ``<prepared_dir>/<data set's name>``, or finds it prepared.

    The folder then holds ``dataset.json``, ``dataset_fingerprint.json``, ``plans.json``, ``splits_final.json`` and a
    folder per configuration with ``{case}.npy`` (float32 image), ``{case}_seg.npy``, ``{case}_locations.npz`` and
    ``{case}.json`` for each training case. The rules for a folder that is there already:

    - Files appear whole and ``{case}.json`` last, so an interrupted preparation goes on where it stopped.
    - It belongs to one state of the data set. If ``dataset.json``, or name, size or modification time of a file
      differs, DataError is raised and nothing is touched.
    - Arrays belong to one spacing, normalization and resampling. If the plan asks for others, DataError is raised.
      Patch, batch and network do not enter the arrays and may change from call to call: the result carries the plan of
      this call, ``plans.json`` becomes it, and a different one that was there is kept as ``plans_<digest>.json``.
    - Processes that call at the same time (training on several GPUs) wait for the first, which does the work.

    Args:
        dataset_dir: raw data set in nnU-Net's layout, or its reader. A ``splits_final.json`` in it is used instead of
            random folds.
        prepared_dir: where prepared data sets are kept.
        configuration: what to prepare, for example ``2d`` or ``3d_fullres``.
        planner: see ``planner.plan``.
        overrides: items of the configuration to set by hand, see ``planner.plan``.
        num_processes: processes that read and resample cases; by default as many as the data set's size is worth.
        gpu_memory_gb: memory to plan for.
        plans_file: an existing plan, such as nnU-Net's ``nnUNetPlans.json``, to use instead of planning.

    Returns:
        The prepared data set.

    Raises:
        DataError: for a data set with errors, a stale folder, or a configuration that the plan does not have.
        ValueError: for an unknown planner or an override that cannot be.
    """
    dataset = dataset_dir if isinstance(dataset_dir, RawDataset) else RawDataset(dataset_dir)
    cases = dataset.training_cases
    root = Path(prepared_dir) / dataset.name
    now = PreparationRecord.of(dataset, cases)
    work = _Preparation(dataset, cases, root, now, configuration, num_processes)
    options = {"planner": planner, "gpu_memory_gb": gpu_memory_gb, "overrides": overrides, "plans_file": plans_file}
    if (plans := work.finished_plans(**options)) is None:
        from filelock import FileLock

        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK_FILE):
            plans = work.run(**options)
    return PreparedDataset(root, configuration, plans)


class _Preparation:
    """One call of ``prepare_dataset``."""

    def __init__(
        self,
        dataset: RawDataset,
        cases: Sequence[Case],
        root: Path,
        now: PreparationRecord,
        configuration: str,
        num_processes: int | None,
    ):
        self.dataset, self.cases, self.root, self.now = dataset, cases, root, now
        self.configuration = configuration
        self.num_processes = processes_for(total_bytes(cases), num_processes)

    def finished_plans(self, **options: Any) -> Plans | None:
        """The plan if nothing is left to do, found without a lock or a write; else None."""
        record = PreparationRecord.read(self.root)
        if record is None:
            return None
        record.refuse_other_dataset(self.now, self.root)
        plans = self.plan(Fingerprint.read(self.root / FINGERPRINT_FILE), **options)
        configuration = plans.configuration(self.configuration)
        record.refuse_other_arrays(plans, configuration, self.root)
        if configuration.data_identifier not in record.arrays or self.missing(configuration):
            return None
        return plans if self.holds_plans(plans) else None

    def run(self, **options: Any) -> Plans:
        """Does whatever is left to do; the lock is held."""
        record = PreparationRecord.read(self.root)
        if record is None:
            record = self.begin()
        record.refuse_other_dataset(self.now, self.root)
        plans = self.plan(Fingerprint.read(self.root / FINGERPRINT_FILE), **options)
        configuration = plans.configuration(self.configuration)
        record.refuse_other_arrays(plans, configuration, self.root)
        self.write_plans(plans)
        record.arrays[configuration.data_identifier] = array_items(plans, configuration)
        record.write(self.root)
        folder = self.root / configuration.data_identifier
        missing = self.missing(configuration)
        require_space(folder, self.needed_bytes(plans, configuration, len(missing)), "the prepared arrays")
        logger.info("preparing %d of %d cases in %s", len(missing), len(self.cases), folder)
        arguments = [(self.dataset, case, plans, configuration, folder) for case in missing]
        run_cases(prepare_case, arguments, self.num_processes, f"preparation of {self.configuration}")
        return plans

    def begin(self) -> PreparationRecord:
        """Checks the data set and writes what all configurations share; the record comes last."""
        if errors := errors_of(check_dataset(self.dataset, self.num_processes, test=False)):
            table = problem_table(errors, self.dataset.folder, PROBLEMS_SHOWN)
            problem = f"has {len(errors)} errors\n{table}\n"
            raise DataError(self.dataset.folder, problem, "a data set that passes the check")
        extract_fingerprint(self.dataset, self.num_processes).write(self.root / FINGERPRINT_FILE)
        write_json(self.dataset.description, self.root / DATASET_FILE)
        self.write_splits()
        self.now.write(self.root)
        return self.now

    def write_splits(self) -> None:
        """Copies the data set's own splits or, with enough cases, makes five folds; existing ones stay."""
        names, path, custom = [case.identifier for case in self.cases], self.root / SPLITS_FILE, self.dataset.folder
        if path.exists():
            return
        if (custom / SPLITS_FILE).is_file():
            write_json(read_splits(custom / SPLITS_FILE, names), path)
        elif len(names) >= FOLDS:
            write_json(make_splits(names, FOLDS), path)

    def plan(
        self,
        fingerprint: Fingerprint,
        planner: str,
        gpu_memory_gb: float | None,
        overrides: Mapping[str, Any] | None,
        plans_file: str | Path | None,
    ) -> Plans:
        """The plan of this call."""
        if plans_file is None:
            named = {self.configuration: overrides} if overrides else None
            return plan(fingerprint, self.dataset, planner, gpu_memory_gb, named)
        plans = Plans.read(plans_file)
        if not overrides:
            return plans
        try:
            return plans.with_configuration(replace(plans.configuration(self.configuration), **overrides))
        except TypeError as error:
            raise ValueError(f"overrides {sorted(overrides)} are not all items of a configuration") from error

    def write_plans(self, plans: Plans) -> None:
        """Writes ``plans.json``; a different one that is there is kept under its digest."""
        path = self.root / PLANS_FILE
        if self.holds_plans(plans):
            return
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            kept = path.with_name(f"plans_{digest}.json")
            shutil.copy2(path, kept)
            logger.info("the plan has changed, the earlier one is kept as %s", kept)
        plans.write(path)

    def holds_plans(self, plans: Plans) -> bool:
        """Whether ``plans.json`` is this plan, in whichever layout it was read."""
        path = self.root / PLANS_FILE
        return path.is_file() and Plans.read(path).to_dict() == json.loads(json.dumps(plans.to_dict()))

    def needed_bytes(self, plans: Plans, configuration: Configuration, cases: int) -> int:
        """Size of the arrays of some cases, from the mean over all: float32 images, label maps of one byte."""
        fingerprint = Fingerprint.read(self.root / FINGERPRINT_FILE)
        voxels = []
        for sizes in zip(fingerprint.shapes_after_crop, fingerprint.spacings, strict=True):
            shape, spacing = ([size[axis] for axis in plans.transpose_forward] for size in sizes)
            voxels.append(prod(shape_at_spacing(shape, spacing, target_spacing(spacing, configuration))))
        return round(cases * sum(voxels) / len(voxels)) * (4 * len(self.dataset.channel_names) + 1)

    def missing(self, configuration: Configuration) -> list[Case]:
        """Cases that are not prepared yet."""
        folder = self.root / configuration.data_identifier
        return [case for case in self.cases if not CasePaths(folder, case.identifier).properties.is_file()]


def prepare_case(dataset: RawDataset, case: Case, plans: Plans, configuration: Configuration, folder: Path) -> None:
    """Prepares one training case and writes its files.

    Raises:
        DataError: when a file of the case is unusable.
    """
    image, properties = dataset.read_image(case)
    seg, _ = dataset.read_label(case)
    try:
        image, seg, properties = preprocess_case(image, seg, properties, plans, configuration)
    except ValueError as error:
        raise DataError(case.images[0], f"cannot be prepared ({error})") from error
    paths = CasePaths(folder, case.identifier)
    for array, path in ((image, paths.image), (seg, paths.seg)):
        with partial_file(path) as temporary:
            np.save(temporary, array)
    write_locations(sample_locations(seg, regions_to_locate(dataset.labels)), paths.locations)
    write_json(properties, paths.properties)
