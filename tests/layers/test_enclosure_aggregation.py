"""Aggregation modes see the tokens they name; heads start where they are told."""

import pytest
import torch

from custom_networks.layers.enclosure_aggregation import CLIP_MODES, FRAME_MODES, EnclosureAggregation, FrameAggregation
from custom_networks.layers.enclosure_tokens import EnclosureLayout
from custom_networks.layers.mlp_head import MLPHead

LAYOUT = EnclosureLayout((3, 4, 2), (1, 0, 2))


def seen_cells(module):
    """Cells of a volume whose tokens have a gradient."""
    volume = torch.randn(1, *LAYOUT.size, 5, requires_grad=True)
    (module(volume) * torch.randn(7)).sum().backward()
    return (volume.grad != 0).any(-1).flatten().nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("mode", CLIP_MODES)
def test_clip_modes_see_their_tokens(mode):
    torch.manual_seed(0)
    seen = seen_cells(EnclosureAggregation(5, LAYOUT, 7, mode))
    cells = {
        "two_corner_concat": [0, torch.Size(LAYOUT.size).numel() - 1],
        "all_enclosure_mean": LAYOUT.shell_cells.tolist(),
    }.get(mode, LAYOUT.crossings().tolist())
    assert set(seen) <= set(cells) if mode == "all_max" else seen == cells


@pytest.mark.parametrize("mode", FRAME_MODES)
def test_frame_modes_see_the_crossings_of_real_frames(mode):
    torch.manual_seed(0)
    module = FrameAggregation(5, LAYOUT, 7, mode)
    assert module(torch.randn(2, *LAYOUT.size, 5)).shape == ((2, 3, 8, 7) if mode == "none" else (2, 3, 7))
    frames = {cell // (LAYOUT.size[1] * LAYOUT.size[2]) for cell in seen_cells(module)}
    assert frames == set(range(LAYOUT.size[0])) - set(LAYOUT.planes[0])


def test_unknown_modes():
    with pytest.raises(ValueError, match="aggregation must be one of"):
        EnclosureAggregation(5, LAYOUT, 7, "none")
    with pytest.raises(ValueError, match="frame aggregation must be one of"):
        FrameAggregation(5, LAYOUT, 7, "two_corner_concat")


def test_heads_start_at_the_mean_label():
    features = torch.zeros(3, 6)
    for output in ("linear", "percent"):
        head = MLPHead(6, initial_output=55.777, output=output)
        torch.nn.init.zeros_(head.layers[-1].weight)
        torch.testing.assert_close(head(features), torch.full((3, 1), 55.777))
    assert MLPHead(6, out_channels=4, num_layers=1)(features).shape == (3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = MLPHead(6, num_layers=1, initial_output=55.777)(features)
    assert exact.dtype == torch.float32
    torch.testing.assert_close(exact, torch.full((3, 1), 55.777))
    extreme = MLPHead(1, num_layers=1, output="percent")(torch.tensor([[-1e9], [1e9]]))
    assert ((extreme >= 0) & (extreme <= 100)).all()
    with pytest.raises(ValueError, match="at least one layer"):
        MLPHead(6, num_layers=0)
    with pytest.raises(ValueError, match="output must be one of"):
        MLPHead(6, output="softmax")
    with pytest.raises(ValueError, match="between 0 and 100 percent"):
        MLPHead(6, initial_output=120.0, output="percent")
