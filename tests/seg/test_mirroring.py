import pytest
import torch

from custom_apps.seg.mirroring import LabelExchange, mirror_combinations, mirrored_logits


def test_all_combinations_of_axes():
    assert mirror_combinations([]) == [()]
    assert mirror_combinations([0, 2]) == [(), (0,), (2,), (0, 2)]
    assert len(mirror_combinations([0, 1, 2])) == 8


def test_an_equivariant_network_gives_the_same_as_without_mirroring():
    patches = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(mirrored_logits(lambda x: 2 * x, patches, (0, 1, 2)), 2 * patches, atol=1e-6)


def test_logits_are_averaged_after_flipping_back():
    patches = torch.arange(4.0).reshape(1, 1, 4)
    ramp = torch.tensor([0.0, 1.0, 2.0, 3.0])
    found = mirrored_logits(lambda x: x * 0 + ramp, patches, (0,))
    assert torch.equal(found[0, 0], torch.full((4,), 1.5))


def test_left_and_right_are_exchanged_only_when_their_axis_is_flipped():
    """A network that calls everything in the left half label 1, in the right half label 2."""

    def sides(x):
        half = x.shape[-1] // 2
        logits = torch.zeros(x.shape[0], 3, *x.shape[2:])
        logits[:, 1, ..., :half] = 1
        logits[:, 2, ..., half:] = 1
        return logits

    patches = torch.zeros(1, 1, 4, 6)
    plain = sides(patches)
    exchange = LabelExchange([[1, 2]], axis=1)
    assert torch.equal(mirrored_logits(sides, patches, (0, 1), exchange), plain)
    assert not torch.equal(mirrored_logits(sides, patches, (0, 1)), plain)
    assert torch.equal(mirrored_logits(sides, patches, (0,), exchange), plain)


@pytest.mark.parametrize("pairs", [[[1, 2], [2, 3]], [[0, 1]], [[1]], [[1, 1]]])
def test_bad_pairs_are_refused(pairs):
    with pytest.raises(ValueError, match="pairs of different foreground labels"):
        LabelExchange(pairs, 0)


def test_a_pair_beyond_the_heads_is_refused():
    with pytest.raises(ValueError, match="only 3 heads"):
        mirrored_logits(lambda x: x, torch.zeros(1, 3, 4), (0,), LabelExchange([[1, 5]], 0))
