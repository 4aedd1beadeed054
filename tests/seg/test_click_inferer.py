import pytest
import torch

from custom_apps.seg.click_inferer import ClickInferer, clicks_in_window, mirrored_clicks
from custom_apps.seg.mirroring import LabelExchange
from custom_networks.nets.umamba2 import UMamba2
from tests.seg.click_phantom import BallNetwork

PATCH = (8, 10, 12)


def given(*clicks):
    points, labels = zip(*clicks, strict=True)
    return torch.tensor(points).float(), torch.tensor(labels)


def ball(size, point, radius=2.5):
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"))
    return ((grid - torch.tensor(point).view(3, 1, 1, 1).float()) ** 2).sum(0) <= radius**2


@pytest.mark.parametrize("size", [(8, 10, 12), (5, 7, 23), (19, 16, 21)])
@pytest.mark.parametrize("step_ratio", [0.5, 1.0])
def test_every_window_gets_its_clicks_where_they_are(size, step_ratio):
    clicks = given(((2, 3, 4), 1), ((size[0] - 1, 0, size[2] - 2), 0))
    logits = ClickInferer(PATCH, step_ratio)(torch.zeros(1, 1, *size), BallNetwork(), clicks=clicks)
    found = logits[0].argmax(0)
    assert found[2, 3, 4] == 2
    assert found[size[0] - 1, 0, size[2] - 2] == 1
    allowed = ball(size, (2, 3, 4)) | ball(size, (size[0] - 1, 0, size[2] - 2))
    assert not found[~allowed].any()
    assert (found > 0).sum() > 0.4 * allowed.sum()


def test_clicks_of_a_window():
    window = (slice(4, 12), slice(0, 10), slice(6, 18))
    points, labels = given(
        ((4, 0, 6), 1), ((3, 5, 7), 1), ((11, 9, 17), 0), ((12, 5, 7), 0), ((5, 5, 18), 1), ((5, 5, 8), -1)
    )
    inside, kept = clicks_in_window(points, labels, window)
    assert inside.tolist() == [[0, 0, 0], [7, 9, 11]]
    assert kept.tolist() == [1, 0]
    # Every voxel belongs to exactly one of two windows side by side.
    sides = [
        clicks_in_window(points, labels, (slice(a, b), slice(0, 20), slice(0, 20)))[1] for a, b in ((0, 4), (4, 20))
    ]
    assert sum(map(len, sides)) == 5


def test_batches_of_windows_give_the_same_as_single_ones():
    """Padding would add tokens to the attention; windows are batched with those of as many clicks instead."""
    torch.manual_seed(0)
    network = small_network()
    x = torch.randn(1, 1, 12, 16, 20)
    clicks = given(((1, 2, 3), 0), ((6, 8, 10), 1), ((11, 15, 19), 1))
    with torch.no_grad():
        one, many = (ClickInferer((8, 8, 8), sw_batch_size=n)(x, network, clicks=clicks) for n in (1, 4))
    assert torch.allclose(one, many, atol=1e-5)


def small_network() -> UMamba2:
    network = UMamba2(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        features_per_stage=[8, 16],
        kernel_sizes=[[3] * 3] * 2,
        strides=[[1] * 3, [2] * 3],
        n_blocks_per_stage=[1, 1],
        n_conv_per_stage_decoder=[1],
        bottleneck="mamba2_cross_click2",
        patch_size=[8, 8, 8],
    )
    return network.eval()


def test_clicks_change_what_the_published_network_says():
    torch.manual_seed(0)
    network, inferer = small_network(), ClickInferer((8, 8, 8))
    x = torch.randn(1, 1, 8, 8, 16)
    with torch.no_grad():
        without, none = inferer(x, network), inferer(x, network, clicks=(torch.zeros(0, 3), torch.zeros(0)))
        clicked = inferer(x, network, clicks=given(((4, 4, 3), 0)))
        other = inferer(x, network, clicks=given(((4, 4, 3), 1)))
        moved = inferer(x, network, clicks=given(((1, 6, 3), 0)))
    assert torch.equal(without, none)
    assert not torch.allclose(without[..., :8], clicked[..., :8], atol=1e-4)
    assert not torch.allclose(clicked[..., :4], other[..., :4], atol=1e-4)
    assert not torch.allclose(clicked[..., :4], moved[..., :4], atol=1e-4)
    assert torch.equal(without[..., 12:], clicked[..., 12:]), "windows without the click stay as they were"


