"""Import of a distributed data set into nnU-Net's raw layout, with ids mapped and images linked or copied."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.common.problems import Problem
from custom_apps.seg.import_layouts import (
    CLICKS_SUFFIX,
    ENDING,
    TRAINING,
    UNLABELED,
    SourceCase,
    SourceDataset,
    read_layout,
)
from custom_apps.seg.label_maps import LABEL_MAPS, LabelMap, open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.volume_io import read_segmentation, write_segmentation

logger = logging.getLogger(__name__)

IMAGES = ("link", "copy")
LABEL_MAP = "label_map"
"""Item of ``dataset.json`` that keeps the mapping, which inference reads."""


def import_dataset(
    raw_dir: str | Path,
    output_dir: str | Path,
    label_map: str | Path | None = None,
    images: str = "link",
    workers: int = 1,
) -> list[Problem]:
    """Writes a data set in nnU-Net's raw layout that training reads.

    ``output_dir`` gets ``dataset.json`` (with the mapping), ``imagesTr``, ``labelsTr`` and, where the source has them,
    ``imagesTs``, ``labelsTs``, ``unlabeledTr``, ``splits_final.json`` and clicks (``imagesTr/{case}_clicks.json``). It
    appears whole or, when a file is at fault, not at all.

    Args:
        raw_dir: see :func:`custom_apps.seg.import_layouts.read_layout`.
        output_dir: must not exist, or be empty.
        label_map: name of a mapping or a JSON file, see :func:`custom_apps.seg.label_maps.open_label_map`; by default
            ids stay as declared.
        images: ``link`` (symbolic links) or ``copy``; 4-D images are split into channels, label maps written anew.
        workers: cases at a time.

    Returns:
        The problems of single files; with one of them nothing is written.

    Raises:
        DataError: for a data set that cannot be listed, an unusable mapping, and an output folder that is not empty.
    """
    if images not in IMAGES:
        raise ValueError(f"images must be one of {', '.join(IMAGES)}, got {images!r}")
    output = Path(output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(output, "already there and not overwritten", "a folder that does not exist, or is empty")
    source = read_layout(raw_dir)
    mapping = open_label_map(label_map) if label_map is not None else declared_label_map(source)
    _require_trainable(mapping, source, label_map)
    problems: list[Problem] = []
    with _folder_in_the_making(output, problems) as folder:

        def work(case: SourceCase) -> Problem | None:
            try:
                _import_case(case, source, mapping, folder, images)
            except DataError as error:
                return Problem.of(error)
            return None

        with ThreadPoolExecutor(max(1, workers)) as pool:
            problems += [found for found in pool.map(work, source.cases) if found is not None]
        if source.splits:
            write_json(source.splits, folder / "splits_final.json")
        write_json(_description(source, mapping), folder / "dataset.json")
    if not problems:
        logger.info("%d cases in %s, label map %s", len(source.cases), output, mapping.name)
    return problems


def declared_label_map(source: SourceDataset) -> LabelMap:
    """The mapping that leaves declared ids as they are."""
    named = {name: [id_] for name, id_ in source.labels.items() if id_ != 0}
    try:
        return LabelMap(
            "declared", named, frozenset({0}), target_ids=tuple(id_ for id_ in source.labels.values() if id_ != 0)
        )
    except ValueError as error:
        raise DataError(source.root / "dataset.json", str(error), "one name for each id") from error


def _require_trainable(mapping: LabelMap, source: SourceDataset, label_map: str | Path | None) -> None:
    try:
        LabelManager(mapping.labels)
    except ValueError as error:
        if label_map is not None:
            raise DataError(label_map, str(error), "a label map for training") from error
        problem = f"its labels are not{str(error).partition(', expected')[2]}, which training needs"
        expected = f"a label map: a JSON file, or for ToothFairy3 one of {', '.join(LABEL_MAPS)}"
        raise DataError(source.root / "dataset.json", problem, expected) from error


@contextmanager
def _folder_in_the_making(output: Path, problems: list[Problem]) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place at the end, unless there is an error or problem."""
    folder = output.with_name(f".{output.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        if not problems:
            os.replace(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import_case(case: SourceCase, source: SourceDataset, mapping: LabelMap, folder: Path, images: str) -> None:
    images_dir = folder / ("unlabeledTr" if case.part == UNLABELED else f"images{case.part}")
    images_dir.mkdir(exist_ok=True)
    if len(case.images) == len(source.channels):
        for channel, image in enumerate(case.images):
            _link_or_copy(image, images_dir / _channel_name(case, channel), images)
        if len(source.channels) == 1:
            _refuse_4d(case.images[0])
    elif len(case.images) == 1:
        _split_channels(case, len(source.channels), images_dir)
    else:
        raise DataError(case.images[0], f"{len(case.images)} channels", f"{len(source.channels)} as dataset.json says")
    if case.label is not None:
        labels, properties = read_segmentation(case.label)
        mapped = mapping.apply(labels[0], case.label, case.identifier)
        (folder / f"labels{case.part}").mkdir(exist_ok=True)
        write_segmentation(mapped, folder / f"labels{case.part}" / f"{case.identifier}{ENDING}", properties)
    if case.clicks is not None:
        shutil.copyfile(case.clicks, images_dir / f"{case.identifier}{CLICKS_SUFFIX}")


def _link_or_copy(image: Path, target: Path, images: str) -> None:
    if images == "link":
        target.symlink_to(image.resolve())
    else:
        shutil.copy2(image, target)


def _refuse_4d(path: Path) -> None:
    shape = _open(path).shape
    if len(shape) > 3 and shape[3] != 1:
        raise DataError(path, f"image of shape {shape}", "one volume, or as many channels as dataset.json names")


def _split_channels(case: SourceCase, channels: int, images_dir: Path) -> None:
    """Writes every channel of a 4-D image as a file of its own, with the image's header."""
    path = case.images[0]
    image = _open(path)
    if len(image.shape) != 4 or image.shape[3] != channels:
        raise DataError(path, f"image of shape {image.shape}", f"{channels} volumes, the channels of dataset.json")
    for channel in range(channels):
        with partial_file(images_dir / _channel_name(case, channel), ENDING) as temporary:
            try:
                image.slicer[..., channel].to_filename(temporary)
            except (OSError, EOFError, ValueError) as error:
                raise DataError(path, f"cannot be read ({error})", f"a {ENDING} image") from error


def _open(path: Path):
    import nibabel

    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel raises errors of its own, of gzip and of zlib
        raise DataError(path, f"cannot be read ({error})", f"a {ENDING} image") from error


def _channel_name(case: SourceCase, channel: int) -> str:
    return f"{case.identifier}_{channel:04d}{ENDING}"


def _description(source: SourceDataset, mapping: LabelMap) -> dict:
    return {
        **source.description,
        "channel_names": {str(number): name for number, name in enumerate(source.channels)},
        "labels": mapping.labels,
        "numTraining": sum(case.part == TRAINING for case in source.cases),
        "file_ending": ENDING,
        LABEL_MAP: mapping.record(),
    }
