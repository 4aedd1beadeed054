"""Parameter groups of an optimizer: weight decay where it belongs, rates by part of the network or by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from custom_apps.common.distributed import without_ddp


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    weight_decay: float,
    no_decay: Sequence[str] = (),
    parts: Mapping[str, Mapping[str, float]] | None = None,
    layer_decay: float = 1.0,
    layers: Sequence[Sequence[str]] = (),
) -> list[dict[str, Any]]:
    """Groups of the parameters that are trained, each with ``name``, ``lr`` and ``weight_decay``.

    Parameters of at most one dimension, those whose name ends in ``.bias``, and those that ``no_decay`` names are not
    decayed; their groups are called ``<name>_no_decay``.

    Args:
        network: the network, DistributedDataParallel or not; frozen parameters are left out.
        learning_rate: rate of parameters that no part claims.
        weight_decay: decay of the same.
        no_decay: patterns (``fnmatch``) of the last component of a name, such as ``A_log*``.
        parts: substring of parameter names to ``learning_rate`` and ``weight_decay`` of these; the first match counts,
            a value that is not given is the common one.
        layer_decay: factor of the rate from each layer to the one before it; 1 for equal rates.
        layers: from input to output, the beginnings of names that belong to each layer; what belongs to none is one
            layer above the last and has the full rate.

    Raises:
        ValueError: when a part or a layer names no parameter.

    Source: E-ViM3 (no decay, named groups); BEiT, Bao et al. 2021 (rates by layer).
    """
    parts = dict(parts or {})
    groups: dict[str, dict[str, Any]] = {}
    used_parts: set[str] = set()
    used_layers: set[int] = set()
    for name, parameter in without_ddp(network).named_parameters():
        part = next((part for part in parts if part in name), None)
        layer = next((i for i, starts in enumerate(layers) if name.startswith(tuple(starts))), len(layers))
        used_parts |= {part} - {None}
        used_layers.add(layer)
        if not parameter.requires_grad:
            continue
        values = {"learning_rate": learning_rate, "weight_decay": weight_decay} | dict(parts.get(part) or {})
        decayed = not (parameter.ndim <= 1 or name.endswith(".bias") or _matches(name, no_decay))
        scale = layer_decay ** (len(layers) - layer)
        group = part or "default"
        group += f"_layer{layer}" if layer_decay != 1 else ""
        group += "" if decayed else "_no_decay"
        groups.setdefault(
            group,
            {
                "name": group,
                "params": [],
                "lr": values["learning_rate"] * scale,
                "weight_decay": values["weight_decay"] if decayed else 0.0,
            },
        )["params"].append(parameter)
    if lost := set(parts) - used_parts:
        raise ValueError(f"no parameter name contains {', '.join(sorted(lost))}")
    if lost := [str(starts) for i, starts in enumerate(layers) if i not in used_layers]:
        raise ValueError(f"no parameter name begins with {', '.join(lost)}")
    return list(groups.values())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.rsplit(".", 1)[-1], pattern) for pattern in patterns)
