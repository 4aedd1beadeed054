"""Stacks and macro-blocks: orders of scans, directions, kept tokens, frames, stochastic depth, checkpointing."""

import pytest
import torch

from custom_networks.layers.global_line_block import GlobalLineBlock
from custom_networks.layers.mamba3d import Mamba3DBlock
from custom_networks.layers.mamba_stack import MambaStack
from custom_networks.layers.scan_orders import KeptOrders, VolumeOrders
from custom_networks.layers.sequence_mixers import MIXERS, DirectedMixer

SIZE = (3, 4, 2)


def slow_block(block: Mamba3DBlock, volume: torch.Tensor) -> torch.Tensor:
    """The definition by whole permutations: permute, run forwards and backwards, permute back."""
    for name, axes in (("hwl", (2, 3, 1)), ("lwh", (1, 3, 2)), ("lhw", (1, 2, 3))):
        moved = volume.permute(0, *axes, 4)
        tokens = moved.flatten(1, 3)
        tokens = getattr(block, name)(tokens)
        tokens = getattr(block, f"{name}_reverse")(tokens)
        back = [0] + [1 + sorted(range(3), key=lambda i: axes[i])[i] for i in range(3)] + [4]
        volume = tokens.view(moved.shape).permute(back)
    return volume


def make(depth=1, **options):
    torch.manual_seed(0)
    return Mamba3DBlock(6, depth, **options)


def test_block_reads_the_three_orders():
    block, volume = make(2), torch.randn(2, *SIZE, 6)
    ours = block(volume.flatten(1, 3), VolumeOrders(SIZE)).view(volume.shape)
    torch.testing.assert_close(ours, slow_block(block, volume), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_reverse_is_flip_run_flip(mixer):
    torch.manual_seed(0)
    ahead, behind = DirectedMixer(8, mixer), DirectedMixer(8, mixer, reverse=True)
    behind.load_state_dict(ahead.state_dict())
    tokens = torch.randn(2, 9, 8)
    torch.testing.assert_close(behind(tokens), ahead(tokens.flip(1)).flip(1), rtol=1e-5, atol=1e-6)
    if mixer in ("mamba", "mamba2"):
        assert not torch.allclose(behind(tokens), ahead(tokens), atol=1e-4)


def test_keeping_every_token_is_the_whole_volume():
    block, tokens = make(), torch.randn(2, 24, 6)
    orders = KeptOrders.of(torch.ones(1, 24, dtype=torch.bool), SIZE, 2)
    torch.testing.assert_close(block(tokens, orders), block(tokens, VolumeOrders(SIZE)), rtol=1e-6, atol=1e-7)


def test_kept_tokens_of_each_sample_keep_their_order():
    torch.manual_seed(1)
    keep = torch.stack([torch.randperm(24) < 11 for _ in range(2)])
    orders = KeptOrders.of(keep, SIZE, 2)
    cells = torch.arange(24).view(1, 24, 1).expand(2, -1, 6)
    rank = {
        "hwl": torch.arange(24).view(4, 2, 3).permute(2, 0, 1).flatten(),
        "lwh": torch.arange(24).view(3, 2, 4).permute(0, 2, 1).flatten(),
        "lhw": torch.arange(24),
    }
    tokens = orders.take(cells)
    assert torch.equal(tokens[1, :, 0], keep[1].nonzero().squeeze(1))
    for step in ("lhw_to_hwl", "hwl_to_lwh", "lwh_to_lhw"):
        tokens = getattr(orders, step)(tokens)
        places = rank[step[-3:]][tokens[..., 0]]
        assert (places.diff(dim=1) > 0).all(), step
    assert torch.equal(tokens, orders.take(cells))
    assert torch.equal(orders.put(tokens, torch.full((2, 24, 6), -1))[..., 0] >= 0, keep)


def test_samples_must_keep_equally_many_tokens():
    keep = torch.ones(2, 24, dtype=torch.bool)
    keep[0, 3] = False
    with pytest.raises(ValueError, match=r"same number of tokens, got \[23, 24\]"):
        KeptOrders.of(keep, SIZE, 2)


def test_frames_do_not_mix():
    block, volume = make(), torch.randn(2, *SIZE, 6)
    whole = block.forward_frames(volume)
    alone = block.forward_frames(volume[:, 1:2])
    torch.testing.assert_close(whole[:, 1:2], alone, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(whole[1:], block.forward_frames(volume[1:]), rtol=1e-6, atol=1e-7)


def test_checkpointing_changes_nothing_but_memory():
    plain, saving, tokens = make(2), make(2, checkpointing=True), torch.randn(1, 24, 6)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        expected = plain(tokens, VolumeOrders(SIZE))
        plainly = sum(kept)
        kept.clear()
        y = saving(tokens, VolumeOrders(SIZE))
    assert sum(kept) < plainly / 5
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_stochastic_depth_drops_what_a_layer_adds_and_never_the_sample():
    torch.manual_seed(0)
    stack, tokens = MambaStack(6, drop_path=0.5), torch.randn(64, 5, 6)
    full = stack.eval()(tokens) - tokens
    added = stack.train()(tokens) - tokens
    dropped = added.flatten(1).abs().amax(1) < 1e-6
    assert 10 < dropped.sum() < 54
    torch.testing.assert_close(added[~dropped], 2 * full[~dropped], rtol=1e-4, atol=1e-5)


def test_output_projections_start_smaller_in_a_tall_tower():
    torch.manual_seed(0)
    low, tall = (
        MambaStack(64, tower_layers=layers).layers[0].mixer.core.out_proj.weight.detach() for layers in (1, 36)
    )
    assert float(tall.std()) == pytest.approx(float(low.std()) / 6, rel=0.05)
    # Kaiming-uniform with a = sqrt(5) of 128 inputs.
    assert low.abs().max() <= 128**-0.5
    assert low.abs().max() > 0.95 * 128**-0.5


def test_stream_is_float32_under_autocast_and_stacks_leave_float16():
    stack, tokens = MambaStack(6, 2), 300 * torch.randn(2, 7, 6)
    exact = stack(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = stack(tokens.bfloat16())
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(stack(tokens), exact)
    assert stack.double()(tokens.double()).dtype == torch.float64


def test_lines_without_a_global_token_stay_as_they_are():
    torch.manual_seed(0)
    block = GlobalLineBlock(6, (4, 5, 5), [[0, 3], [0, 2, 4], [0, 4]])
    volume = torch.randn(2, 4, 5, 5, 6)
    y = block(volume)
    same = (y == volume).all(-1).all(0)
    # A cell lies on no scanned line if none of its indices is listed.
    assert same[1:3, [1, 3], 1:4].all()
    assert same.sum() == 2 * 2 * 3


def test_unknown_names():
    with pytest.raises(ValueError, match="mixer must be one of"):
        MambaStack(8, mixer="attention")
    with pytest.raises(ValueError, match="norm must be one of"):
        MambaStack(8, norm="batch")
    with pytest.raises(ValueError, match="8 heads do not divide 20 channels"):
        MambaStack(10, mixer="mamba2")
