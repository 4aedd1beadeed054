"""Simulated user clicks in a reference mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.ndimage import find_objects

MARGIN_SLICES = 5
NOISE_VOXELS = 5
TRIES = 3


def simulate_clicks(mask: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Clicks spread along the first axis of a mask, near the middle of its slices.

    First and last click lie up to five slices from the ends of the mask, the others about equally spaced between
    them, off by up to five slices. Within its slice a click lies up to five voxels from the median of the mask on
    every axis; if that misses the mask three times, anywhere in the slice's mask.

    Args:
        mask: boolean, two or three axes, the first from end to end of the structure (axial slices).
        count: number of clicks, at least 1.
        random: source of every draw.

    Returns:
        Voxel coordinates (count, axes), int64, every one inside the mask, in the order of their slices.

    Raises:
        ValueError: for an empty mask, or a count below 1.

    Source: the click simulation of U-Mamba2 (Tan et al. 2025, arXiv:2509.12069). Deviations: a single click lies about
    the middle instead of the end, and in structures of less than eleven slices the first slice never comes after the
    last.
    """
    if count < 1:
        raise ValueError(f"expected at least 1 click, got {count}")
    occupied = np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))
    if not len(occupied):
        raise ValueError("no click can be simulated in an empty mask")
    slices = _slices(occupied, count, random)
    return np.array([[number, *_voxel(mask[number], random)] for number in slices], dtype=np.int64)


def _slices(occupied: np.ndarray, count: int, random: np.random.RandomState) -> list[int]:
    first, last = int(occupied[0]), int(occupied[-1])
    margin = min(MARGIN_SLICES, (last - first) // 2)
    start, end = first + random.randint(margin + 1), last - random.randint(margin + 1)
    places = np.linspace(start, end, count) if count > 1 else np.array([(start + end) / 2])
    noise = random.randint(-NOISE_VOXELS, NOISE_VOXELS + 1, count)
    moved = [_nearest(occupied, place) + step for place, step in zip(places, noise, strict=True)]
    chosen = [_nearest(occupied, np.clip(place, start, end)) for place in moved]
    if count > 1:
        chosen[0] = start if start in occupied else first
        chosen[-1] = end if end in occupied else last
    return sorted(chosen)


def _nearest(values: np.ndarray, place: float) -> int:
    return int(values[np.abs(values - place).argmin()])


def _voxel(mask: np.ndarray, random: np.random.RandomState) -> list[int]:
    """A voxel of one slice's mask."""
    inside = np.argwhere(mask)
    middle, low, high = np.median(inside, axis=0).astype(int), inside.min(axis=0), inside.max(axis=0)
    for _ in range(TRIES):
        tried = np.clip(middle + random.randint(-NOISE_VOXELS, NOISE_VOXELS + 1, mask.ndim), low, high)
        if mask[tuple(tried)]:
            return tried.tolist()
    return inside[random.randint(len(inside))].tolist()


def simulate_label_clicks(
    labels: np.ndarray,
    ids: Iterable[int],
    random: np.random.RandomState,
    counts: Sequence[int] = (1, 10),
    skip_probability: float = 0.0,
    smallest_voxels: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Clicks in every structure of a label map.

    Args:
        labels: integer label map, two or three axes; negative values are no structure.
        ids: label ids that may be clicked.
        random: source of every draw.
        counts: lowest and highest number of clicks in a structure; both are possible.
        skip_probability: chance that a structure gets no click at all.
        smallest_voxels: structures of this size or smaller get no click.

    Returns:
        Coordinates (clicks, axes), int64, and the label id of each, int64 (clicks,).
    """
    boxes = find_objects(np.maximum(labels, 0))
    points, clicked = [np.zeros((0, labels.ndim), np.int64)], []
    for label in ids:
        box = boxes[label - 1] if label <= len(boxes) else None
        # Drawn for absent structures too, so that the clicks of one do not hang on whether another is there.
        skipped, count = random.uniform() < skip_probability, random.randint(counts[0], counts[1] + 1)
        own = np.random.RandomState(random.randint(2**32, dtype=np.uint32))
        if box is None or skipped or count < 1:
            continue
        mask = labels[box] == label
        if np.count_nonzero(mask) > smallest_voxels:
            found = simulate_clicks(mask, count, own) + [edge.start for edge in box]
            points.append(found)
            clicked += [label] * len(found)
    return np.concatenate(points), np.array(clicked, dtype=np.int64)
