"""What ``_target_`` of a bundle configuration may name: public parts of known packages, found without importing any."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OWN_PACKAGES = ("custom_networks", "custom_apps")
MONAI_FOLDERS = (
    *("data", "engines", "handlers", "inferers", "losses", "metrics", "networks", "optimizers", "transforms"),
    "visualize",
)
CLASSES_OF = {
    *("torch.nn", "torch.nn.parallel", "torch.optim", "torch.optim.lr_scheduler", "torch.optim.swa_utils"),
    *("torch.utils.data", "torch.utils.data.distributed", "ignite.handlers", "ignite.metrics"),
}
"""Modules of other packages whose classes may be built."""

FUNCTIONS = {"numpy.max", "numpy.mean", "numpy.median", "numpy.min", "numpy.std", "numpy.sum"}

NO_COMPONENTS = re.compile(
    r"custom_apps\.(cli|__main__|\w+\.(room|demo)|common\.(audit\w*|fold_run|packing|partial_file|safe_archive))"
)
"""Own modules that serve the command line, not configurations."""

WRITERS = re.compile(r"(write|save|install|export|set_aside|print|run)(_|$)")
"""Own functions that write files of any name; classes write where a run's folders are."""

STARTING = {"ctypes", "importlib", "multiprocessing", "pickle", "runpy", "socket", "subprocess", "urllib", "webbrowser"}
"""Own modules that import these are named class by class in ``STARTING_CLASSES``."""

STARTING_CLASSES = {"custom_apps.common.run_record.RunRecord", "custom_apps.common.tracking.TrackedRun"}


def target_problem(target: str) -> str | None:
    """Why a target is not allowed; None if it is.

    Allowed are MONAI's classes by their short or full name, classes of the modules ``CLASSES_OF``, a few functions of
    numpy, and public classes and functions of this collection's own packages where they are defined: a name that a
    module has only imported (``custom_apps.x.subprocess.run``) is refused.
    """
    module, _, name = target.rpartition(".")
    if not all(part.isidentifier() for part in target.split(".")):
        return "is no dotted name"
    if target in FUNCTIONS:
        return None
    if target.split(".")[0] in OWN_PACKAGES:
        return _own_problem(target)
    if not module or target.startswith("monai."):
        folder = target.split(".")[1] if module else ""
        known = name in _monai_classes() and (not module or folder in MONAI_FOLDERS)
        return None if known else "is no class of MONAI that configurations may use"
    if module in CLASSES_OF and name[0].isupper():
        return None
    return "is not on the list"


def _own_problem(target: str) -> str | None:
    """As `target_problem`, for a name in the own packages; other names of a definition and imports are followed."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        source = _own_source(tuple(parts[:length]))
        if source is not None:
            break
    else:
        return "is in no module"
    module, names = ".".join(parts[:length]), parts[length:]
    if NO_COMPONENTS.fullmatch(module):
        return f"{module} holds no components"
    tree = _tree(source)
    if other := _other_name(tree, names[0]):
        return _own_problem(".".join([other if "." in other else f"{module}.{other}", *names[1:]]))
    if _imports(tree) & STARTING and f"{module}.{names[0]}" not in STARTING_CLASSES:
        return f"{module} may start programs"
    return _definition_problem(tree.body, module, names)


def _other_name(tree: ast.Module, name: str) -> str | None:
    """What ``name`` is another name for: of this module, or of another own one from which it is imported."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id != name:
            if any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
                return node.value.id
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN_PACKAGES:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    return None


def _definition_problem(body: list[ast.stmt], module: str, names: list[str]) -> str | None:
    for position, name in enumerate(names):
        found = next((node for node in body if getattr(node, "name", None) == name), None)
        is_class = isinstance(found, ast.ClassDef)
        if name.startswith("_") or not (is_class or isinstance(found, ast.FunctionDef)):
            return f"{module} defines no public {name}"
        if not is_class and (WRITERS.match(name) or position + 1 < len(names)):
            return f"{name} is no component"
        body = found.body if is_class else []
    return None


def _own_source(parts: tuple[str, ...]) -> Path | None:
    """Source file of an own module: always that of the code at work, never one beside the configuration."""
    path = Path(__file__).parents[2].joinpath(*parts)
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


@cache
def _tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> set[str]:
    """Names of top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@cache
def _monai_classes() -> frozenset[str]:
    """Names of the classes in MONAI's folders, without those of modules that fetch and run code (``torch.hub``)."""
    spec = find_spec("monai")
    root = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path("monai")
    found: set[str] = set()
    for folder in MONAI_FOLDERS:
        for source in root.joinpath(folder).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            names = re.findall(r"^class ([A-Za-z]\w*)", text, re.MULTILINE)
            aliases = re.findall(r"^(?:\w+ = )+(?=[A-Z])", text, re.MULTILINE)
            if "hub.load(" not in text:
                found.update(names, *(alias.replace(" ", "").strip("=").split("=") for alias in aliases))
    return frozenset(found)
