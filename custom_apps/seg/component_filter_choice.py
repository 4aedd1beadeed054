"""The component filter of a model: fitted on its training labels, published, or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ignite.engine import Engine, Events

from custom_apps.common.distributed import is_main_process
from custom_apps.common.errors import DataError
from custom_apps.seg.component_filter import ComponentFilter, fit_component_filter
from custom_apps.seg.data_import import LABEL_MAP
from custom_apps.seg.model_folder import DATASET_FILE, ModelFolder
from custom_apps.seg.toothfairy3 import CHALLENGE_IDS, COMPONENT_VOXELS, SPACING_MM

if TYPE_CHECKING:
    from custom_apps.seg.experiment import Experiment

FILTER_FILE = "component_filter.json"
OF_MODEL, TOOTHFAIRY3 = "model", "toothfairy3"


def component_filter_of(
    choice: str | Path | None, model: ModelFolder, connectivity: int = 18, whole_class: bool = False
) -> ComponentFilter | None:
    """The filter to apply at inference.

    Args:
        choice: ``model``, the one that training fitted and stored with the model; ``toothfairy3``, U-Mamba2's published
            thresholds; the path of a stored filter; or None.
        model: its folder and labels.
        connectivity: 6, 18 or 26, for published thresholds; stored filters have their own.
        whole_class: compare whole classes, for published thresholds.

    Raises:
        DataError: if the file is missing or broken, or the published thresholds do not belong to the model's labels.
    """
    if choice is None:
        return None
    if choice == TOOTHFAIRY3:
        voxels = toothfairy3_thresholds(model)
        return ComponentFilter.from_voxels(voxels, SPACING_MM, connectivity=connectivity, whole_class=whole_class)
    return ComponentFilter.read(model.folder / FILTER_FILE if choice == OF_MODEL else choice)


def toothfairy3_thresholds(model: ModelFolder) -> dict[int, float]:
    """Published thresholds in voxels of 0.3 mm for each label of a model whose data set was imported.

    Labels that join structures of different thresholds have none, like those without a published one.

    Raises:
        DataError: if the model's labels were not made from ToothFairy3's.
    """
    path, record = model.folder / DATASET_FILE, model.dataset_json.get(LABEL_MAP, {})
    if not str(record.get("name", "")).startswith("toothfairy3_"):
        raise DataError(
            path, "no label map of ToothFairy3", f"a data set imported with one, or the filter '{OF_MODEL}'"
        )
    declared, found = model.dataset_json["labels"], {}
    for name, ids in record["sources"].items():
        several = {COMPONENT_VOXELS.get(CHALLENGE_IDS.get(id_)) for id_ in ids}
        if len(several) == 1 and (threshold := several.pop()) is not None:
            found[int(declared[name])] = threshold
    return found


class ComponentFilterWriter:
    """Handler that fits a component filter on the training cases when a training starts, beside the model.

    One that is there already stays, so that a resumed training does not read all labels again.

    Args:
        experiment: what is trained.
        dataset_dir: its raw data set.
        folder: the model folder.
        percentile: of the component volumes of a class, 0..100; None does nothing.
        connectivity: 6, 18 or 26.
        whole_class: learn the volumes of whole classes.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset_dir: str | Path,
        folder: str | Path,
        percentile: float | None = 0.5,
        connectivity: int = 18,
        whole_class: bool = False,
    ):
        self.cases: Sequence[str] = experiment.train_cases
        self.dataset_dir, self.path, self.percentile = dataset_dir, Path(folder) / FILTER_FILE, percentile
        self.options = {"connectivity": connectivity, "whole_class": whole_class}

    def attach(self, engine: Engine) -> None:
        """Registers the handler on a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Fits and writes, on the main process."""
        if self.percentile is None or not is_main_process() or self.path.is_file():
            return
        fitted = fit_component_filter(
            self.dataset_dir, self.path, cases=self.cases, percentile=self.percentile, **self.options
        )
        engine.logger.info("smallest components of %d labels in %s", len(fitted.thresholds_mm3), self.path)
