"""Published parameter names to ours and back, with a strict report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from custom_networks.published.reading import CheckpointError

NameTable = dict[str, list[str]]
"""Our key to the published names of the same tensor: the first name, then its duplicates."""


@dataclass
class LoadReport:
    """What happened to every key of a checkpoint.

    Attributes:
        matched: our key to the published name it was filled from.
        missing: our keys that the checkpoint does not hold.
        unexpected: published names that belong to no tensor of the network.
        mismatched: our key to a sentence about two shapes, or duplicates that disagree.
        duplicates: number of published entries that repeat another one.
        ignored: published names that were left out on purpose, such as a decoder when only an encoder is wanted.
        kept: our keys that keep the values which they had, in a transfer of a part of the network.
    """

    matched: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    ignored: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Every key on both sides is explained."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [
            f"{len(self.matched)} matched, {self.duplicates} duplicates, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} mismatched"
        ]
        for title, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            if keys:
                lines.append(f"{title}: {', '.join(keys[:5])}{' …' if len(keys) > 5 else ''}")
        for title, keys in (("ignored", self.ignored), ("kept", self.kept)):
            if keys:
                parts = sorted({key.split(".")[0] for key in keys})
                lines.append(f"{title}: {len(keys)} of {', '.join(parts)}")
        lines += [f"mismatched: {key}: {why}" for key, why in list(self.mismatched.items())[:5]]
        return "\n".join(lines)


def convert(published: Mapping[str, torch.Tensor], names: NameTable, network: nn.Module):
    """Renames a published state dict.

    Args:
        published: the published tensors, duplicates included or not.
        names: the table of the network.
        network: gives the expected shapes.

    Returns:
        Our state dict (matched tensors only) and the report.
    """
    report, ours = LoadReport(), {}
    expected = network.state_dict()
    known = {name for group in names.values() for name in group}
    report.unexpected = [name for name in published if name not in known]
    for key, group in names.items():
        present = [name for name in group if name in published]
        if not present:
            report.missing.append(key)
            continue
        tensor = published[present[0]]
        differing = [name for name in present[1:] if not torch.equal(published[name], tensor)]
        if differing:
            report.mismatched[key] = f"{present[0]} and its duplicate {differing[0]} disagree"
        elif tensor.shape != expected[key].shape:
            report.mismatched[key] = (
                f"{present[0]} has shape {tuple(tensor.shape)}, the network {tuple(expected[key].shape)}"
            )
        else:
            ours[key] = tensor
            report.matched[key] = present[0]
            report.duplicates += len(present) - 1
    return ours, report


def load_published_state(network: nn.Module, published: Mapping[str, torch.Tensor], names: NameTable) -> LoadReport:
    """Fills a network from a published state dict, strictly.

    Raises:
        CheckpointError: with the report, if any key on either side is unexplained. The network is then unchanged.
    """
    ours, report = convert(published, names, network)
    if not report.complete:
        raise CheckpointError(f"checkpoint does not fit {type(network).__name__}: {report}")
    network.load_state_dict(ours, strict=True)
    return report


def published_state(network: nn.Module, names: NameTable) -> dict[str, torch.Tensor]:
    """The state dict under published names, duplicates included (they share memory)."""
    return {name: tensor for key, tensor in network.state_dict().items() for name in names[key]}
