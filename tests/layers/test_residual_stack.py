"""Pre-normalized stacks: streams, rotation, stochastic depth, checkpointing, mixers."""

import copy

import pytest
import torch

from custom_networks.layers.convolved_attention import ConvolvedAttention
from custom_networks.layers.residual_stack import MIXERS, ResidualStack
from custom_networks.layers.rotary import rotate, sequence_rotation
from custom_networks.layers.vit_block import ViTStack

SMALL = {"mamba2": {"d_state": 8, "headdim": 4}, "attention": {"num_heads": 2, "head_dim": 6}}


def tokens(batch: int = 2, length: int = 7, width: int = 8) -> torch.Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rotate_residual", [True, False])
def test_two_streams_as_published(rotate_residual):
    torch.manual_seed(0)
    stack = ResidualStack(8, 3, drop_path=0.0, rotate_residual=rotate_residual).eval()
    rotation = sequence_rotation(7, 8, None)
    hidden, residual = tokens(), None
    for block in stack.blocks:
        hidden = rotate(hidden, rotation)
        if residual is None:
            residual = hidden
        else:
            residual = hidden + (rotate(residual, rotation) if rotate_residual else residual)
        hidden = block.mixer(block.norm(residual))
    expected = stack.norm(hidden + residual)
    torch.testing.assert_close(stack(tokens(), rotation), expected)
    ours = stack.streams(tokens(), rotation)
    torch.testing.assert_close(ours, (hidden, residual))
    torch.testing.assert_close(stack.streams(tokens(), rotation, 1)[1], rotate(tokens(), rotation))


def test_rates_of_stochastic_depth():
    stack = ResidualStack(8, 5, drop_path=0.2)
    rates = [block.drop_path.drop_prob for block in stack.blocks] + [stack.drop_path.drop_prob]
    assert rates == pytest.approx([0, 0, 0.05, 0.1, 0.15, 0.2])
    assert [b.drop_path.drop_prob for b in ViTStack(8, 3, 2, drop_path=0.2).blocks] == pytest.approx([0, 0.1, 0.2])


def test_dropped_samples_lose_the_whole_branch():
    torch.manual_seed(0)
    stack = ResidualStack(8, 1, drop_path=0.5)
    x = tokens(64)
    hidden, residual = stack.streams(x)
    torch.manual_seed(1)
    out = stack.join(hidden, residual)
    dropped = torch.isclose(out, stack.norm(residual)).all(-1).all(-1)
    doubled = torch.isclose(out, stack.norm(residual + 2 * hidden)).all(-1).all(-1)
    assert (dropped ^ doubled).all()
    assert 10 < dropped.sum() < 54


def test_half_precision_leaves_the_residual_stream_wide():
    stack = ResidualStack(8, 2, drop_path=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, residual = stack.streams(tokens().bfloat16(), sequence_rotation(7, 8, None))
    assert (hidden.dtype, residual.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_checkpointing_changes_nothing(mixer):
    torch.manual_seed(0)
    plain = ResidualStack(8, 3, mixer, SMALL.get(mixer), drop_path=0.3)
    saving = copy.deepcopy(plain)
    saving.checkpointing = True
    results = []
    for stack in (plain, saving):
        torch.manual_seed(5)
        x = tokens().requires_grad_()
        stack(x, sequence_rotation(7, 8, None)).square().sum().backward()
        results.append([x.grad, *(p.grad for p in stack.parameters())])
    torch.testing.assert_close(results[0], results[1])


def test_attention_takes_the_place_of_the_mixer_where_asked():
    stack = ResidualStack(8, 4, attention_blocks=[1, 3], attention_options=SMALL["attention"], norm="layer")
    assert [isinstance(block.mixer, ConvolvedAttention) for block in stack.blocks] == [False, True, False, True]
    assert isinstance(stack.blocks[0].norm, torch.nn.LayerNorm)
    with pytest.raises(ValueError, match="attention blocks"):
        ResidualStack(8, 2, attention_blocks=[2])
    with pytest.raises(ValueError, match="mixer must be one of"):
        ResidualStack(8, 2, "lstm")
    with pytest.raises(ValueError, match="norm must be one of"):
        ResidualStack(8, 2, norm="batch")


@pytest.mark.parametrize(("causal", "d_conv"), [(False, 3), (True, 3), (False, 0)])
def test_convolved_attention_written_out(causal, d_conv):
    torch.manual_seed(0)
    layer = ConvolvedAttention(8, 2, 5, d_conv, causal, qkv_bias=True, out_bias=True)
    x = tokens()
    qkv = layer.in_proj(x)
    if d_conv:
        padded = torch.nn.functional.pad(qkv, (0, 0, d_conv - 1, 0))
        kernel = layer.conv1d.weight[:, 0]
        qkv = sum(padded[:, i : i + 7] * kernel[:, i] for i in range(d_conv)) + layer.conv1d.bias
    q, k, v = (part.unflatten(-1, (2, 5)) for part in qkv.split(10, dim=-1))
    scores = torch.einsum("bihp,bjhp->bhij", q, k) / 5**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    mixed = torch.einsum("bhij,bjhp->bihp", scores.softmax(-1), v).flatten(2)
    torch.testing.assert_close(layer(x), layer.out_proj(mixed))


def test_vit_stack_checkpointing_and_partial_run():
    torch.manual_seed(0)
    plain = ViTStack(8, 2, 2)
    saving = copy.deepcopy(plain)
    saving.checkpointing = True
    grads = []
    for stack in (plain, saving):
        x = tokens().requires_grad_()
        stack(x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(plain.features(tokens(), 1), plain.blocks[0](tokens()))
    with pytest.raises(ValueError, match="3 heads do not divide"):
        ViTStack(8, 1, 3)


def test_mlp_after_every_mixer():
    torch.manual_seed(0)
    stack = ResidualStack(8, 2, drop_path=0.0, mlp_ratio=2.0).eval()
    tokens = torch.randn(2, 5, 8)
    stream = tokens
    for block in stack.blocks:
        stream = stream + block.mixer(block.norm(stream))
        stream = stream + block.mlp(block.mlp_norm(stream))
    torch.testing.assert_close(stack.features(tokens), stream)
    torch.testing.assert_close(stack(tokens), stack.norm(stream))
    rates = ResidualStack(8, 3, drop_path=0.2, mlp_ratio=2.0).blocks
    assert [block.mixer_drop_path.drop_prob for block in rates] == pytest.approx([0, 0.1, 0.2])


def test_taps_are_the_features_after_each_block():
    torch.manual_seed(0)
    stack = ResidualStack(8, 3, drop_path=0.0).eval()
    tokens = torch.randn(1, 5, 8)
    for tap, blocks in zip(stack.taps(tokens, [0, 2]), (1, 3), strict=True):
        assert torch.equal(tap, stack.features(tokens, blocks))
        torch.testing.assert_close(tap, sum(stack.streams(tokens, blocks=blocks)))
    assert torch.equal(stack.norm(stack.features(tokens)), stack(tokens))
