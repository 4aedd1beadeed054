"""How much memory the prediction of an image takes besides the network, said before it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from custom_apps.common.disk_space import readable
from custom_apps.seg.sliding_window import PatchwiseInferer

logger = logging.getLogger(__name__)

MEMORY_FILE = Path("/proc/meminfo")


def sum_bytes(shape: Sequence[int], patch_size: Sequence[int], heads: int, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of the buffers that :class:`~custom_apps.seg.sliding_window.PatchwiseInferer` sums logits in.

    One map a head and the weights, of the image or of one patch where that is larger. It is the bound of what grows
    with the image: patches and the network's own memory do not.

    Args:
        shape: (z, y, x) of the prepared image.
        patch_size: of the network; two numbers for networks that predict slices.
        heads: output channels.
        dtype: of the sums.
    """
    flat = len(shape) - len(patch_size)
    padded = [*shape[:flat], *(max(edges) for edges in zip(shape[flat:], patch_size, strict=True))]
    return (heads * prod(padded) + prod(padded[flat:])) * dtype.itemsize


def available_bytes(device: torch.device | str) -> int | None:
    """Memory that is free on a device; None where it cannot be asked."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and MEMORY_FILE.is_file():
        lines = dict(line.split(":", 1) for line in MEMORY_FILE.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return None


class MemoryEstimate:
    """Handler of an evaluator that logs what an image will take, and warns when there is less.

    Only an image that is larger than those before it is worth a line.

    Args:
        inferer: says where and in which precision logits are summed.
        heads: output channels of the network.
    """

    def __init__(self, inferer: PatchwiseInferer, heads: int):
        self.inferer, self.heads, self.largest = inferer, heads, 0

    def attach(self, engine: Engine) -> None:
        """Registers the handler."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Looks at the image that comes next."""
        shape = tuple(engine.state.batch["image"].shape[2:])
        needed = sum_bytes(shape, self.inferer.patch_size, self.heads, self.inferer.dtype)
        if needed <= self.largest:
            return
        self.largest = needed
        moved = self.inferer.cpu_thresh is not None and prod(shape) > self.inferer.cpu_thresh
        device = self.inferer.device or ("cpu" if moved else engine.state.device)
        free = available_bytes(device)
        what = f"{self.heads} maps of {' x '.join(map(str, shape))} voxels in {str(self.inferer.dtype).split('.')[1]}"
        text = f"summing logits takes {readable(needed)} on {device}: {what}"
        if free is not None and needed > free:
            advice = "sum_dtype: float16 halves it, sum_device: cpu takes it off the GPU"
            logger.warning("%s, but %s are free; %s", text, readable(free), advice)
        else:
            logger.info("%s", text)
