"""Layouts in which data sets are distributed, listed as cases: nnU-Net with any ids, Decathlon, STSR 2025."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.seg.raw_dataset import CHANNEL
from custom_apps.seg.splits import Split

ENDING = ".nii.gz"
TRAINING, TEST, UNLABELED = "Tr", "Ts", "unlabeled"

STSR_CLASSES = (
    "Tooth",
    "Pulp",
    "Upper 1",
    "Upper Molar Root 1",
    "Lower Molar Root 1",
    "Lower Molar Root 2",
    "Molar Root 1",
    "Lower Molar Root 3",
    "Molar Root 2",
    "Lower 1",
    "Upper 2",
    "Wisdom tooth",
)
"""Classes 1 to 12 of the STSR 2025 challenge, Task 1."""
STSR_FOLDERS = ("Images", "Masks", "Unlabeled")
STSR_MASK = "_Masks"
CLICKS_FOLDER, CLICKS_SUFFIX = "ToothFairy3_clicks", "_clicks.json"


@dataclass(frozen=True)
class SourceCase:
    """Files of one case as distributed.

    Attributes:
        identifier: name of the case.
        part: ``Tr``, ``Ts`` or ``unlabeled``.
        images: one file per channel, or one 4-D file with all of them.
        label: label map, if there is one.
        clicks: file of clicks, if there is one.
    """

    identifier: str
    part: str
    images: tuple[Path, ...]
    label: Path | None = None
    clicks: Path | None = None


@dataclass(frozen=True)
class SourceDataset:
    """A data set as distributed.

    Attributes:
        root: its folder.
        channels: name of each channel.
        labels: name to id as declared, background included; ids may have gaps.
        cases: all cases.
        splits: folds that the layout prescribes.
        description: further items for ``dataset.json``.
    """

    root: Path
    channels: list[str]
    labels: dict[str, int]
    cases: list[SourceCase]
    splits: list[Split] = field(default_factory=list)
    description: dict[str, Any] = field(default_factory=dict)


def read_layout(folder: str | Path) -> SourceDataset:
    """Lists a data set, whichever of the layouts it has.

    - STSR 2025: ``Images``, ``Masks`` (``{case}_Masks.nii.gz``) and optionally ``Unlabeled``;
    - Medical Segmentation Decathlon: ``dataset.json`` lists ``training``, images may be 4-D;
    - nnU-Net: ``dataset.json``, ``imagesTr``, ``labelsTr``, optionally ``imagesTs``, ``labelsTs`` and
      ``unlabeledTr``, with ids that may have gaps (ToothFairy3), and ``ToothFairy3_clicks``.

    Raises:
        DataError: naming the file or folder at fault.
    """
    root = Path(folder)
    if all((root / name).is_dir() for name in STSR_FOLDERS[:2]):
        return _stsr(root)
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        expected = "a data set in nnU-Net's, the Decathlon's or STSR's layout"
        raise DataError(root, "has neither dataset.json nor Images and Masks", expected) from error
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "a data set's description") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("labels"), Mapping):
        raise DataError(path, "no map 'labels'", "a data set's description")
    return _decathlon(root, content) if "training" in content else _nnunet(root, content)


def _nnunet(root: Path, content: Mapping[str, Any]) -> SourceDataset:
    path = root / "dataset.json"
    if content.get("file_ending") != ENDING:
        raise DataError(path, f"file_ending is {content.get('file_ending')!r}", ENDING)
    labels = content["labels"]
    if not all(type(id_) is int for id_ in labels.values()):
        raise DataError(path, "labels are regions", "one id for each name")
    cases = []
    for part, images, masks in (
        (TRAINING, "imagesTr", "labelsTr"),
        (TEST, "imagesTs", "labelsTs"),
        (UNLABELED, "unlabeledTr", None),
    ):
        if part == TRAINING or (root / images).is_dir():
            cases += [_nnunet_case(root, part, name, files, masks) for name, files in _grouped(root / images).items()]
    return SourceDataset(root, _channels(path, content), dict(labels), cases, description=_kept(content))


def _nnunet_case(root: Path, part: str, name: str, files: list[Path], masks: str | None) -> SourceCase:
    label = None if masks is None else root / masks / f"{name}{ENDING}"
    if label is not None and not label.is_file():
        if part == TRAINING:
            raise DataError(label, "label map is missing", f"one for every image, here {files[0].name}")
        label = None
    clicks = root / CLICKS_FOLDER / f"{name}{CLICKS_SUFFIX}"
    return SourceCase(name, part, tuple(files), label, clicks if clicks.is_file() else None)


def _grouped(folder: Path) -> dict[str, list[Path]]:
    """Image files of a folder by case, in channel order."""
    found: dict[str, list[Path]] = {}
    for path in _volumes(folder):
        match = CHANNEL.fullmatch(path.name[: -len(ENDING)])
        if match is None:
            raise DataError(path, "file name has no channel number", f"a name like case_0000{ENDING}")
        found.setdefault(match["case"], []).append(path)
    return found


def _decathlon(root: Path, content: Mapping[str, Any]) -> SourceDataset:
    path = root / "dataset.json"
    labels = content["labels"]
    if not all(str(id_).isdecimal() and isinstance(name, str) for id_, name in labels.items()):
        raise DataError(path, f"labels are {dict(labels)}", '{"0": "background", "1": "name"}')
    named = {("background" if id_ == "0" else name): int(id_) for id_, name in labels.items()}
    if not isinstance(content["training"], list) or not content["training"]:
        raise DataError(path, "'training' is no list of cases", '[{"image": "...", "label": "..."}]')
    cases = []
    for entry in content["training"]:
        if not isinstance(entry, Mapping) or "image" not in entry or "label" not in entry:
            raise DataError(path, f"'training' holds {entry!r}", '{"image": "...", "label": "..."}')
        image, label = (_existing(root / entry[key], path) for key in ("image", "label"))
        cases.append(SourceCase(_stem(image), TRAINING, (image,), label))
    for entry in content.get("test", []):
        image = _existing(root / (entry["image"] if isinstance(entry, Mapping) else entry), path)
        cases.append(SourceCase(_stem(image), TEST, (image,)))
    return SourceDataset(root, _channels(path, content), named, cases, description=_kept(content))


def _stsr(root: Path) -> SourceDataset:
    images, masks, unlabeled = (root / name for name in STSR_FOLDERS)
    cases = []
    for label in _volumes(masks):
        name = _stem(label).removesuffix(STSR_MASK)
        if name == _stem(label):
            raise DataError(label, "file name is not that of a mask", f"a name like case{STSR_MASK}{ENDING}")
        cases.append(SourceCase(name, TRAINING, (_existing(images / f"{name}{ENDING}", label),), label))
    if unlabeled.is_dir():
        cases += [SourceCase(_stem(path), UNLABELED, (path,)) for path in _volumes(unlabeled)]
    labeled = [case.identifier for case in cases if case.part == TRAINING]
    train = [name for name in labeled if "Train" in name]
    split = {"train": train, "val": [name for name in labeled if name not in train]}
    extra = {"unlabeled": [case.identifier for case in cases if case.part == UNLABELED]}
    labels = {"background": 0, **{name: id_ for id_, name in enumerate(STSR_CLASSES, start=1)}}
    # Without cases on both sides the usual random folds are the better choice.
    return SourceDataset(root, ["CBCT"], labels, cases, [split | extra] if all(split.values()) else [])


def _volumes(folder: Path) -> list[Path]:
    """NIfTI files of a folder by name, without those that macOS adds.

    Raises:
        DataError: if there are none.
    """
    found = sorted(folder.glob(f"*{ENDING}")) if folder.is_dir() else []
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise DataError(folder, "no volumes", f"a folder of files ending in {ENDING}")
    return found


def _existing(path: Path, named_by: Path) -> Path:
    if not path.is_file():
        raise DataError(path, "file is missing", f"the file that {named_by.name} asks for")
    return path


def _stem(path: Path) -> str:
    return path.name.removesuffix(ENDING)


def _channels(path: Path, content: Mapping[str, Any]) -> list[str]:
    channels = content.get("channel_names", content.get("modality"))
    if not isinstance(channels, Mapping) or sorted(channels) != sorted(map(str, range(len(channels)))) or not channels:
        raise DataError(path, f"channels are {channels!r}", '{"0": "CT"}')
    return [str(channels[str(number)]) for number in range(len(channels))]


def _kept(content: Mapping[str, Any]) -> dict[str, Any]:
    """Free text of a description that goes on."""
    return {key: content[key] for key in ("name", "description", "reference", "licence", "release") if key in content}
