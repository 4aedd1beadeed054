"""Synthetic CAMUS: four-chamber half sequences in the public layout, and the arrays prepared from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from custom_apps.common.data_folder import new_data_folder
from custom_apps.common.partial_file import partial_file, write_text
from custom_apps.echo.camus import QUALITIES
from custom_apps.echo.camus_preparation import SUBGROUPS, prepare_camus
from custom_apps.echo.phantom import echo_case, spread_ef

NAME = "PhantomCAMUS"
FPS, FRAMES = 50.0, 40
PIXEL_MM = 0.9


def write_camus_phantom(
    folder: str | Path, cases: int = 12, test_cases: int = 4, seed: int = 0, size: int = 144, prepare: bool = True
) -> Path:
    """Writes ``folder/PhantomCAMUS``: ``database_nifti``, ``database_split`` and what `prepare_camus` makes of them.

    Half of the sequences run from end-diastole to end-systole and half the other way, as in CAMUS.

    Args:
        folder: the data set's folder is made in it.
        cases: patients to train and validate with; every fourth is for validation, at least one.
        test_cases: held-out patients.
        seed: same seed, same data set.
        size: height of the images in pixels; they are three quarters as wide.
        prepare: False leaves the arrays and the table out.

    Returns:
        The data set's folder.

    Raises:
        DataError: if it exists already.
    """
    import nibabel

    if cases < 2:
        raise ValueError(f"at least two labeled cases are needed, one to train and one to validate, got {cases}")
    root = new_data_folder(folder, NAME)
    members: dict[str, list[str]] = {name: [] for name in SUBGROUPS}
    for number, ef_percent in enumerate(spread_ef(np.random.default_rng(seed), cases + test_cases)):
        random, name = np.random.default_rng([seed, number]), f"patient{number + 1:04d}"
        ventricle, video = echo_case(random, ef_percent, FRAMES, FPS, size, phase=0.0)
        volumes = [ventricle.volume_ml(frame) for frame in range(FRAMES)]
        last = int(np.argmin(volumes))
        margin = size // 8
        half = video[: last + 1, :, margin : size - margin]
        forward = number % 2 == 0
        half = half if forward else half[::-1]
        facts = {
            "ED": 1 if forward else len(half),
            "ES": len(half) if forward else 1,
            "NbFrame": len(half),
            "Sex": random.choice(["F", "M"]),
            "Age": int(random.integers(30, 90)),
            "ImageQuality": QUALITIES[number % 3],
            "EF": round(100 * (1 - volumes[last] / volumes[0])),
            "FrameRate": FPS,
        }
        patient = root / "database_nifti" / name
        # The public files are (width, height, frames).
        image = nibabel.Nifti1Image(np.ascontiguousarray(half.T), np.diag([PIXEL_MM, PIXEL_MM, 1 / FPS, 1]))
        with partial_file(patient / f"{name}_4CH_half_sequence.nii.gz", ".nii.gz") as temporary:
            nibabel.save(image, temporary)
        write_text("".join(f"{key}: {value}\n" for key, value in facts.items()), patient / "Info_4CH.cfg")
        validation = number % 4 == 3 or (cases < 4 and number == cases - 1)
        members["testing" if number >= cases else "validation" if validation else "training"].append(name)
    for subgroup, names in members.items():
        text = "".join(f"{name}\n" for name in names)
        write_text(text, root / "database_split" / f"subgroup_{subgroup}.txt")
    return prepare_camus(root, root) if prepare else root
