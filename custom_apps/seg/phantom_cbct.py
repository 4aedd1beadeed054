"""Synthetic dental cone-beam CT, written in nnU-Net's layout and in those of two challenges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.partial_file import write_json
from custom_apps.seg.import_layouts import CLICKS_FOLDER, CLICKS_SUFFIX, STSR_FOLDERS, STSR_MASK
from custom_apps.seg.label_maps import LabelMap
from custom_apps.seg.phantom_files import write_description
from custom_apps.seg.phantom_jaw import EXTENT_MM, SOURCE_IDS, jaw_case
from custom_apps.seg.toothfairy3 import CORRECTIONS, NAMES, PULP_NAMES, TOOTH_NAMES

NAME, TOOTHFAIRY3_NAME, STSR_NAME = "Dataset903_PhantomCBCT", "ToothFairy3", "STSR2025"
DESCRIPTION = "Synthetic dental cone-beam CT with canals, sinuses, teeth and pulps"
CANALS = {3: "Left_IAC", 4: "Right_IAC"}
CLICKS_PER_CANAL = 3

PHANTOM_LABELS = LabelMap(
    NAME,
    {CANALS.get(id_, NAMES[id_]): [id_] for id_ in SOURCE_IDS if id_ not in PULP_NAMES}
    | {"Pulp": [id_ for id_ in SOURCE_IDS if id_ in PULP_NAMES]},
)
"""Labels of the phantom in nnU-Net's layout: ToothFairy3's names, all pulps one label."""

STSR_LABELS = dict.fromkeys(TOOTH_NAMES, 1) | {11: 3, 21: 3, 38: 12, 48: 12} | dict.fromkeys(PULP_NAMES, 2)
"""Class of STSR for each of ToothFairy3's ids: tooth, pulp, upper central incisors, wisdom teeth."""


def write_cbct_phantom(folder: str | Path, cases: int = 12, test_cases: int = 4, seed: int = 0, size: int = 48) -> Path:
    """Writes ``folder/Dataset903_PhantomCBCT``: images and labels for training (Tr) and testing (Ts), ``.nii.gz``.

    Labels are a subset of ToothFairy3's, several of them different on the left and on the right.

    Args:
        folder: the data set's folder is made in it.
        cases: training cases.
        test_cases: held-out cases.
        seed: same seed, same files' content.
        size: voxels from side to side; the voxels are cubes.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    root = new_data_folder(folder, NAME)
    for part, count in (("Tr", cases), ("Ts", test_cases)):
        for number, image, labels, spacing_mm in _volumes(seed, part, count, size):
            name = f"jaw_{part.lower()}_{number:03d}"
            mapped = PHANTOM_LABELS.apply(labels, root)
            _write(image, root / f"images{part}" / f"{name}_0000.nii.gz", spacing_mm)
            _write(mapped, root / f"labels{part}" / f"{name}.nii.gz", spacing_mm)
    write_description(root, ["CBCT"], PHANTOM_LABELS.labels, cases, ".nii.gz", DESCRIPTION)
    return root


def write_toothfairy3_phantom(folder: str | Path, cases: int = 6, seed: int = 0, size: int = 48) -> Path:
    """Writes ``folder/ToothFairy3`` as that data set is distributed: ids with gaps, and clicks in the canals.

    The last case bears the name and the two mistaken ids of the one that has them in the original.

    Args:
        folder: the data set's folder is made in it.
        cases: training cases.
        seed: same seed, same files' content.
        size: voxels from side to side.
    """
    root = new_data_folder(folder, TOOTHFAIRY3_NAME)
    mistaken = next(iter(CORRECTIONS))
    for number, image, labels, spacing_mm in _volumes(seed, "Tr", cases, size):
        name = f"ToothFairy3P_{number:03d}" if number < cases - 1 else mistaken
        for written, meant in CORRECTIONS.get(name, {}).items():
            labels[labels == meant] = written
        _write(image, root / "imagesTr" / f"{name}_0000.nii.gz", spacing_mm)
        _write(labels, root / "labelsTr" / f"{name}.nii.gz", spacing_mm)
        random = np.random.default_rng([seed, number])
        points = [
            {"name": canal, "point": point}
            for id_, canal in CANALS.items()
            for point in random.choice(np.argwhere(labels == id_), CLICKS_PER_CANAL).tolist()
        ]
        write_json({"points": points}, root / CLICKS_FOLDER / f"{name}{CLICKS_SUFFIX}")
    labels_by_name = {"background": 0, **{name: id_ for id_, name in NAMES.items()}}
    write_description(root, ["CBCT"], labels_by_name, cases, ".nii.gz", DESCRIPTION)
    return root


def write_stsr_phantom(
    folder: str | Path, cases: int = 6, test_cases: int = 2, seed: int = 0, size: int = 48, unlabeled: int = 4
) -> Path:
    """Writes ``folder/STSR2025`` as that challenge distributes it: ``Images``, ``Masks``, ``Unlabeled``.

    Args:
        folder: the data set's folder is made in it.
        cases: labeled training cases.
        test_cases: labeled validation cases.
        seed: same seed, same files' content.
        size: voxels from side to side.
        unlabeled: images without a mask.
    """
    root = new_data_folder(folder, STSR_NAME)
    images, masks, without = (root / name for name in STSR_FOLDERS)
    table = np.zeros(256, np.uint8)
    table[list(STSR_LABELS)] = list(STSR_LABELS.values())
    for part, count in (("Train", cases), ("Validation", test_cases), ("Unlabeled", unlabeled)):
        for number, image, labels, spacing_mm in _volumes(seed, part, count, size):
            name = f"STSR_{part}_{number:03d}"
            _write(image, (without if part == "Unlabeled" else images) / f"{name}.nii.gz", spacing_mm)
            if part != "Unlabeled":
                _write(table[labels], masks / f"{name}{STSR_MASK}.nii.gz", spacing_mm)
    return root


def _volumes(seed: int, part: str, count: int, size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
    """Number, image, labels and voxel edge in mm of every case; sizes differ a little."""
    for number in range(count):
        random = np.random.default_rng([seed, *part.encode(), number])
        width = round(size * random.uniform(0.95, 1.05))
        spacing_mm = EXTENT_MM[2] / width
        shape = tuple(round(extent / spacing_mm) for extent in EXTENT_MM)
        image, labels = jaw_case(random, shape)
        yield number, image, labels, spacing_mm


def _write(array: np.ndarray, path: Path, spacing_mm: float) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(exist_ok=True)
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing([spacing_mm] * 3)
    volume.SetOrigin((-36.0, -30.0, 12.0))
    sitk.WriteImage(volume, str(path), useCompression=True)
