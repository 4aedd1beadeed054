"""A data set in nnU-Net's raw layout: its description and its cases."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from custom_apps.common.errors import DataError
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.volume_io import IMAGE_ENDINGS, NATURAL_ENDINGS, READERS, read_images, read_segmentation

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class Case:
    """Files of one case: an image file per channel (one for a colour image) and its label map, if it has one."""

    identifier: str
    images: tuple[Path, ...]
    label: Path | None = None


class RawDataset:
    """A folder with ``dataset.json``, ``imagesTr``, ``labelsTr`` and possibly ``imagesTs``, ``labelsTs``.

    The layout is that of nnU-Net v2: images are ``{case}_{channel:04d}{ending}``, label maps ``{case}{ending}``. An
    optional map ``dataset`` in the JSON file names the files of each training case instead, relative to the folder or
    absolute.

    Args:
        folder: the data set.

    Attributes:
        name: name of the folder.
        file_ending: ending of images and label maps, for example ``.nii.gz``.
        channel_names: name of each channel, in channel order.
        labels: the declared labels.
        num_training: declared number of training cases.
        reader: nnU-Net's name of the reader to force, or None.
        description: content of ``dataset.json``.

    Raises:
        DataError: when ``dataset.json`` is missing, broken or incomplete; later, when files are missing or misnamed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder / "dataset.json"
        self.name = self.folder.resolve().name
        self.description = _read_description(self.path)
        channels = self.description.get("channel_names", self.description.get("modality"))
        for key, value, kind in (
            ("channel_names", channels, Mapping),
            ("labels", self.description.get("labels"), Mapping),
            ("numTraining", self.description.get("numTraining"), int),
            ("file_ending", self.description.get("file_ending"), str),
        ):
            if not isinstance(value, kind) or not value:
                problem = f"no '{key}'" if value is None else f"'{key}' is {value!r}"
                raise DataError(self.path, problem, f"'{key}' as nnU-Net's data-set format asks for")
        if sorted(channels) != sorted(map(str, range(len(channels)))):
            raise DataError(self.path, f"channel_names has the keys {list(channels)}", '"0", "1", … without gaps')
        self.channel_names: list[str] = [str(channels[str(number)]) for number in range(len(channels))]
        self.labels = LabelManager.from_dataset_json(self.description, self.path)
        self.num_training: int = self.description["numTraining"]
        self.file_ending: str = self.description["file_ending"]
        self.reader: str | None = self.description.get("overwrite_image_reader_writer")
        if self.file_ending not in IMAGE_ENDINGS:
            raise DataError(self.path, f"file_ending is {self.file_ending!r}", f"one of {', '.join(IMAGE_ENDINGS)}")
        if self.reader not in (None, *READERS):
            raise DataError(self.path, f"unknown reader {self.reader!r}", f"one of {', '.join(READERS)}")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the lists of cases out, which would travel to every worker process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("training_cases", "test_cases")}

    @property
    def reader_name(self) -> str:
        """nnU-Net's name of the reader of these files, as a plan stores it."""
        if self.reader is not None:
            return self.reader
        return "NaturalImage2DIO" if self.file_ending in NATURAL_ENDINGS else "SimpleITKIO"

    @cached_property
    def training_cases(self) -> list[Case]:
        """Training cases by name.

        Raises:
            DataError: for the first problem of the folders' listing.
        """
        return _without_problems(self.list_training_cases())

    @cached_property
    def test_cases(self) -> list[Case]:
        """Cases of ``imagesTs`` by name, with label maps where ``labelsTs`` has them; none without that folder."""
        return _without_problems(self.list_test_cases())

    def images_in(self, folder: str | Path) -> list[Case]:
        """Groups the images of any folder, named as in ``imagesTr``, into cases.

        Raises:
            DataError: when the folder is missing or empty, a name or an ending is wrong, or a channel is missing.
        """
        return _without_problems(self._group(Path(folder)))

    def list_test_cases(self) -> tuple[list[Case], list[DataError]]:
        """Cases of ``imagesTs`` whose images are all there, and every problem of the listing."""
        folder, labels = self.folder / "imagesTs", self.folder / "labelsTs"
        if not folder.is_dir():
            return [], []
        cases, problems = self._group(folder)
        paths = [self._label_path(labels, case) for case in cases]
        labelled = [
            Case(case.identifier, case.images, path if path.is_file() else None)
            for case, path in zip(cases, paths, strict=True)
        ]
        return labelled, problems

    def list_unlabeled_cases(self) -> tuple[list[Case], list[DataError]]:
        """Cases of ``unlabeledTr`` whose images are all there, and every problem of the listing; none without it."""
        folder = self.folder / "unlabeledTr"
        return self._group(folder) if folder.is_dir() else ([], [])

    def list_training_cases(self) -> tuple[list[Case], list[DataError]]:
        """Training cases whose files are all there, and every problem of the listing."""
        if "dataset" in self.description:
            return self._explicit_cases()
        cases, problems = self._group(self.folder / "imagesTr")
        labels = self.folder / "labelsTr"
        complete = []
        for case in cases:
            label = self._label_path(labels, case)
            if label.is_file():
                complete.append(Case(case.identifier, case.images, label))
            else:
                problems.append(
                    DataError(label, "label map is missing", f"one for every image, here {case.images[0].name}")
                )
        return complete, problems

    def read_image(self, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """Image of a case, float32 (C, z, y, x), and its properties.

        Raises:
            DataError: when a file is unusable or the number of channels is not the declared one.
        """
        image, properties = read_images(case.images, self.reader)
        if len(image) != len(self.channel_names):
            declared = f"{len(self.channel_names)} as declared in dataset.json ({', '.join(self.channel_names)})"
            raise DataError(case.images[0], f"{len(image)} channels", declared)
        return image, properties

    def read_label(self, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """Label map of a case, int16 (1, z, y, x), and its properties."""
        if case.label is None:
            raise DataError(case.images[0], "has no label map", "a label map")
        return read_segmentation(case.label, self.reader)

    def _label_path(self, folder: Path, case: Case) -> Path:
        return folder / f"{case.identifier}{self.file_ending}"

    def _explicit_cases(self) -> tuple[list[Case], list[DataError]]:
        entries, cases, problems = self.description["dataset"], [], []
        if not isinstance(entries, Mapping) or not entries:
            raise DataError(self.path, "'dataset' is not a map", '{"case": {"images": [...], "label": ...}}')
        for identifier, entry in sorted(entries.items()):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("images"), list) or "label" not in entry:
                problem = f"case '{identifier}' lacks images or label"
                problems.append(DataError(self.path, problem, '{"images": [...], "label": ...}'))
                continue
            paths = [self.folder / path for path in (*entry["images"], entry["label"])]
            if missing := [path for path in paths if not path.is_file()]:
                problems.append(DataError(missing[0], "file is missing", f"a file of case '{identifier}'"))
            else:
                cases.append(Case(identifier, tuple(paths[:-1]), paths[-1]))
        return cases, problems

    def _group(self, folder: Path) -> tuple[list[Case], list[DataError]]:
        if not folder.is_dir():
            return [], [DataError(folder, "no such folder", "a folder of images")]
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        channels: dict[str, dict[int, Path]] = {}
        problems = []
        for path in files:
            if not path.name.endswith(self.file_ending):
                if path.name.endswith(IMAGE_ENDINGS):
                    problems.append(DataError(path, "wrong file ending", f"{self.file_ending} as in dataset.json"))
            elif match := CHANNEL.fullmatch(path.name[: -len(self.file_ending)]):
                channels.setdefault(match["case"], {})[int(match["channel"])] = path
            else:
                expected = f"a name like case_0000{self.file_ending}"
                problems.append(DataError(path, "file name has no channel number", expected))
        if not channels and not problems:
            problems.append(DataError(folder, "no images", f"files named like case_0000{self.file_ending}"))
        cases = []
        for identifier, paths in sorted(channels.items()):
            if problem := self._channel_problem(folder, identifier, paths):
                problems.append(problem)
            else:
                cases.append(Case(identifier, tuple(path for _, path in sorted(paths.items()))))
        return cases, problems

    def _channel_problem(self, folder: Path, identifier: str, paths: dict[int, Path]) -> DataError | None:
        """What is wrong with the channel numbers of a case; a natural image may hold all channels in one file."""
        declared = len(self.channel_names)
        if sorted(paths) == [0] and self.file_ending in NATURAL_ENDINGS:
            return None
        for number in range(declared):
            if number not in paths:
                path = folder / f"{identifier}_{number:04d}{self.file_ending}"
                return DataError(path, "channel is missing", f"{declared} channels ({', '.join(self.channel_names)})")
        extra = [path for number, path in paths.items() if number >= declared]
        return DataError(extra[0], "channel is not declared", f"{declared} channels") if extra else None


def _without_problems(found: tuple[list[Case], list[DataError]]) -> list[Case]:
    cases, problems = found
    if problems:
        raise problems[0]
    return cases


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, "is missing", "a data set in nnU-Net's raw layout") from error
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(path, "is not a JSON object", "a data set's description")
    return content
