"""Which files are to be predicted, and what is done about those that were predicted before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from custom_apps.common.distributed import rank, world_size
from custom_apps.common.errors import DataError
from custom_apps.common.table import read_csv

EXISTING = ("error", "skip", "overwrite")
Item = TypeVar("Item", bound=Mapping[str, Any])


def items_to_predict(
    files: Sequence[Path],
    below: Path,
    output_dir: str | Path | None = None,
    results: Sequence[str] = (),
    existing: str = "error",
    shared_table: str | None = None,
) -> list[dict[str, str]]:
    """Files for prediction as items; in a distributed run the share of this process.

    Args:
        files: what is to be predicted.
        below: folder that names are relative to, or the only file itself.
        output_dir: where results go, looked at for earlier ones.
        results: endings of the files that a case gets, such as ``_mask.png``.
        existing: what to do about a case predicted before: ``error``, ``skip`` it (continue a broken run) or
            ``overwrite`` (the writer must be told too).
        shared_table: name of a CSV with a row for each case and the column ``file_name``, for results that have no file
            of their own.

    Returns:
        ``{"image": path, "case": name without ending, "file_name": path below the folder}``; possibly none with
        ``skip``. Folders become part of ``case``, so that files of equal names stay apart.

    Raises:
        DataError: two files of one name, an earlier prediction under ``error``, and fewer files than processes.
        ValueError: for an unknown ``existing``.
    """
    items: list[dict[str, str]] = []
    for path in files:
        relative = path.relative_to(below) if path != below else Path(path.name)
        case = "_".join([*relative.parts[:-1], relative.stem])
        items.append({"image": str(path), "case": case, "file_name": relative.as_posix()})
    twice = [case for case, count in Counter(item["case"] for item in items).items() if count > 1]
    if twice:
        raise DataError(below, f"two files of the name '{twice[0]}'", "names that differ in more than their ending")
    items = without_earlier(items, output_dir, results, existing, shared_table)
    if 0 < len(items) < world_size():
        # A process without work would leave the others waiting for it.
        raise DataError(below, f"{len(items)} files for {world_size()} processes", "one for each at least")
    return items[rank() :: world_size()]


def without_earlier(
    items: Sequence[Item],
    output_dir: str | Path | None,
    results: Sequence[str] = (),
    existing: str = "error",
    shared_table: str | None = None,
) -> list[Item]:
    """The items that are left to do; all of them with ``overwrite`` or without an ``output_dir``.

    Args:
        items: have ``case``, and ``file_name`` if there is a ``shared_table``.
        output_dir, results, existing, shared_table: see :func:`items_to_predict`.

    Raises:
        DataError: an earlier prediction under ``error``.
        ValueError: for an unknown ``existing``.
    """
    if existing not in EXISTING:
        raise ValueError(f"existing must be one of {', '.join(EXISTING)}, got {existing!r}")
    if output_dir is None or existing == "overwrite":
        return list(items)
    output_dir = Path(output_dir)
    listed: Collection[str] = ()
    if shared_table is not None and (output_dir / shared_table).is_file():
        if existing == "error":
            expected = "a folder without it, or existing: skip or overwrite"
            raise DataError(output_dir / shared_table, "holds earlier predictions", expected)
        listed = {row.get("file_name") for row in read_csv(output_dir / shared_table)}
    left: list[Item] = []
    for item in items:
        written = [output_dir / f"{item['case']}{ending}" for ending in results]
        if existing == "error" and (found := [path for path in written if path.exists()]):
            raise DataError(found[0], "was predicted before", "existing: skip or overwrite")
        if (listed and item["file_name"] in listed) or (written and all(path.exists() for path in written)):
            continue
        left.append(item)
    return left
