"""The plan of a data set: what preparation, network and training of each configuration are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json
from custom_apps.seg.configuration import Configuration


@dataclass(frozen=True)
class Plans:
    """A plan file of nnU-Net (``nnUNetPlans.json``, v2): global items and named configurations.

    Both layouts are read, that of v2.1 (used by U-Mamba) and that of v2.3 and later; the later one is written.

    Attributes:
        dataset_name: data set the plan was made for.
        plans_name: name of the plan, first part of every ``data_identifier``.
        original_median_spacing_after_transp: median spacing in mm, transposed axis order.
        original_median_shape_after_transp: median shape in voxels after cropping, transposed axis order.
        image_reader_writer: nnU-Net's name of the reader.
        transpose_forward: axis order of prepared arrays, as axes of the array as read.
        transpose_backward: its inverse.
        experiment_planner_used: the planner.
        foreground_intensity_properties_per_channel: channel number (a string) to statistics of the foreground.
        configurations: name to entry as stored (``inherits_from`` unresolved).
    """

    dataset_name: str
    plans_name: str
    original_median_spacing_after_transp: list[float]
    original_median_shape_after_transp: list[int]
    image_reader_writer: str
    transpose_forward: list[int]
    transpose_backward: list[int]
    experiment_planner_used: str
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    configurations: dict[str, dict[str, Any]]
    label_manager: str = "LabelManager"
    path: str = field(default="plans.json", compare=False)

    @classmethod
    def read(cls, path: str | Path) -> Plans:
        """Reads a plan file of either layout.

        Raises:
            DataError: when it is missing, not JSON or incomplete.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", "a plan file") from error
        except ValueError as error:
            raise DataError(path, f"is not JSON ({error})", "a plan file") from error
        return cls.from_dict(content, path)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: str | Path = "plans.json") -> Plans:
        """A plan from the content of a plan file; ``path`` is what an error names."""
        required = [name for name, item in cls.__dataclass_fields__.items() if name not in ("label_manager", "path")]
        if missing := [name for name in required if name not in content]:
            raise DataError(path, f"lacks {', '.join(missing)}", "a plan file of nnU-Net v2")
        plans = cls(
            **{name: content[name] for name in required},
            label_manager=content.get("label_manager", "LabelManager"),
            path=str(path),
        )
        for name in plans.configurations:
            plans.configuration(name)
        return plans

    def to_dict(self) -> dict[str, Any]:
        """Content of a plan file in the later layout, configurations without inheritance resolved as such."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "path"}
        content["configurations"] = {
            name: dict(entry) if "inherits_from" in entry else self.configuration(name).to_dict()
            for name, entry in self.configurations.items()
        }
        return content

    def write(self, path: str | Path) -> None:
        """Writes the plan file, replacing ``path`` in one step."""
        write_json(self.to_dict(), path)

    def configuration(self, name: str) -> Configuration:
        """The named configuration, inheritance resolved.

        Raises:
            DataError: for an unknown name, a circle of inheritance or an incomplete entry.
        """
        return Configuration.from_dict(name, self._resolved(name, ()), self.path)

    def _resolved(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        if name not in self.configurations:
            raise DataError(self.path, f"no configuration '{name}'", f"one of {', '.join(self.configurations)}")
        if name in seen:
            raise DataError(self.path, f"configuration '{name}' inherits from itself")
        entry = dict(self.configurations[name])
        parent = entry.pop("inherits_from", None)
        return entry if parent is None else self._resolved(parent, (*seen, name)) | entry

    def with_configuration(self, configuration: Configuration) -> Plans:
        """A copy of the plan in which ``configuration`` is replaced or added."""
        entry = {configuration.name: configuration.to_dict()}
        return replace(self, configurations=self.configurations | entry)
