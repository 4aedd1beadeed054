"""Release archives of bundles: a folder that runs without this package installed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file

PACKAGES = ("custom_networks", "custom_apps")
SOURCES = (".py", ".cpp", ".h")
LEFT_OUT = {"eval", "data", "prepared", "__pycache__"}
EARLIEST = (1980, 1, 1, 0, 0, 0)


def pack(bundle: str | Path, output_dir: str | Path) -> tuple[Path, str]:
    """Writes ``<name>_v<version>.zip``: the bundle, both packages, and JSON twins of its YAML configurations.

    The archive is the same, byte for byte, for the same content. Data, results and the state to resume from stay out.

    Args:
        bundle: folder of the bundle; the packages are taken from where they are installed.
        output_dir: where the archive goes; one of this version is replaced.

    Returns:
        Path and SHA-256 digest of the archive.

    Raises:
        DataError: if the version is not in the changelog of ``metadata.json``.
    """
    from monai.bundle import ConfigParser

    bundle = Path(bundle)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    if metadata["version"] not in metadata["changelog"]:
        raise DataError(path, f"version {metadata['version']} has no entry in the changelog", "what changed in it")
    content: dict[str, bytes] = {}
    for file in _files(bundle):
        content[file.relative_to(bundle).as_posix()] = file.read_bytes()
    for file in bundle.glob("configs/*.yaml"):
        twin = json.dumps(ConfigParser.load_config_file(str(file)), indent=2)
        content[f"configs/{file.stem}.json"] = (twin + "\n").encode()
    for package in PACKAGES:
        root = Path(__file__).parents[2] / package
        for file in sorted(root.rglob("*")):
            if file.suffix in SOURCES:
                content[f"{package}/{file.relative_to(root).as_posix()}"] = file.read_bytes()
    target = Path(output_dir) / f"{metadata['name']}_v{metadata['version']}.zip"
    with partial_file(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(f"{metadata['name']}/{name}", EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content[name])
    return target, hashlib.sha256(target.read_bytes()).hexdigest()


def _files(bundle: Path) -> list[Path]:
    """Files of the bundle that are released."""
    return [
        file
        for file in sorted(bundle.rglob("*"))
        if file.is_file()
        and not LEFT_OUT & set(file.relative_to(bundle).parts)
        and not file.name.startswith(("last.", "."))
        and ".partial" not in file.name
    ]
