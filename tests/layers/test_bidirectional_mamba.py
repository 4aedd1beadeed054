"""The bidirectional Mamba mixer against two causal ones on flipped data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from custom_networks.layers.bidirectional_mamba import BidirectionalMamba
from custom_networks.layers.mamba import Mamba


def _randomized(mixer: torch.nn.Module) -> torch.nn.Module:
    """The mixer in float64 with every parameter moved away from its initial value."""
    generator = torch.Generator().manual_seed(3)
    mixer = mixer.double()
    for parameter in mixer.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return mixer


def _direction(mixer: BidirectionalMamba, u: torch.Tensor, z: torch.Tensor, suffix: str) -> torch.Tensor:
    """Gated output (B, L, D) of one causal direction of "v2", written as in the paper with plain operations."""
    conv, x_proj, dt_proj, A_log, D = (
        getattr(mixer, name + suffix) for name in ("conv1d", "x_proj", "dt_proj", "A_log", "D")
    )
    length = u.shape[1]
    x = F.silu(conv(u.transpose(1, 2))[..., :length]).transpose(1, 2)
    rank, states = dt_proj.in_features, A_log.shape[1]
    low, B, C = x_proj(x).split([rank, states, states], dim=-1)
    return _scan(x, F.softplus(dt_proj(low)), -A_log.exp(), B, C, D, z)


def _scan(x, step, A, B, C, D, z):
    state, outputs = x.new_zeros(x.shape[0], *A.shape), []
    for t in range(x.shape[1]):
        decay = torch.exp(step[:, t, :, None] * A)
        state = decay * state + (step[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1) + D * x[:, t])
    return torch.stack(outputs, 1) * F.silu(z)


def _v2_by_flipping(mixer: BidirectionalMamba, tokens: torch.Tensor) -> torch.Tensor:
    u, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    ahead = _direction(mixer, u, z, "")
    behind = _direction(mixer, u.flip(1), z.flip(1), "_reverse").flip(1)
    return mixer.out_proj((ahead + behind) / (2 if mixer.halve else 1))


def _v1_by_flipping(mixer: BidirectionalMamba, tokens: torch.Tensor) -> torch.Tensor:
    u, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    x = F.silu(mixer.conv1d(u.transpose(1, 2))[..., : u.shape[1]]).transpose(1, 2)
    low, B, C = mixer.x_proj(x).split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    step = F.softplus(mixer.dt_proj(low))
    ahead = _scan(x, step, -mixer.A_log.exp(), B, C, mixer.D, z)
    flipped = (v.flip(1) for v in (x, step, B, C, z))
    x, step, B, C, z = flipped
    behind = _scan(x, step, -mixer.A_log_reverse.exp(), B, C, mixer.D, z).flip(1)
    return mixer.out_proj(ahead + behind)


@pytest.mark.parametrize("length", [1, 3, 67])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "v2"},
        {"kind": "v2", "halve": False, "d_conv": 3, "d_state": 5, "expand": 3, "dt_rank": 2},
        {"kind": "v2", "bias": True, "conv_bias": False},
        {"kind": "v1"},
        {"kind": "v1", "halve": False, "d_conv": 2},
    ],
    ids=str,
)
def test_equals_two_causal_scans_on_flipped_data(options, length):
    torch.manual_seed(0)
    mixer = _randomized(BidirectionalMamba(6, **options))
    by_flipping = _v2_by_flipping if mixer.kind == "v2" else _v1_by_flipping
    tokens = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, length, 6, dtype=torch.float64)

    def outcome(function):
        y = function(tokens)
        return [y, *torch.autograd.grad((y * weight).sum(), [tokens, *mixer.parameters()])]

    for ours, theirs in zip(outcome(mixer), outcome(lambda x: by_flipping(mixer, x)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11 * theirs.abs().max().item())


def test_reversed_tokens_with_exchanged_directions_give_the_reversed_output():
    torch.manual_seed(0)
    mixer = BidirectionalMamba(8)
    other = BidirectionalMamba(8)
    state = mixer.state_dict()
    exchanged = {}
    for name in state:
        root, dot, rest = name.partition(".")
        if root not in ("in_proj", "out_proj"):
            root = root.removesuffix("_reverse") if root.endswith("_reverse") else root + "_reverse"
        exchanged[root + dot + rest] = state[name]
    other.load_state_dict(exchanged)
    tokens = torch.randn(2, 21, 8)
    torch.testing.assert_close(other(tokens.flip(1)).flip(1), mixer(tokens))


def test_layer_scale_multiplies_the_output_and_learns():
    torch.manual_seed(0)
    plain, scaled = BidirectionalMamba(4), BidirectionalMamba(4, layer_scale=0.1)
    scaled.load_state_dict(plain.state_dict() | {"scale": torch.tensor([1.0, 2.0, 3.0, 4.0])})
    tokens = torch.randn(1, 9, 4)
    y = scaled(tokens)
    torch.testing.assert_close(y, plain(tokens) * scaled.scale)
    y.sum().backward()
    assert scaled.scale.grad.abs().min() > 0
    assert torch.equal(BidirectionalMamba(4, layer_scale=0.1).scale.detach(), torch.full((4,), 0.1))


def test_both_directions_start_with_the_published_step_sizes():
    torch.manual_seed(0)
    mixer = BidirectionalMamba(64, dt_range=(0.01, 0.02))
    for layer in (mixer.dt_proj, mixer.dt_proj_reverse):
        steps = F.softplus(layer.bias)
        assert steps.min() >= 0.01 * (1 - 1e-4)
        assert steps.max() <= 0.02 * (1 + 1e-4)
    assert not torch.equal(mixer.dt_proj.bias, mixer.dt_proj_reverse.bias)
    assert not torch.equal(mixer.conv1d.weight, mixer.conv1d_reverse.weight)
    assert not torch.equal(mixer.x_proj.weight, mixer.x_proj_reverse.weight)


def test_every_parameter_gets_a_gradient():
    for kind in ("v1", "v2"):
        mixer = BidirectionalMamba(5, kind=kind)
        mixer(torch.randn(2, 7, 5)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mixer.parameters())


def test_names_of_a_second_direction():
    v1, v2 = (set(BidirectionalMamba(4, kind=kind).state_dict()) for kind in ("v1", "v2"))
    causal = set(Mamba(4).state_dict())
    assert v1 == causal | {"A_log_reverse"}
    own = {name for name in causal if name.partition(".")[0] not in ("in_proj", "out_proj")}
    assert v2 == causal | {name.replace(name.partition(".")[0], name.partition(".")[0] + "_reverse") for name in own}


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of v1, v2, got 'v3'"):
        BidirectionalMamba(4, kind="v3")
