import shutil

import numpy as np
import pytest
from PIL import Image

from custom_apps.thyroid.phantom import write_thyroid_phantom


@pytest.fixture(scope="session")
def class_phantom(tmp_path_factory):
    """Ten images in folders of classes, and four held out; to be read only."""
    return write_thyroid_phantom(tmp_path_factory.mktemp("thyroid"), 10, 4, size=96)


@pytest.fixture(scope="session")
def tn3k_phantom(tmp_path_factory):
    """Ten images with masks as in TN3K, and four held out; to be read only."""
    return write_thyroid_phantom(tmp_path_factory.mktemp("thyroid"), 10, 4, layout="tn3k", size=96)


@pytest.fixture(scope="session")
def nodule_phantom(tmp_path_factory):
    """Ten images with masks in folders, and four held out; to be read only."""
    return write_thyroid_phantom(tmp_path_factory.mktemp("thyroid"), 10, 4, layout="images_masks", size=96)


@pytest.fixture
def copied(tmp_path):
    """Copies a data set that may then be damaged."""
    return lambda folder: shutil.copytree(folder, tmp_path / folder.name)


@pytest.fixture
def save_image():
    """Writes an array as an image file, with its folder."""

    def save(path, values, mode=None, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
        (image if mode is None else image.convert(mode)).save(path, **options)
        return path

    return save
