"""Mamba-2 mixers: every option against plain operations, and the bidirectional one against flipped data."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from custom_networks.layers.bidirectional_mamba2 import BidirectionalMamba2
from custom_networks.layers.mamba2 import Mamba2


def _norm(mixer: Mamba2, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    if mixer.norm is None:
        return y * F.silu(z)
    before = mixer.norm.norm_before_gate
    y = y if before else y * F.silu(z)
    y = y / torch.sqrt(y.square().mean(-1, keepdim=True) + 1e-5) * mixer.norm.weight
    return y * F.silu(z) if before else y


def _direction(mixer: Mamba2, xbc, dt, suffix: str = "") -> torch.Tensor:
    """Output (B, L, D) of a causal scan before gate and norm, step by step."""
    conv, dt_bias, A_log = (getattr(mixer, name + suffix) for name in ("conv1d", "dt_bias", "A_log"))
    D = getattr(mixer, "D" + suffix, None)
    D = mixer.D if D is None else D
    batch, length = xbc.shape[:2]
    xbc = F.silu(conv(xbc.transpose(1, 2))[..., :length]).transpose(1, 2)
    bc = mixer.ngroups * mixer.d_state
    x, B, C = xbc.split([mixer.d_inner, bc, bc], dim=-1)
    x = x.reshape(batch, length, mixer.heads, mixer.headdim)
    per_group = mixer.heads // mixer.ngroups
    B, C = (v.reshape(batch, length, mixer.ngroups, -1).repeat_interleave(per_group, 2) for v in (B, C))
    step = F.softplus(dt + dt_bias).clamp(*mixer.dt_limit)
    D = D.reshape(mixer.heads, -1)
    state, outputs = x.new_zeros(batch, mixer.heads, mixer.headdim, mixer.d_state), []
    for t in range(length):
        decay = torch.exp(-step[:, t] * A_log.exp())
        state = decay[..., None, None] * state + (step[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
        outputs.append((state * C[:, t, :, None]).sum(-1) + D * x[:, t])
    return torch.stack(outputs, 1).flatten(2)


def _plain(mixer: Mamba2, tokens: torch.Tensor) -> torch.Tensor:
    gate, value, z, xbc, dt = mixer.in_proj(tokens).split(mixer._widths(), dim=-1)
    y = _norm(mixer, _direction(mixer, xbc, dt), z)
    return mixer.out_proj(torch.cat([F.silu(gate) * value, y], -1))


def _plain_bidirectional(mixer: BidirectionalMamba2, tokens: torch.Tensor) -> torch.Tensor:
    gate, value, z, xbc, dt, dt_reverse = mixer.in_proj(tokens).split(mixer._widths(), dim=-1)
    ahead = _norm(mixer, _direction(mixer, xbc, dt), z)
    behind = _norm(mixer, _direction(mixer, xbc.flip(1), dt_reverse.flip(1), "_reverse").flip(1), z)
    y = (ahead + behind) / (2 if mixer.halve else 1)
    return mixer.out_proj(torch.cat([F.silu(gate) * value, y], -1))


_OPTIONS = [
    {"headdim": 4},
    {"heads": 2, "ngroups": 2, "D_has_hdim": True, "norm_before_gate": True},
    {"heads": 4, "rmsnorm": False},
    {"heads": 2, "rmsnorm": False, "d_ssm": 6, "bias": True, "conv_bias": False},
    {"headdim": 2, "d_ssm": 4, "d_conv": 3},
    {"headdim": None, "dt_limit": (0.02, 0.05)},
]


@pytest.mark.parametrize("length", [1, 41])
@pytest.mark.parametrize("both", [False, True], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("options", _OPTIONS, ids=str)
def test_options_against_plain_operations(options, both, length):
    torch.manual_seed(0)
    mixer = (BidirectionalMamba2 if both else Mamba2)(6, d_state=5, **options).double()
    for parameter in mixer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    tokens = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, length, 6, dtype=torch.float64)
    plain = _plain_bidirectional if both else _plain

    def outcome(function):
        y = function(tokens)
        return [y, *torch.autograd.grad((y * weight).sum(), [tokens, *mixer.parameters()], allow_unused=True)]

    for ours, theirs in zip(outcome(mixer), outcome(lambda x: plain(mixer, x)), strict=True):
        if ours is None:
            assert theirs is None or not theirs.any()
            continue
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11 * max(1.0, theirs.abs().max().item()))


def test_a_skip_weight_of_the_reverse_direction_is_used_when_there_is_one():
    torch.manual_seed(0)
    shared, own = BidirectionalMamba2(4, heads=2), BidirectionalMamba2(4, heads=2, own_skip=True)
    own.load_state_dict(shared.state_dict() | {"D_reverse": shared.D.detach().clone()})
    tokens = torch.randn(1, 9, 4)
    torch.testing.assert_close(own(tokens), shared(tokens))
    own.D_reverse.data += 1
    assert not torch.allclose(own(tokens), shared(tokens), atol=1e-3)


def test_heads_by_count_or_by_width_are_the_same_mixer():
    torch.manual_seed(0)
    by_count, by_width = Mamba2(8, heads=4, d_state=3), Mamba2(8, headdim=4, d_state=3)
    by_width.load_state_dict(by_count.state_dict())
    tokens = torch.randn(1, 10, 8)
    assert torch.equal(by_count(tokens), by_width(tokens))


def test_steps_start_in_their_range():
    mixer = BidirectionalMamba2(32, headdim=1, dt_range=(0.01, 0.02))
    for bias in (mixer.dt_bias, mixer.dt_bias_reverse):
        assert 0.0099 < F.softplus(bias).min() < F.softplus(bias).max() < 0.0201
    assert mixer.A_log_reverse.min() >= 0
    assert mixer.A_log_reverse.max() <= math.log(16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"headdim": 5}, "headdim 5 does not divide the 16 channels"),
        ({"heads": 3}, "3 heads do not divide 16 channels"),
        ({"headdim": 4, "ngroups": 3}, "3 groups do not divide 4 heads"),
        ({"heads": 2, "d_ssm": 18}, "d_ssm must be between 1 and expand"),
        ({"heads": 2, "d_ssm": 0}, "d_ssm must be between 1"),
    ],
)
def test_what_does_not_divide(options, message):
    with pytest.raises(ValueError, match=message):
        Mamba2(8, **options)
