import shutil

import pytest

from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.echo.phantom_buv import write_buv_phantom
from custom_apps.echo.phantom_camus import write_camus_phantom


@pytest.fixture(scope="session")
def echonet_phantom(tmp_path_factory):
    """Eight videos of 20 to 40 frames, 48×48; to be read only."""
    return write_echonet_phantom(tmp_path_factory.mktemp("echo"), cases=5, test_cases=3, frames=(20, 40), size=48)


@pytest.fixture
def echonet_copy(echonet_phantom, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(echonet_phantom, tmp_path / echonet_phantom.name)


@pytest.fixture(scope="session")
def camus_phantom(tmp_path_factory):
    """Raw and prepared; to be read only."""
    return write_camus_phantom(tmp_path_factory.mktemp("camus"), cases=4, test_cases=2, size=64)


@pytest.fixture(scope="session")
def buv_phantom(tmp_path_factory):
    """Six short videos; to be read only."""
    return write_buv_phantom(tmp_path_factory.mktemp("buv"), cases=4, test_cases=2, frames=(5, 9))
