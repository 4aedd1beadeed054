"""Turns the records of runs into Markdown tables: ``python -m benchmarks.report results.jsonl ...``."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Record = dict[str, object]

KEY = (
    "Cells: fastest run in ms (one thread: processor time; more: wall clock), in brackets the multiple of the native "
    "time; `mem` is the rise of resident memory, in multiples of the input or in MiB; one run only is marked `1×`. "
    "Only ratios within a row are meaningful."
)


def read(path: Path) -> list[Record]:
    """Records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def markdown(records: Iterable[Record]) -> str:
    """The machine, then one table an operator, mode, dtype and number of threads; then what has no table."""
    parts: list[str] = []
    tables: dict[tuple, list[Record]] = defaultdict(list)
    lengths: dict[tuple, list[Record]] = defaultdict(list)
    plain: list[Record] = []
    for record in records:
        if "machine" in record:
            facts = record["machine"] | ({"command": f"`{record['command']}`"} if "command" in record else {})
            parts.append("\n".join(f"- {name}: {_fact(value)}" for name, value in facts.items()))
        elif record["operator"] == "length":
            lengths[record["mode"], record["threads"]].append(record)
        elif "mode" in record and "shape" in record:
            tables[tuple(record[key] for key in ("operator", "mode", "dtype", "threads"))].append(record)
        else:
            plain.append(record)
    for (operator, mode, dtype, threads), rows in tables.items():
        parts.append(f"### {operator}, {mode}, {dtype}, {threads} thread(s)\n\n{_table(rows)}")
    for (mode, threads), rows in lengths.items():
        parts.append(f"### length, {mode}, float32, {threads} thread(s)\n\n{_table(rows)}")
    if plain:
        lines = ["| what | threads | allocator | value |", "|---|---|---|---|"]
        lines += [
            f"| {r['operator']}: {r['peer']} | {r.get('threads', '')} | {r.get('allocator', '')} | {_value(r)} |"
            for r in plain
        ]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, KEY]) + "\n"


def _fact(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name} {v}" for name, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _table(rows: list[Record]) -> str:
    peers = list(dict.fromkeys(str(row["peer"]) for row in rows))
    shapes = {(row.get("shape"), tuple(row["sizes"])): None for row in rows}
    cells = {(row.get("shape"), tuple(row["sizes"]), row["peer"]): _cell(row) for row in rows}
    lines = ["| shape | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for shape, sizes in shapes:
        name = f"{shape or ''} ({', '.join(map(str, sizes))})".strip()
        lines.append(f"| {name} | " + " | ".join(cells.get((shape, sizes, peer), "") for peer in peers) + " |")
    return "\n".join(lines)


def _cell(row: Record) -> str:
    if "skipped" in row:
        return f"– ({row['skipped']})"
    text = f"{row['min_ms']:.2f}" if row["min_ms"] < 1000 else f"{row['min_ms']:.0f}"
    if row["peer"] != "native" and "times_native" in row:
        text += f" [{row['times_native']:.1f}×]"
    if row["runs"] == 1:
        text += " `1×`"
    if "memory_of_input" in row:
        text += f", mem {row['memory_of_input']:.1f}"
    elif "memory_mib" in row:
        text += f", mem {row['memory_mib']} MiB"
    return text


def _value(row: Record) -> str:
    if "skipped" in row:
        return f"skipped: {row['skipped']}"
    if "rate" in row:
        return str(row["rate"])
    if row["operator"] == "length fit":
        if "exponent" not in row:
            return f"{row['mode']}: {row['points']} points, no fit"
        return (
            f"{row['mode']}: time grows as L^{row['exponent']}, {row['us_per_token']} µs a token, at most "
            f"{100 * row['largest_departure_from_line']:.0f} % off the line"
        )
    return f"{row['min_ms']} ms (median {row['median_ms']})"


if __name__ == "__main__":
    print(markdown([record for path in sys.argv[1:] for record in read(Path(path))]))
