"""Time and memory of the selective scan from a thousand to a quarter of a million tokens, and whether both are linear.

The shape is (1, L, 384, 16), one of the longest that a bundle meets. All lengths of one implementation are views of
the same tensors and take turns, so that the times of different lengths can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cases import scan_inputs
from benchmarks.operator_bench import FIRST, Options, in_layout
from benchmarks.peers import Peer, scan_peers
from benchmarks.timing import inference_call, peak_bytes, take_turns, threads, training_call

CHANNELS, STATES, SHORTEST = 384, 16, 1 << 10
# The existing implementations worth showing: the fastest to train, the published one, and the project's fallback.
SHOWN = (FIRST, "torch", "selective_scan_ref loop", "minimal loop", "mamba.py pscan")


def run(options: Options) -> Iterator[dict[str, object]]:
    """Records of each length, mode and peer, and one record of the fit a peer and mode."""
    tensors = scan_inputs((1, options.longest, CHANNELS, STATES))
    lengths = [SHORTEST << i for i in range(int(math.log2(options.longest / SHORTEST)) + 1)]
    count = options.thread_counts[0]
    for peer in scan_peers():
        if peer.name not in SHOWN or peer.absent or not options.wants_peer(peer.name):
            continue
        for mode, make in (("forward", inference_call), ("forward and backward", training_call)):
            calls = {
                length: make(peer.run, in_layout(peer, _first(tensors, length)))
                for length in lengths
                if _bearable(peer, length, make is training_call)
            }
            with threads(count):
                times = take_turns(calls, options.rounds, options.budget_s)
            points = []
            for length, found in times.items():
                sizes = (1, length, CHANNELS, STATES)
                peak = peak_bytes(calls[length]) if options.memory else None
                record = {"operator": "length", "sizes": sizes, "mode": mode, "threads": count, "peer": peer.name}
                record |= {key: round(value, 4) for key, value in found.items()}
                if peak is not None:
                    record["memory_mib"] = round(peak / 2**20, 1)
                    record["memory_of_input"] = round(peak / (4 * length * CHANNELS), 2)
                points.append(record)
                yield {**record, "length": length}
            del calls
            yield {"operator": "length fit", "mode": mode, "threads": count, "peer": peer.name} | _fit(points)


def _first(tensors: dict[str, Tensor], length: int) -> dict[str, Tensor]:
    return {name: x[..., :length] if x.dim() > 2 else x for name, x in tensors.items()}


def _bearable(peer: Peer, length: int, training: bool) -> bool:
    elements = length * CHANNELS * STATES * (3 if training else 1)
    return elements <= peer.largest and not (training and length > 4 * peer.longest_training)


def _fit(points: list[dict]) -> dict[str, float]:
    """Exponent of a power law through the points, and the largest departure from a line through them."""
    lengths = torch.tensor([float(point["sizes"][1]) for point in points], dtype=torch.float64)
    times = torch.tensor([point["min_ms"] for point in points], dtype=torch.float64)
    if len(points) < 3:
        return {"points": len(points)}
    logs = torch.stack([torch.ones_like(lengths), lengths.log()], dim=1)
    exponent = torch.linalg.lstsq(logs, times.log()[:, None]).solution[1].item()
    # A line a + b L with relative errors least in the square.
    line = torch.stack([1 / times, lengths / times], dim=1)
    solution = torch.linalg.lstsq(line, torch.ones_like(times)[:, None]).solution
    residual = (line @ solution - 1).abs().max().item()
    return {
        "points": len(points),
        "exponent": round(exponent, 3),
        "us_per_token": round(1e3 * solution[1].item(), 3),
        "largest_departure_from_line": round(residual, 3),
    }


def plot(records: list[dict[str, object]], path: Path) -> bool:
    """Draws time and memory against length, forward and with backward; False if there is nothing to draw."""
    points = [record for record in records if record.get("operator") == "length"]
    if not points:
        return False
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey="row", layout="constrained")
    peers = list(dict.fromkeys(point["peer"] for point in points))
    for column, mode in enumerate(("forward", "forward and backward")):
        for row, (key, label) in enumerate((("min_ms", "time, ms"), ("memory_mib", "peak memory, MiB"))):
            axis = axes[row, column]
            for index, peer in enumerate(peers):
                mine = [p for p in points if p["peer"] == peer and p["mode"] == mode and p.get(key)]
                lengths, values = [p["length"] for p in mine], [p[key] for p in mine]
                axis.loglog(lengths, values, marker="o", markersize=4, color=f"C{index}", label=peer)
            axis.set_ylabel(label)
            axis.grid(True, which="major", alpha=0.3)
            if row == 0:
                axis.set_title(f"{mode}, {points[0]['threads']} thread{'s' if points[0]['threads'] > 1 else ''}")
                _draw_slope_one(axis, points, mode)
            else:
                axis.set_xlabel("tokens")
                longest = max(p["length"] for p in points)
                ticks = [1 << i for i in range(10, 19, 2) if 1 << i <= longest]
                axis.set_xticks(ticks, [f"{tick >> 10} k" for tick in ticks])
                axis.set_xticks([], minor=True)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(f"Selective scan, (1, L, {CHANNELS}), N = {STATES}, float32")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _draw_slope_one(axis, points: list[dict], mode: str) -> None:
    mine = [p for p in points if p["peer"] == FIRST and p["mode"] == mode]
    if mine:
        first, last = mine[0]["length"], mine[-1]["length"]
        start = mine[-1]["min_ms"] / last
        axis.loglog([first, last], [start * first, start * last], "k:", linewidth=1, label="proportional to L")
