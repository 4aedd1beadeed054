import os

import matplotlib
import pytest
from PIL import Image

from custom_apps.common.figures import PALETTE, figure


def test_a_figure_is_saved_and_leaves_no_traces(tmp_path):
    before = dict(matplotlib.rcParams)
    with figure(tmp_path / "figures" / "a.png", 2, 3, width=2, height=1.5) as (drawn, axes):
        assert axes.shape == (2, 3)
        assert matplotlib.rcParams["axes.spines.top"] is False
        axes[0, 0].plot([0, 1], color=PALETTE[0])
        drawn.suptitle("lines")
    assert dict(matplotlib.rcParams) == before
    assert os.listdir(tmp_path / "figures") == ["a.png"]
    with Image.open(tmp_path / "figures" / "a.png") as image:
        assert image.width > image.height > 300


def test_an_error_while_drawing_keeps_the_old_figure(tmp_path):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), figure(tmp_path / "a.png"):
        raise RuntimeError("stop")
    assert (tmp_path / "a.png").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.png"]
