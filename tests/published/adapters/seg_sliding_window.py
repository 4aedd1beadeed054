"""Sliding window of nnU-Net as U-Mamba uses it: positions, weights and the blended result."""

from custom_apps.seg.sliding_window import PatchwiseInferer
from custom_apps.seg.windows import gaussian_importance, window_starts
from tests.published.vector import Vector, adapter, assert_output


class ToyNetwork:
    """Tile number k predicts its input times (1 + 0.1 k)."""

    def __init__(self):
        self.seen = 0

    def __call__(self, patches):
        self.seen += 1
        return patches * (1 + 0.1 * (self.seen - 1))


@adapter(lambda v: "compute_steps_for_sliding_window" in v.source)
def sliding_window(vector: Vector) -> None:
    expected = vector.section("out")
    ours = {}
    for number, case in enumerate(vector.config["cases"]):
        starts = window_starts(case["image"], case["tile"], case["step"])
        for axis, positions in enumerate(starts):
            ours[f"steps_{number}_axis{axis}"] = expected[f"steps_{number}_axis{axis}"].new_tensor(positions)
        ours[f"gaussian_{number}"] = gaussian_importance(case["tile"])
        inferer = PatchwiseInferer(case["tile"], case["step"])
        ours[f"blended_{number}"] = inferer(vector.section("in")[f"x_{number}"][None], ToyNetwork())[0]
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert_output(name, ours[name], value, 1e-5)
