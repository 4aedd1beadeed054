"""Reference vectors: reading a file, and comparing what we compute with what it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

HERE = Path(__file__).parent / "vectors"


@dataclass
class Vector:
    """One reference file: tensors by section, configuration and provenance."""

    path: Path
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Vector:
        with safe_open(path, framework="pt") as file:
            return cls(path, {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {}))  # noqa: SIM118

    @property
    def bundle(self) -> str:
        return self.path.parent.name

    @property
    def config(self) -> dict:
        return json.loads(self.metadata.get("config", "{}"))

    @property
    def source(self) -> str:
        return self.metadata.get("source", "")

    def json(self, name: str) -> dict:
        return json.loads(self.metadata.get(name, "{}"))

    def section(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors whose name begins with ``prefix/``, without it."""
        return {key[len(prefix) + 1 :]: value for key, value in self.tensors.items() if key.startswith(prefix + "/")}

    def upstream_state(self) -> dict[str, torch.Tensor]:
        """The full published state dict: unique tensors and their aliases."""
        state = self.section("state")
        return state | {alias: state[name] for alias, name in self.json("aliases").items()}


@dataclass
class Adapter:
    """Knows one kind of vector: whether it fits, and how to check it."""

    name: str
    matches: Callable[[Vector], bool]
    check: Callable[[Vector], None]


ADAPTERS: list[Adapter] = []


def adapter(matches: Callable[[Vector], bool]) -> Callable:
    """Registers the decorated ``check(vector)`` for the vectors that ``matches`` accepts."""

    def register(check: Callable[[Vector], None]) -> Callable[[Vector], None]:
        ADAPTERS.append(Adapter(check.__name__, matches, check))
        return check

    return register


def vector_files() -> list[Path]:
    """Every vector of the repository, and of the folder named by PARITY_VECTORS."""
    roots = [HERE] + ([Path(os.environ["PARITY_VECTORS"])] if os.environ.get("PARITY_VECTORS") else [])
    return [path for root in roots for path in sorted(root.glob("*/*.safetensors"))]


def assert_output(name: str, ours: torch.Tensor, theirs: torch.Tensor, atol: float) -> None:
    """Absolute error of an output within ``atol``; integers must be equal."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    if not theirs.is_floating_point():
        assert torch.equal(ours.to(theirs.dtype), theirs), f"{name}: integers differ"
        return
    error = (ours.detach().double() - theirs.double()).abs().max().item()
    assert error <= atol, f"{name}: largest absolute error {error:.3g}, tolerance {atol:.3g}"


def assert_gradient(name: str, ours: torch.Tensor | None, theirs: torch.Tensor, rtol: float) -> None:
    """Largest error of a gradient, relative to its largest entry, within ``rtol``."""
    ours = torch.zeros_like(theirs) if ours is None else ours.detach()
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    scale = theirs.double().abs().max().item()
    error = (ours.double() - theirs.double()).abs().max().item()
    assert error <= rtol * scale, f"{name}: error {error:.3g} of largest {scale:.3g}, tolerance {rtol:.3g}"
