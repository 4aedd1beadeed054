from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.common.saliency_files import SaveSaliency, over_gray


class Names(SaveSaliency):
    ENDINGS = ("_a.txt",)

    def write(self, item, values, paths):
        paths["_a.txt"].write_text(str(values.sum()))


def engine(values):
    state = SimpleNamespace(batch=[{"case": "one"}], output=[{"pred": torch.as_tensor(values)}])
    return SimpleNamespace(state=state)


def test_files_are_replaced_only_when_told_so(tmp_path):
    Names(tmp_path)(engine([[[1.0, 2.0]]]))
    with pytest.raises(DataError, match="already there"):
        Names(tmp_path)(engine([[[5.0, 2.0]]]))
    assert (tmp_path / "one_a.txt").read_text() == "3.0"
    Names(tmp_path, overwrite=True)(engine([[[5.0, 2.0]]]))
    assert (tmp_path / "one_a.txt").read_text() == "7.0"


def test_a_map_that_is_not_finite_names_the_case(tmp_path):
    with pytest.raises(FloatingPointError, match="one"):
        Names(tmp_path)(engine([[[float("nan"), 2.0]]]))
    assert not list(tmp_path.iterdir())


def test_small_values_leave_the_picture_as_it_is():
    gray = np.full((4, 6), 100, np.uint8)
    values = np.zeros((4, 6), np.float32)
    assert (over_gray(gray, values) == 100).all()
    values[2, 3] = 1
    picture = over_gray(gray, values)
    assert (picture[2, 3] != 100).any()
    assert (np.delete(picture.reshape(24, 3), 15, axis=0) == 100).all()
