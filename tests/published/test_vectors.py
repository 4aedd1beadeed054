"""Every published vector is reproduced; one that no adapter understands is a failure."""

import importlib
import pkgutil

import pytest

from tests.published import adapters
from tests.published.vector import ADAPTERS, Vector, vector_files

for module in pkgutil.iter_modules(adapters.__path__):
    importlib.import_module(f"{adapters.__name__}.{module.name}")


def test_vectors_are_there():
    assert vector_files()


@pytest.mark.parametrize("path", vector_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_vector(path):
    vector = Vector.read(path)
    fitting = [adapter for adapter in ADAPTERS if adapter.matches(vector)]
    assert len(fitting) == 1, f"{path}: expected one adapter, found {[adapter.name for adapter in fitting]}"
    fitting[0].check(vector)
