"""A copy of a data set in which all images are blurred and everything else is as it was."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.common.problems import Problem
from custom_apps.thyroid.blur import METHOD, SIGMA, blurred, check_method, random_of_name
from custom_apps.thyroid.blur_kernels import gaussian_taps
from custom_apps.thyroid.image_file import image_files, image_name, in_mask_folder, read_image

logger = logging.getLogger(__name__)

RECORD = "blur.json"
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


def write_blurred_copy(
    raw_dir: str | Path,
    output_dir: str | Path,
    method: str = METHOD,
    sigma: float = SIGMA,
    seed: int = 0,
    workers: int = 1,
) -> list[Problem]:
    """Blurs the images of a data set of any depth, at their own resolution.

    Files below folders of masks (``masks``, ``masks_1``, ``annotations``, ``trainval-mask``, …) and files that are no
    images are copied unchanged, so that the copy is read like the original. Blurred images are 8-bit gray, under their
    own names; JPEG and DICOM become PNG, because JPEG would change them once more. ``blur.json`` tells the setting; it
    is written last.

    Args:
        raw_dir: the data set.
        output_dir: new folder.
        method: see :func:`custom_apps.thyroid.blur.blurred`.
        sigma: of ``gaussian``, pixels.
        seed: of ``motion``, whose line belongs to the name of the file.
        workers: images at a time.

    Returns:
        The images that could not be read; they are missing from the copy.

    Raises:
        DataError: no images, ``output_dir`` not empty or within ``raw_dir``, or two images that would have one name.
        ValueError: unknown method or ``sigma`` not above 0.
    """
    raw, output = Path(raw_dir), Path(output_dir)
    check_method(method)
    gaussian_taps(sigma)
    if output.exists() and any(output.iterdir()):
        raise DataError(output, "already there and not overwritten", "a new folder")
    if output.resolve().is_relative_to(raw.resolve()):
        raise DataError(output, "within the data set that is to be copied", "a folder elsewhere")
    if earlier := blur_of(raw):
        raise DataError(raw, f"blurred already ({earlier})", "original images")
    images = [path for path in image_files(raw, deep=True) if not in_mask_folder(path.relative_to(raw))]
    if not images:
        raise DataError(raw, "no images", "PNG, JPEG, BMP, TIFF or DICOM images in any folder")
    targets = _targets(images, raw, output)
    known = set(images)
    for path in sorted(raw.rglob("*")):
        relative = path.relative_to(raw)
        if path.is_file() and path not in known and not any(part.startswith(".") for part in relative.parts):
            with partial_file(output / relative) as temporary:
                shutil.copyfile(path, temporary)

    def blur(path: Path) -> Problem | None:
        try:
            image = read_image(path)
        except DataError as error:
            return Problem.of(error)
        result = blurred(image, method, sigma, random_of_name(image_name(path), seed))
        with partial_file(targets[path]) as temporary:
            Image.fromarray(result).save(temporary)
        return None

    problems = []
    with ThreadPoolExecutor(workers) as pool:
        for number, problem in enumerate(pool.map(blur, images), start=1):
            problems += [] if problem is None else [problem]
            if number % 1000 == 0 or number == len(images):
                logger.info("blurred %d of %d images", number, len(images))
    write_json({"method": method, "sigma": sigma if method == "gaussian" else None, "seed": seed}, output / RECORD)
    return problems


def blur_of(dataset_dir: str | Path) -> str | None:
    """Setting of a blurred copy in words, such as ``gaussian 1.1``; None of a data set that is no such copy.

    Raises:
        DataError: ``blur.json`` is damaged.
    """
    path = Path(dataset_dir) / RECORD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["method"] + (f" {content['sigma']:g}" if content["sigma"] is not None else "")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"unreadable ({type(error).__name__})", "the setting of a blurred copy") from error


def _targets(images: list[Path], raw: Path, output: Path) -> dict[Path, Path]:
    """Where each blurred image goes."""
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in images:
        folder = output / path.parent.relative_to(raw)
        lossless = path.suffix.lower() in LOSSLESS
        target = folder / path.name if lossless else folder / f"{image_name(path)}.png"
        if target in taken:
            raise DataError(path, f"would have the same name as {taken[target].name}", "one image of a name")
        targets[path], taken[target] = target, path
    return targets