def test_a_mirrored_patient_gives_the_mirrored_answer():
    """Averaged over the left-right axis, image and clicks mirrored and labels exchanged change nothing but the side."""
    torch.manual_seed(1)
    network = small_network()
    inferer = ClickInferer((8, 8, 8), mirror_axes=(2,), exchange=LabelExchange([[1, 2]], axis=2))
    # One window: the weights of windows of an even edge are no mirror image of themselves.
    x = torch.randn(1, 1, 8, 8, 8)
    clicks = given(((4, 4, 3), 0), ((5, 7, 6), 1), ((1, 1, 2), 0))
    turned = mirrored_clicks(clicks, [2], x.shape[2:], inferer.exchange)
    with torch.no_grad():
        answer = inferer(x, network, clicks=clicks)
        mirrored = inferer(x.flip(4), network, clicks=turned)
    assert torch.allclose(mirrored.flip(4)[:, [0, 2, 1]], answer, atol=1e-4)
    assert not torch.allclose(mirrored.flip(4), answer, atol=1e-2)


def test_mirrored_clicks():
    points, labels = given(((0, 1, 2), 0), ((3, 4, 5), 1), ((0, 0, 0), -1))
    exchange = LabelExchange([[1, 2]], axis=2)
    turned, exchanged = mirrored_clicks((points, labels), (0, 2), (4, 5, 6), exchange)
    assert turned.tolist() == [[3, 1, 3], [0, 4, 0], [3, 0, 5]]
    assert exchanged.tolist() == [1, 0, -1], "padding stays padding"
    assert points[0].tolist() == [0, 1, 2], "the caller's clicks are not touched"
    again = mirrored_clicks((turned, exchanged), (0, 2), (4, 5, 6), exchange)
    assert torch.equal(again[0], points)
    assert torch.equal(again[1], labels)


def test_mirroring_goes_through_clicks_and_windows():
    clicks = given(((3, 3, 4), 1), ((6, 12, 15), 0))
    inferer = ClickInferer(PATCH, mirror_axes=(0, 1, 2), exchange={"pairs": [[1, 2]], "axis": 2})
    plain = ClickInferer(PATCH)(torch.zeros(1, 1, 9, 14, 17), BallNetwork(), clicks=clicks)
    found = inferer(torch.zeros(1, 1, 9, 14, 17), BallNetwork(), clicks=clicks)
    assert torch.equal(found[0].argmax(0), plain[0].argmax(0))


def test_only_windows_with_other_clicks_are_predicted_again():
    inferer, network, cache = ClickInferer(PATCH, step_ratio=1.0), BallNetwork(), {}
    x = torch.zeros(1, 1, 8, 10, 36)
    first = inferer(x, network, clicks=given(((1, 1, 1), 0)), cache=cache)
    assert network.patches == 3
    second = inferer(x, network, clicks=given(((1, 1, 1), 0), ((1, 1, 30), 1)), cache=cache)
    assert network.patches == 4
    assert second[0].argmax(0)[1, 1, 30] == 2
    undone = inferer(x, network, clicks=given(((1, 1, 1), 0)), cache=cache)
    assert network.patches == 5
    assert torch.equal(undone, first)
    assert torch.equal(first, inferer(x, network, clicks=given(((1, 1, 1), 0)), cache={}))


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="3-D"):
        ClickInferer((8, 8))
    with pytest.raises(ValueError, match="one volume"):
        ClickInferer(PATCH)(torch.zeros(2, 1, 8, 10, 12), BallNetwork())
    with pytest.raises(ValueError, match="clicks of one image"):
        ClickInferer(PATCH)(
            torch.zeros(1, 1, 8, 10, 12), BallNetwork(), clicks=(torch.zeros(2, 1, 3), torch.zeros(2, 1))
        )
