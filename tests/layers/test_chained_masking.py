"""Chained masks: published counts, one draw or one a sample, repeatable draws."""

import pytest
import torch

from custom_networks.layers.chained_masking import ChainedMasking


@pytest.mark.parametrize(
    ("grid", "time_chain", "chain", "cells", "masked", "patches"),
    [
        ((64, 7, 7), 4, 1, 784, 627, 2508),
        ((32, 28, 28), 2, 4, 784, 627, 20064),
        ((64, 7, 7), 8, 1, 392, 313, 2504),
        ((64, 7, 7), 32, 1, 98, 78, 2496),
    ],
    ids=["EchoNet p16", "EchoNet p4", "CAMUS", "BUV"],
)
def test_published_counts(grid, time_chain, chain, cells, masked, patches):
    masking = ChainedMasking(grid, 0.8, time_chain, chain)
    drawn = masking.draw(3)
    assert (masking.num_cells, masking.num_masked) == (cells, masked)
    assert drawn.shape == (1, cells)
    assert drawn.sum() == masked
    spread = masking.spread(drawn)
    assert spread.shape == (1, *grid)
    assert spread.sum() == patches


def test_a_chain_hides_neighbors_together():
    masking = ChainedMasking((6, 4, 4), 0.5, 3, 2)
    mask = masking.spread(masking.draw(1))[0]
    for frame, row, column in [(0, 0, 0), (3, 2, 0), (3, 0, 2)]:
        assert len(mask[frame : frame + 3, row : row + 2, column : column + 2].unique()) == 1


def test_draws_are_of_each_sample_without_chains_and_repeat_with_a_generator():
    masking = ChainedMasking((4, 3, 3), 0.75)
    first = masking.draw(2, torch.Generator().manual_seed(1))
    again = masking.draw(2, torch.Generator().manual_seed(1))
    assert first.shape == (2, 36)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert first.sum(1).tolist() == [27, 27]
    torch.manual_seed(3)
    free = masking.draw(2)
    torch.manual_seed(3)
    assert torch.equal(free, masking.draw(2))
    assert not torch.equal(free, masking.draw(2))


def test_chained_draws_a_sample_need_chains_that_divide():
    masking = ChainedMasking((6, 4, 4), 0.5, 3, 2, per_sample=True)
    mask = masking.spread(masking.draw(2))
    assert mask.flatten(1).sum(1).tolist() == [48, 48]
    assert not torch.equal(mask[0], mask[1])
    with pytest.raises(ValueError, match="divide the patch grid"):
        ChainedMasking((5, 4, 4), 0.5, 3, 2, per_sample=True)


def test_ratio_zero_hides_nothing_and_bad_arguments_are_refused():
    masking = ChainedMasking((2, 2, 2), 0.05)
    assert masking.num_masked == 0
    assert not masking.spread(masking.draw(1)).any()
    with pytest.raises(ValueError, match=r"mask_ratio must be in \[0, 1\)"):
        ChainedMasking((2, 2, 2), 1.0)
    with pytest.raises(ValueError, match="chains must be at least 1"):
        ChainedMasking((2, 2, 2), 0.5, 0)
    with pytest.raises(ValueError, match=r"expected \(rows, 8\)"):
        masking.spread(torch.zeros(1, 9, dtype=torch.bool))
