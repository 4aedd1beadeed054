import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator

from custom_apps.seg.sliding_window import PatchwiseInferer


def two_heads(patches):
    return torch.cat([patches[:, :1], 2 * patches[:, :1] + 1], dim=1)


def image(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(5, 4, 3), (8, 9, 7), (17, 11, 13)])
def test_a_pointwise_network_is_reproduced(size):
    """Blending must not change what every window agrees on, whether the image is smaller or larger than a patch."""
    x = image(2, 1, *size)
    assert torch.allclose(PatchwiseInferer((8, 6, 7))(x, two_heads), two_heads(x), atol=1e-5)


def test_batches_of_windows_give_the_same_as_single_ones():
    convolution = torch.nn.Conv3d(1, 3, 3, padding=1)
    x = image(2, 1, 13, 10, 9)
    with torch.no_grad():
        one, many = (PatchwiseInferer((6, 6, 6), sw_batch_size=n)(x, convolution) for n in (1, 5))
    assert one.shape == (2, 3, 13, 10, 9)
    assert torch.allclose(one, many, atol=1e-6)


def test_a_2d_patch_predicts_a_volume_slice_by_slice():
    x = image(1, 2, 4, 11, 9)
    convolution = torch.nn.Conv2d(2, 3, 3, padding=1)
    inferer = PatchwiseInferer((6, 8), sw_batch_size=3, mirror_axes=(1,))
    with torch.no_grad():
        volume = inferer(x, convolution)
        slices = torch.stack([inferer(x[:, :, z], convolution) for z in range(4)], dim=2)
    assert volume.shape == (1, 3, 4, 11, 9)
    assert torch.allclose(volume, slices, atol=1e-6)


def test_of_a_deep_supervision_list_the_first_entry_counts():
    x = image(1, 1, 9, 9)
    found = PatchwiseInferer((8, 8))(x, lambda p: [two_heads(p), two_heads(p)[..., ::2, ::2]])
    assert torch.allclose(found, two_heads(x), atol=1e-5)


def test_mirroring_goes_through_the_windows():
    x = image(1, 1, 9, 12)
    ramp = torch.arange(8.0)
    plain = PatchwiseInferer((8, 8))(x, lambda p: p * 0 + ramp)
    mirrored = PatchwiseInferer((8, 8), mirror_axes=(1,))(x, lambda p: p * 0 + ramp)
    assert not torch.allclose(plain, mirrored)
    assert torch.allclose(mirrored, torch.full_like(x, 3.5), atol=1e-5)


def test_exchange_may_be_a_dictionary():
    inferer = PatchwiseInferer((4, 4), mirror_axes=(1,), exchange={"pairs": [[1, 2]], "axis": 1})
    assert inferer.exchange.order(3) == [0, 2, 1]


def test_half_precision_sums_stay_close_and_finite():
    x = image(1, 1, 40, 33)
    found = PatchwiseInferer((32, 32), dtype="float16")(x, two_heads)
    assert found.dtype == torch.float16
    error = (found.float() - two_heads(x)).abs()
    assert error.mean() < 2e-3
    assert error.max() < 0.1, "in the corners weights are close to the smallest number of half precision"


def test_large_images_are_summed_on_the_cpu():
    inferer = PatchwiseInferer((4, 4), cpu_thresh=50)
    assert inferer._target_device(torch.zeros(1, 1, 8, 8, device="meta")) == "cpu"
    assert inferer._target_device(torch.zeros(1, 1, 7, 7, device="meta")).type == "meta"


def test_meta_tensors_are_taken_as_plain_ones():
    x = image(1, 1, 9, 9)
    found = PatchwiseInferer((8, 8))(MetaTensor(x), two_heads)
    assert type(found) is torch.Tensor


def test_it_serves_a_monai_evaluator():
    batch = {"image": image(1, 1, 9, 10, 11)}
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    evaluator = SupervisedEvaluator("cpu", [batch], network, inferer=PatchwiseInferer((8, 8, 8)), decollate=False)
    evaluator.run()
    assert evaluator.state.output["pred"].shape == (1, 2, 9, 10, 11)


def test_arguments_go_on_to_the_network():
    x = image(1, 1, 9, 9)
    found = PatchwiseInferer((8, 8))(x, lambda p, factor, shift=0: factor * p + shift, 3, shift=1)
    assert torch.allclose(found, 3 * x + 1, atol=1e-5)


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="mirror_axes"):
        PatchwiseInferer((4, 4), mirror_axes=(2,))
    with pytest.raises(ValueError, match="dtype"):
        PatchwiseInferer((4, 4), dtype="int8")
    with pytest.raises(ValueError, match="need an image"):
        PatchwiseInferer((4, 4, 4))(torch.zeros(1, 1, 8, 8), two_heads)
    with pytest.raises(ValueError, match="the network returned"):
        PatchwiseInferer((4, 4))(torch.zeros(1, 1, 8, 8), lambda p: p[..., ::2, ::2])
    with pytest.raises(ValueError, match="the network returned dict"):
        PatchwiseInferer((4, 4))(torch.zeros(1, 1, 8, 8), lambda p: {"pred": p})
