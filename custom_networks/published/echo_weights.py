"""E-ViM3 checkpoint files: which weights they hold, and position tables for other clip sizes.

Source: checkpoints written by the training code of HenryZhou19/E-ViM3 (MPL-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from custom_networks.layers.enclosure_tokens import EnclosureLayout, plane_indices
from custom_networks.published.reading import CheckpointError, state_dict_of

WEIGHTS = ("online", "ema")

_CONTAINERS = ("model", "state_dict", "network_weights")
_AVERAGED = ("ema_container", "ema_model")


def choose_weights(content: Mapping[str, Any], weights: str = "online") -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint file's content.

    Args:
        content: a bare state dict; or a mapping with ``model`` and the moving average ``ema_container`` (older files:
            ``ema_model``); or the state of a training of this project, where both are among ``objects``.
        weights: "online" for the trained weights, "ema" for their moving average.

    Raises:
        CheckpointError: if the file has no such weights, or holds anything else than tensors.
    """
    if weights not in WEIGHTS:
        raise CheckpointError(f"weights must be one of {WEIGHTS}, got {weights!r}")
    objects = content.get("objects")
    if isinstance(objects, Mapping):
        average = next((v for v in objects.values() if isinstance(v, Mapping) and {"network", "step"} <= set(v)), {})
        content = {"model": objects.get("network"), "ema_container": average.get("network")}
    if weights == "online":
        return state_dict_of(content, _CONTAINERS)
    container = next((content[name] for name in _AVERAGED if isinstance(content.get(name), Mapping)), None)
    if container is None:
        raise CheckpointError(
            f"the checkpoint holds no moving average; it has {', '.join(list(map(str, content))[:8])}"
        )
    averaged = {
        key.removeprefix("ema_model."): value for key, value in container.items() if key.startswith("ema_model.")
    }
    return state_dict_of(averaged or container, ())


def resize_position_table(table: torch.Tensor, planes: int, size: int, new_planes: int) -> torch.Tensor:
    """Rows of a position table for another number of patches or register planes.

    Rows of patches are interpolated linearly between the centers of the patches. Rows of global planes are copied; if
    their number differs, they are interpolated linearly too, and the two outermost ones are kept.

    Args:
        table: (rows, C), the rows of an axis in order.
        planes: register planes of the table.
        size: number of rows of the result.
        new_planes: register planes of the result.

    Returns:
        (size, C).

    Raises:
        CheckpointError: if the table has no row of a patch.
    """
    if len(table) < planes + 3:
        raise CheckpointError(f"a position table of {len(table)} rows cannot have {planes} register planes")
    result = table.new_empty(size, table.shape[1])
    listed, new_listed = (
        torch.zeros(rows, dtype=torch.bool).index_fill_(0, torch.tensor(plane_indices(rows, count)), True)
        for rows, count in ((len(table), planes), (size, new_planes))
    )
    result[new_listed] = _interpolate(table[listed], new_planes + 2, align_corners=True)
    result[~new_listed] = _interpolate(table[~listed], size - new_planes - 2, align_corners=False)
    return result


def _interpolate(rows: torch.Tensor, count: int, align_corners: bool) -> torch.Tensor:
    """Linear interpolation of (rows, C) to (count, C)."""
    if len(rows) == count:
        return rows
    return F.interpolate(rows.float().mT[None], size=count, mode="linear", align_corners=align_corners)[0].mT.to(rows)


def resize_positions(
    state: Mapping[str, torch.Tensor], layout: EnclosureLayout, register_planes: Sequence[int] | None = None
) -> dict[str, torch.Tensor]:
    """A state dict whose position tables fit the volume of ``layout``; published names or ours.

    Args:
        state: tensors of the checkpoint.
        layout: of the network that is to be filled.
        register_planes: of the network that wrote the checkpoint, along (frames, rows, columns); None if they are
            those of ``layout``.
    """
    state, new_planes = dict(state), [len(indices) - 2 for indices in layout.planes]
    register_planes = new_planes if register_planes is None else list(register_planes)
    for axis, endings in enumerate((("l_pos_embed", "frames"), ("h_pos_embed", "rows"), ("w_pos_embed", "columns"))):
        for name in [name for name in state if name.endswith(endings) and state[name].dim() == 5]:
            table = state[name].flatten(0, 3)
            table = resize_position_table(table, register_planes[axis], layout.size[axis], new_planes[axis])
            shape = [1, 1, 1, 1, table.shape[1]]
            shape[axis + 1] = len(table)
            state[name] = table.view(shape)
    return state
