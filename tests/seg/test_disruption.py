import pytest
import torch

from custom_apps.seg.disruption import Disruption, RandDisruptd, hidden_blocks, lower_resolution


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_share_of_whole_blocks_of_the_batch_is_hidden():
    mask = hidden_blocks((32, 48, 64), 4, 16, 0.3, generator())
    assert mask.shape == (4, 1, 32, 48, 64)
    blocks = mask.unfold(2, 16, 16).unfold(3, 16, 16).unfold(4, 16, 16).flatten(-3).float().mean(-1)
    assert set(blocks.unique().tolist()) == {0.0, 1.0}, "a block is hidden whole or not at all"
    assert blocks.sum() == round(0.3 * blocks.numel())
    assert len({float(image.sum()) for image in blocks}) > 1, "the share of one image varies"


@pytest.mark.parametrize("size", [(40, 56, 40), (5, 33, 17), (50, 20)])
def test_blocks_may_be_cut(size):
    mask = hidden_blocks(size, 2, 16, 0.5, generator())
    assert mask.shape == (2, 1, *size)
    assert 0 < mask.float().mean() < 1


def test_the_first_voxel_of_four_stands_for_them():
    ramp = torch.arange(16.0).view(1, 1, 16).expand(1, 1, 16, 16)
    coarse = lower_resolution(ramp, 4)
    assert coarse[0, 0, 3].tolist() == [0.0] * 4 + [4.0] * 4 + [8.0] * 4 + [12.0] * 4
    assert lower_resolution(torch.zeros(1, 1, 3, 9, 10), 4).shape == (1, 1, 3, 9, 10)


def test_all_of_it_in_the_published_order():
    image = torch.zeros(2, 2, 64, 64, 32)
    disrupted, hidden = Disruption()(image, generator())
    assert not image.any(), "the clean image stays"
    assert (disrupted[hidden.expand_as(image)] == -2).all()
    seen = disrupted[~hidden.expand_as(image)]
    assert seen.mean() == pytest.approx(0, abs=0.02)
    assert seen.var() == pytest.approx(0.1, abs=0.01)
    # The noise was added before the resolution was lowered: cubes of four voxels have one value.
    cubes = disrupted.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4).flatten(-3)
    assert (cubes == cubes[..., :1]).all()
    assert hidden.float().mean() == pytest.approx(0.3, abs=0.02)


def test_each_kind_alone():
    image = torch.randn(1, 1, 32, 32, generator=generator(1))
    noisy, hidden = Disruption("denoise")(image, generator())
    assert not hidden.any()
    assert (noisy - image).var() == pytest.approx(0.1, rel=0.15)
    assert torch.equal(Disruption("superres")(image)[0], lower_resolution(image, 4))
    masked, hidden = Disruption("mask", share=0.5, block=8)(image, generator())
    assert torch.equal(masked[~hidden], image[~hidden])
    assert hidden.float().mean() == 0.5


def test_seeds_decide():
    image = torch.randn(1, 1, 20, 20)
    first, again, other = (Disruption()(image, generator(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "wrong", [{"kind": "blur"}, {"noise_variance": -1}, {"share": 1.5}, {"factor": 0}, {"block": 0}]
)
def test_values_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"disruption must be|not usable"):
        Disruption(**wrong)


def test_dictionary_with_clean_image_and_blocks():
    item = {"image": torch.randn(2, 20, 24), "label": torch.zeros(1, 20, 24), "case": "a"}
    transform = RandDisruptd(disruption=Disruption(share=0.4, block=4))
    transform.set_random_state(seed=5)
    result = transform(item)
    assert set(result) == {"image", "target", "hidden", "case"}
    assert torch.equal(result["target"], item["image"])
    assert result["hidden"].shape == (1, 20, 24)
    transform.set_random_state(seed=5)
    assert torch.equal(transform(item)["image"], result["image"])
    assert not torch.equal(transform(item)["image"], result["image"])
