import shutil

import pytest

from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.brain.prepare import prepare_dataset


@pytest.fixture(scope="session")
def egd_phantom(tmp_path_factory):
    """Six patients, 24×24×19 voxels of 8 mm; to be read only."""
    return write_glioma_phantom(tmp_path_factory.mktemp("egd"), cases=6, size=24, seed=1)


@pytest.fixture(scope="session")
def brats_phantom(tmp_path_factory):
    """Four patients whose voxels run to left, posterior, superior; to be read only."""
    folder = tmp_path_factory.mktemp("brats")
    return write_glioma_phantom(folder, cases=4, size=24, seed=1, layout="brats", unknown_every=0)


@pytest.fixture(scope="session")
def prepared(egd_phantom, tmp_path_factory):
    """The EGD phantom prepared to 16×20×16 voxels of 12 mm; to be read only."""
    folder = tmp_path_factory.mktemp("prepared") / "egd"
    assert not prepare_dataset(egd_phantom, folder, size=(16, 20, 16), spacing_mm=12.0, pictures=False)
    return folder


@pytest.fixture
def egd_copy(egd_phantom, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(egd_phantom, tmp_path / egd_phantom.name)


@pytest.fixture
def prepared_copy(prepared, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(prepared, tmp_path / "prepared")
