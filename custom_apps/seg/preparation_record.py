"""What a prepared folder was made from, so that a stale one is recognized and never mixed with new data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.plans import Plans
from custom_apps.seg.raw_dataset import Case, RawDataset

RECORD_FILE = "preparation.json"
SPLITS_FILE = "splits_final.json"

ARRAY_ITEMS = (
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


@dataclass
class PreparationRecord:
    """Content of ``preparation.json``.

    Attributes:
        files: size in bytes and modification time in ns of each file of the data set, by relative path.
        description_sha256: of the data set's ``dataset.json``.
        arrays: for each folder of arrays, the part of the plan that its content depends on.
    """

    files: dict[str, list[int]]
    description_sha256: str
    arrays: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: RawDataset, cases: Sequence[Case]) -> PreparationRecord:
        """The state of a data set now."""
        paths = [path for case in cases for path in (*case.images, case.label) if path is not None]
        custom_splits = dataset.folder / SPLITS_FILE
        paths += [custom_splits] if custom_splits.is_file() else []
        files = {_relative(path, dataset.folder): _stamp(path) for path in paths}
        description = json.dumps(dataset.description, sort_keys=True).encode()
        return cls(files, hashlib.sha256(description).hexdigest())

    @classmethod
    def read(cls, root: Path) -> PreparationRecord | None:
        """The record of a prepared folder, or None where there is none yet.

        Raises:
            DataError: when it is damaged.
        """
        path = root / RECORD_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(path, f"cannot be read ({error})", "the record that prepare_dataset wrote") from error

    def write(self, root: Path) -> None:
        """Writes the record."""
        write_json(asdict(self), root / RECORD_FILE)

    def refuse_other_dataset(self, now: PreparationRecord, root: Path) -> None:
        """Raises DataError when the data set is not the one that was prepared."""
        remedy = "another prepared_dir, or this folder removed"
        if self.description_sha256 != now.description_sha256:
            raise DataError(root, "was prepared from another dataset.json", remedy)
        if changed := _differing(self.files, now.files):
            problem = f"was prepared before {len(changed)} files of the data set changed (first {changed[0]})"
            raise DataError(root, problem, remedy)

    def refuse_other_arrays(self, plans: Plans, configuration: Configuration, root: Path) -> None:
        """Raises DataError when arrays of the configuration are there but would now come out differently."""
        prepared = self.arrays.get(configuration.data_identifier)
        if prepared is None:
            return
        if changed := _differing(prepared, array_items(plans, configuration)):
            problem = f"was prepared with another {', '.join(changed)}"
            remedy = "another prepared_dir, or this folder removed"
            raise DataError(root / configuration.data_identifier, problem, remedy)


def array_items(plans: Plans, configuration: Configuration) -> dict[str, Any]:
    """The part of a plan that the content of prepared arrays depends on, as JSON values."""
    items = {name: getattr(configuration, name) for name in ARRAY_ITEMS}
    items["transpose_forward"] = plans.transpose_forward
    items["foreground_intensity_properties_per_channel"] = plans.foreground_intensity_properties_per_channel
    return json.loads(json.dumps(items))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
