"""What lies beside release archives: ``model_info.json``, which lists versions as the model zoo's does, and digests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_json, write_text

INDEX = "model_info.json"
DIGESTS = "SHA256SUMS"


def write_release_index(archives: Mapping[Path, str], output_dir: str | Path, url: str | None = None) -> Path:
    """Adds archives to ``model_info.json`` and to ``SHA256SUMS`` (``sha256sum --check SHA256SUMS``).

    The index has the layout of MONAI's model zoo, so that ``monai.bundle.get_bundle_versions`` reads it:
    ``<name>_v<version>`` to ``source`` (address) and ``checksum``. Deviation: the checksum is SHA-256, as ``hash_type``
    says; the zoo's is SHA-1. Archives that are listed already, such as earlier versions, stay listed.

    Args:
        archives: path of each archive to its SHA-256 digest.
        output_dir: folder of the index.
        url: address of the folder that the archives are published in; without it ``source`` is the name alone.

    Returns:
        Path of ``model_info.json``.

    Raises:
        DataError: if there is an index already that cannot be read.
    """
    path = Path(output_dir) / INDEX
    index: dict[str, dict[str, str]] = {}
    if path.is_file():
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(path, f"is not JSON ({error})", "an index that an earlier release has written") from error
    for archive, digest in archives.items():
        source = archive.name if url is None else f"{url.rstrip('/')}/{archive.name}"
        index[archive.stem] = {"checksum": digest, "hash_type": "sha256", "source": source}
    index = dict(sorted(index.items()))
    write_json(index, path)
    write_text("".join(f"{entry['checksum']}  {name}.zip\n" for name, entry in index.items()), path.with_name(DIGESTS))
    return path
