import numpy as np
import pytest
from PIL import Image

from custom_apps.seg.case_views import CaseView, view_of
from custom_apps.seg.overlay_figures import draw_overlays, worst_to_best
from custom_apps.seg.protocol import SegmentationProtocol
from tests.seg.model_phantom import LABELS, intensities, label_map

PROTOCOL = SegmentationProtocol({"labels": LABELS})


def views(shape, count, protocol=PROTOCOL):
    labels = [label_map(shape, seed) for seed in range(count)]
    return [
        view_of(f"case_{n}", intensities(m)[None], m, np.roll(m, n, 2), {"spacing": [2, 1, 1]}, protocol)
        for n, m in enumerate(labels)
    ]


def test_cases_from_worst_to_best():
    cases = [CaseView(name, (), {"liver": dice}) for name, dice in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.7))]
    assert [view.case for view in worst_to_best(cases + cases, 3)] == ["b", "d", "a"]
    assert [view.case for view in worst_to_best(cases, 9)] == ["b", "c", "d", "a"]
    absent = CaseView("e", (), {"liver": float("nan")})
    assert worst_to_best([*cases, absent], 2)[0].case == "e"


@pytest.mark.parametrize("shape", [(8, 24, 20), (1, 40, 50)])
def test_a_figure_is_drawn_in_colour(tmp_path, shape):
    draw_overlays(views(shape, 2), PROTOCOL, tmp_path / "figures" / "overlays.png")
    with Image.open(tmp_path / "figures" / "overlays.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[0] > 600
    assert (np.ptp(pixels, axis=-1) > 60).mean() > 0.005, "overlays are coloured"
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["overlays.png"]


def test_many_structures_still_fit(tmp_path):
    names = {"background": 0, **{f"tooth {number}": number for number in range(1, 41)}}
    protocol = SegmentationProtocol({"labels": names})
    draw_overlays(views((6, 20, 20), 1, protocol), protocol, tmp_path / "teeth.png")
    assert (tmp_path / "teeth.png").stat().st_size > 10_000
