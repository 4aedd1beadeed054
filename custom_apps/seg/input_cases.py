"""Cases in what a user has: one file, files of any names, DICOM series; nnU-Net's names are not asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from custom_apps.common.dicom_series import dicom_series
from custom_apps.common.errors import DataError
from custom_apps.seg.raw_dataset import CHANNEL, Case, RawDataset
from custom_apps.seg.volume_io import IMAGE_ENDINGS, ITK_ENDINGS, NATURAL_ENDINGS, file_ending

DICOM_ENDINGS = (".dcm", ".ima", ".dicom")


def input_cases(source: str | Path, dataset: RawDataset) -> list[Case]:
    """Cases of a file or a folder, by name.

    Args:
        source: a data set, whose ``imagesTs`` are meant; a folder of files named ``{case}_{channel:04d}{ending}``; or,
            for networks of one channel (or color pictures), a file of any name, a folder of such files, the folder of a
            DICOM series, or a folder of such folders. Of several channels one file may be given, its name ending in
            ``_0000``, when the others lie beside it.
        dataset: description of the data that the network was trained on.

    Raises:
        DataError: nothing there, files that make no complete case, or two of one name.
    """
    source = Path(source)
    if source.is_file():
        return [_case_of_file(source, dataset)]
    folder = source / "imagesTs" if (source / "imagesTs").is_dir() else source
    if not folder.is_dir():
        raise DataError(folder, "no such file or folder", "an image or a folder of images")
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    images = [path for path in files if path.is_file() and path.name.lower().endswith(_endings(dataset))]
    if not _takes_one_file(dataset) or (images and all(_has_channel(path, dataset) for path in images)):
        return dataset.images_in(folder)
    if not images and dicom_series(folder):
        return [Case(folder.absolute().name, (folder,))]
    series = [path for path in files if path.is_dir() and not images and dicom_series(path)]
    cases = [Case(plain_name(path), (path,)) for path in images] + [Case(path.name, (path,)) for path in series]
    if not cases:
        expected = f"files ending in {', '.join(_endings(dataset))}, or DICOM series in folders of their own"
        raise DataError(folder, "no images", expected)
    twice = [name for name, count in Counter(case.identifier for case in cases).items() if count > 1]
    if twice:
        raise DataError(folder, f"two images of the name '{twice[0]}'", "names that differ in more than their ending")
    return cases


def plain_name(path: Path) -> str:
    """Name of an image file without its ending, and without ``_0000``."""
    return path.name[: -len(file_ending(path))].removesuffix("_0000")


def _case_of_file(path: Path, dataset: RawDataset) -> Case:
    if path.suffix.lower() in DICOM_ENDINGS:
        raise DataError(path, "a single DICOM file", "the folder with the slices of the series")
    ending = file_ending(path)
    if ending not in _endings(dataset):
        raise DataError(path, f"is {ending}", f"one of {', '.join(_endings(dataset))}, as in training")
    if _takes_one_file(dataset):
        return Case(plain_name(path), (path,))
    stem = path.name[: -len(ending)]
    match = CHANNEL.fullmatch(stem)
    names = ", ".join(dataset.channel_names)
    if match is None:
        expected = f"the file of the first channel, {stem}_0000{ending}, with the others beside it"
        raise DataError(path, f"one file for the {len(dataset.channel_names)} channels {names}", expected)
    paths = [path.with_name(f"{match['case']}_{number:04d}{ending}") for number in range(len(dataset.channel_names))]
    if missing := [each for each in paths if not each.is_file()]:
        raise DataError(missing[0], "channel is missing", f"{len(paths)} channels ({names})")
    return Case(match["case"], tuple(paths))


def _takes_one_file(dataset: RawDataset) -> bool:
    return len(dataset.channel_names) == 1 or dataset.file_ending in NATURAL_ENDINGS


def _endings(dataset: RawDataset) -> tuple[str, ...]:
    """Endings of images that suit the network: pictures and volumes do not mix."""
    if dataset.reader == "Tiff3DIO":
        return IMAGE_ENDINGS
    return NATURAL_ENDINGS if dataset.file_ending in NATURAL_ENDINGS else ITK_ENDINGS


def _has_channel(path: Path, dataset: RawDataset) -> bool:
    """Whether a name ends in the number of a channel that there is, and has the data set's ending."""
    if not path.name.endswith(dataset.file_ending):
        return False
    match = CHANNEL.fullmatch(path.name[: -len(dataset.file_ending)])
    return match is not None and int(match["channel"]) < len(dataset.channel_names)
