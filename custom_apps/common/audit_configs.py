"""All values of a YAML or JSON file with their ids, in the order of the file and without building objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from custom_apps.common.errors import DataError

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 60
MAX_ENTRIES = 100_000
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")}


@dataclass(frozen=True)
class Entry:
    """One value of a configuration.

    Attributes:
        id: keys from the top, joined by ``::`` as in MONAI; the sign ``+`` of an extended key is left out.
        value: a text, number, truth value or None; ``dict`` and ``list`` themselves stand for containers.
        twice: whether the key is in its dictionary a second time.
    """

    id: str
    value: Any
    twice: bool = False


def read_entries(path: Path) -> list[Entry]:
    """Every value of a configuration, containers too; of keys that are there twice both values.

    Raises:
        DataError: for a file that is no plain YAML or JSON: Python tags, too large, too deep, syntax.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(path, "is too large for a configuration", f"at most {MAX_BYTES // 2**20} MiB")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return _limited(_of_json(json.loads(text, object_pairs_hook=_Pairs), ""))
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            return [] if root is None else _limited(_of_yaml(root, "", loader, frozenset(), 0))
        finally:
            loader.dispose()
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        problem = " ".join(str(error).split())[:200]
        raise DataError(path, f"cannot be read ({problem})", "plain YAML or JSON") from error


def _limited(entries: Iterator[Entry]) -> list[Entry]:
    """The entries, unless aliases of aliases make too many of them."""
    found = list(islice(entries, MAX_ENTRIES + 1))
    if len(found) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} values")
    return found


class _Pairs(list):
    """Keys and values of a JSON object, with those that are there twice."""


def _of_json(value: Any, place: str, twice: bool = False) -> Iterator[Entry]:
    if isinstance(value, _Pairs):
        yield Entry(place, dict, twice)
        seen: set[str] = set()
        for key, item in value:
            yield from _of_json(item, _below(place, key), key in seen)
            seen.add(key)
    elif isinstance(value, list):
        yield Entry(place, list, twice)
        for number, item in enumerate(value):
            yield from _of_json(item, _below(place, number))
    else:
        yield Entry(place, value, twice)


def _of_yaml(
    node: yaml.Node, place: str, loader: yaml.SafeLoader, above: frozenset[int], depth: int, twice: bool = False
) -> Iterator[Entry]:
    if node.tag not in _PLAIN_TAGS:
        raise ValueError(f"tag {node.tag} in line {node.start_mark.line + 1}")
    if depth > MAX_DEPTH or id(node) in above:
        raise ValueError(f"nested too deep in line {node.start_mark.line + 1}")
    if isinstance(node, yaml.ScalarNode):
        yield Entry(place, loader.construct_object(node), twice)
        return
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        yield Entry(place, list, twice)
        for number, item in enumerate(node.value):
            yield from _of_yaml(item, _below(place, number), loader, above, depth + 1)
        return
    yield Entry(place, dict, twice)
    seen: set[str] = set()
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"a key is no text in line {key.start_mark.line + 1}")
        if key.tag == _TAG + "merge":
            raise ValueError(f"merged keys (<<) in line {key.start_mark.line + 1}")
        yield from _of_yaml(item, _below(place, key.value), loader, above, depth + 1, key.value in seen)
        seen.add(key.value)


def _below(place: str, key: str | int) -> str:
    name = str(key).replace("#", "::").removeprefix("+")
    return f"{place}::{name}" if place else name
