"""Turns the records of a run into Markdown tables."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Record = dict[str, object]


def read(path: Path) -> list[Record]:
    """Records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def markdown(records: Iterable[Record]) -> str:
    """The machine, then one table an operator, mode, dtype and number of threads; cells are milliseconds and ratios."""
    parts: list[str] = []
    tables: dict[tuple, list[Record]] = defaultdict(list)
    plain: list[Record] = []
    for record in records:
        if "machine" in record:
            parts.append("\n".join(f"- {name}: {value}" for name, value in record["machine"].items()))
        elif "mode" in record:
            tables[tuple(record[key] for key in ("operator", "mode", "dtype", "threads"))].append(record)
        else:
            plain.append(record)
    for (operator, mode, dtype, threads), rows in tables.items():
        clock = "processor time" if threads == 1 else "wall clock"
        parts.append(f"### {operator}, {mode}, {dtype}, {threads} thread(s), {clock}\n\n{_table(rows)}")
    if plain:
        lines = ["| what | threads | value |", "|---|---|---|"]
        for record in plain:
            value = record.get("skipped") or record.get("rate") or f"{record.get('min_ms')} ms"
            lines.append(f"| {record['operator']}: {record['peer']} | {record.get('threads', '')} | {value} |")
        parts.append("\n".join(lines))
    parts.append(
        "Cells: fastest run in ms, in brackets the multiple of the native time; `mem` is the rise of resident memory "
        "in multiples of the input; one run only is marked `1×`. Only ratios within a row are meaningful."
    )
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Record]) -> str:
    peers = list(dict.fromkeys(str(row["peer"]) for row in rows))
    shapes = {row["shape"]: row["sizes"] for row in rows}
    cells = {(row["shape"], row["peer"]): _cell(row) for row in rows}
    lines = ["| shape | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for shape, sizes in shapes.items():
        name = f"{shape} ({', '.join(map(str, sizes))})"
        lines.append(f"| {name} | " + " | ".join(cells.get((shape, peer), "") for peer in peers) + " |")
    return "\n".join(lines)


def _cell(row: Record) -> str:
    if "skipped" in row:
        return f"– ({row['skipped']})"
    text = f"{row['min_ms']:.2f}"
    if row["peer"] != "native" and "times_native" in row:
        text += f" [{row['times_native']:.1f}×]"
    if row["runs"] == 1:
        text += " `1×`"
    if "memory_of_input" in row:
        text += f", mem {row['memory_of_input']:.1f}"
    return text


if __name__ == "__main__":
    print(markdown(read(Path(sys.argv[1]))))
