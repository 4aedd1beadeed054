"""Release archives of bundles: they run without this package installed and come out the same, byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.large_files import read_large_files
from custom_apps.common.partial_file import partial_file

PACKAGES = ("custom_networks", "custom_apps")
RELEASED = ("LICENSE", "large_files.yml", "configs", "docs")
LARGEST_BYTES = 25 * 2**20
"""Largest file that the model zoo keeps in a bundle; larger ones are named in ``large_files.yml``."""
EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack(bundle: str | Path, output_dir: str | Path, models: bool = False) -> tuple[Path, str]:
    """Writes ``<name>_v<version>.zip``: the bundle, both packages, and JSON twins of its YAML configurations.

    The archive depends on the content of the files alone: times, permissions and order are fixed, and it is not
    compressed, because compressed bytes depend on the version of zlib. Data, results and whatever else lies in the
    bundle's folder stay out.

    Args:
        bundle: folder of the bundle; the packages are taken from where they are installed.
        output_dir: where the archive goes; one of this version is replaced.
        models: whether the files in ``models`` go in: weights and what describes them, but neither the state to resume
            a training from nor files that ``large_files.yml`` has downloaded.

    Returns:
        Path and SHA-256 digest of the archive.

    Raises:
        DataError: if the version is not in the changelog of ``metadata.json``, the name is not the folder's, a file is
            missing or too large, or ``large_files.yml`` is unusable.
    """
    bundle = Path(bundle).resolve()
    metadata = _metadata(bundle)
    content = _released(bundle, models) | _twins(bundle)
    for package in PACKAGES:
        root = Path(__file__).parents[2] / package
        for file in root.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and not _is_left_over(file):
                content[f"{package}/{file.relative_to(root).as_posix()}"] = file.read_bytes()
    target = Path(output_dir) / f"{metadata['name']}_v{metadata['version']}.zip"
    with partial_file(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(f"{metadata['name']}/{name}", EARLIEST)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, content[name])
    return target, hashlib.sha256(target.read_bytes()).hexdigest()


def _metadata(bundle: Path) -> dict[str, Any]:
    path = bundle / "configs" / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", "the metadata of a bundle") from error
    if metadata["name"] != bundle.name:
        raise DataError(path, f"names the bundle {metadata['name']!r}", f"the name of its folder, {bundle.name}")
    if metadata["version"] not in metadata["changelog"]:
        raise DataError(path, f"version {metadata['version']} has no entry in the changelog", "what changed in it")
    return metadata


def _released(bundle: Path, models: bool) -> dict[str, bytes]:
    """Name to content of the bundle's own files that are released."""
    elsewhere = {entry.path for entry in read_large_files(bundle)}
    content: dict[str, bytes] = {}
    for part in RELEASED + (("models",) if models else ()):
        place = bundle / part
        if not place.exists():
            raise DataError(place, "is missing", "a bundle has " + ", ".join(RELEASED))
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            name = file.relative_to(bundle).as_posix()
            if not file.is_file() or name in elsewhere or _is_left_over(file):
                continue
            if file.stat().st_size > LARGEST_BYTES:
                raise DataError(file, f"is larger than {LARGEST_BYTES} bytes", "an entry of large_files.yml")
            content[name] = file.read_bytes()
    return content


def _is_left_over(file: Path) -> bool:
    """Whether a file is hidden, unfinished, or left by an editor or a training (its state, older weights)."""
    training = re.fullmatch(r"last(\.\d+)?\.pt|.+\.\d+\.(pt|json)", file.name)
    return bool(training) or file.name.startswith(".") or file.name.endswith(("~", ".bak", ".orig", ".pyc"))


def _twins(bundle: Path) -> dict[str, bytes]:
    """The YAML configurations as JSON, which MONAI's ``load`` and federated clients read by default."""
    from monai.bundle import ConfigParser

    twins = {}
    for file in bundle.glob("configs/*.yaml"):
        twin = json.dumps(ConfigParser.load_config_file(str(file)), indent=2)
        twins[f"configs/{file.stem}.json"] = (twin + "\n").encode()
    return twins
