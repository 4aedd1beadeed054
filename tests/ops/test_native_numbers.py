"""The compiled operators where they cut, convert and share work: numbers against the reference in float64."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F

from custom_networks.ops import (
    _native,
    _native_build,
    _native_causal_conv,
    _native_library,
    _reference,
)

usable, reason = _native.is_available()
pytestmark = pytest.mark.skipif(not usable, reason=reason)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return ((ours.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-30)).item()


def scan_inputs(batch=2, channels=40, length=130, states=5, groups=1, dtype=torch.float32, seed=0):
    """u, delta, A, B, C, D, z, delta_bias as the public function takes them, channel-last in memory."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows = [normal(batch, length, channels).to(dtype).transpose(1, 2) for _ in range(3)]
    B, C = (normal(batch, length, groups, states).to(dtype).permute(0, 2, 3, 1) for _ in range(2))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    A, D, bias = (x.to(wide) for x in (-normal(channels, states).exp(), normal(channels), normal(channels) - 3))
    return [rows[0], rows[1], A, B, C, D, rows[2], bias]


def with_gradients(function, inputs, *settings):
    """Outputs, and gradients for random gradients of all outputs, by position."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves, *settings)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, leaves, gradients)]


def compare(ours, exact, tolerance):
    for position, (found, expected) in enumerate(zip(ours, exact, strict=True)):
        assert error(found, expected) <= tolerance, f"output or gradient {position}"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 200])
def test_selective_scan_at_the_ends_of_chunks(length, reverse):
    inputs = scan_inputs(length=length, states=9)
    ours = with_gradients(_native.selective_scan, inputs, True, True, reverse)
    exact = with_gradients(_reference.selective_scan, [x.double() for x in inputs], True, True, reverse)
    compare(ours, exact, 2e-6)


@pytest.mark.parametrize("states", [1, 3, 8, 16, 29, 64])
def test_selective_scan_in_tiles_of_states(states):
    inputs = scan_inputs(channels=18, length=70, states=states)
    ours = with_gradients(_native.selective_scan, inputs, True, True)
    exact = with_gradients(_reference.selective_scan, [x.double() for x in inputs], True, True)
    compare(ours, exact, 2e-6)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (15, 1), (17, 1), (34, 2), (33, 3), (6, 6)])
def test_selective_scan_with_tails_of_channels_and_groups(channels, groups):
    inputs = scan_inputs(channels=channels, length=67, groups=groups)
    ours = with_gradients(_native.selective_scan, inputs, True, True)
    exact = with_gradients(_reference.selective_scan, [x.double() for x in inputs], True, True)
    compare(ours, exact, 2e-6)


@pytest.mark.parametrize(
    ("heads", "width", "states", "groups"), [(1, 1, 1, 1), (3, 17, 33, 1), (4, 20, 9, 2), (2, 16, 16, 2)]
)
@pytest.mark.parametrize("length", [1, 16, 64, 81])
def test_ssd_scan_with_tails(heads, width, states, groups, length):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    inputs = [
        normal(2, length, heads, width),
        normal(2, length, heads) - 3,
        -normal(heads).exp(),
        normal(2, length, groups, states),
        normal(2, length, groups, states),
    ]
    rest = [normal(heads, width), normal(2, length, heads, width), normal(heads) / 4, normal(2, heads, width, states)]

    def call(module):
        def run(*tensors):
            x, dt, A, B, C, D, z, bias, initial = tensors
            return module.ssd_scan(x, dt, A, B, C, 64, D, z, bias, True, initial, True, length == 81)

        return run

    ours = with_gradients(call(_native), [*inputs, *rest])
    exact = with_gradients(call(_reference), [x.double() for x in [*inputs, *rest]])
    compare(ours, exact, 5e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 4), (129, 4), (257, 3), (40, 1), (9, 16), (30, 17)])
def test_causal_convolution_of_any_width(length, width, reverse):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, 19, generator=generator).transpose(1, 2)
    weight, bias = torch.randn(19, width, generator=generator), torch.randn(19, generator=generator)
    ours = with_gradients(_native.causal_conv1d, [x, weight, bias], "silu", reverse)
    exact = with_gradients(_reference.causal_conv1d, [v.double() for v in (x, weight, bias)], "silu", reverse)
    compare(ours, exact, 1e-6)


def test_reversed_time_is_flipped_data_bit_for_bit():
    inputs = scan_inputs(length=150)
    flipped = [x.flip(2) if i in (0, 1, 6) else x.flip(3) if i in (3, 4) else x for i, x in enumerate(inputs)]
    ours, last = _native.selective_scan(*inputs, True, True, True)
    expected, expected_last = _native.selective_scan(*flipped, True, True, False)
    assert torch.equal(ours, expected.flip(2))
    assert torch.equal(last, expected_last)


@pytest.mark.parametrize("count", [2, 3])
def test_threads_share_the_work_evenly_and_repeat_their_numbers(threads, count):
    inputs = scan_inputs(batch=3, channels=100, length=300, states=16)
    threads(1)
    alone = with_gradients(_native.selective_scan, inputs, True)
    threads(count)
    assert _native_library.cut(3, 7, 1 << 30)[0] == count
    together = with_gradients(_native.selective_scan, inputs, True)
    again = with_gradients(_native.selective_scan, inputs, True)
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    compare(together, alone, 1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "channels", "groups", "count"), [(1, 5, 1, 3), (1, 16, 2, 7), (2, 8, 1, 8)])
def test_more_threads_than_blocks_share_the_sequence(threads, batch, channels, groups, count, reverse):
    inputs = scan_inputs(batch=batch, channels=channels, length=1500, states=40, groups=groups)
    inputs[2][:, :20] *= 0.01  # some states outlive their segment
    threads(count)
    assert _native_library.segments(batch, groups, 1 << 30, 24) == count // (batch * groups)
    generator = torch.Generator().manual_seed(2)
    initial = torch.randn(batch, channels, 40, generator=generator)

    def call(module):
        return lambda *x: module.selective_scan(*x[:-1], True, True, reverse, initial_state=x[-1])

    ours = with_gradients(call(_native), [*inputs, initial])
    again = with_gradients(call(_native), [*inputs, initial])
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    threads(1)
    exact = with_gradients(call(_native), [x.double() for x in (*inputs, initial)])
    compare(ours, exact, 3e-6)
    alone = with_gradients(call(_native), [*inputs, initial])
    assert any(not torch.equal(a, b) for a, b in zip(ours, alone, strict=True))


def test_python_threads_do_not_disturb_each_other(threads):
    threads(1)
    inputs = scan_inputs(length=300)
    expected = _native.selective_scan(*inputs, True)
    found = [None] * 8

    def work(index):
        found[index] = _native.selective_scan(*inputs, True)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(y, expected) for y in found)


def test_views_of_a_projection_are_read_in_place():
    projected = torch.randn(2, 30, 50)
    x, z = projected[..., :20], projected[..., 20:40]
    taken = _native_library.streams(x, z, projected[..., 40:45].unsqueeze(2))
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(taken, (x, z, projected[..., 40:45]), strict=True))
    (copied,) = _native_library.streams(projected.transpose(1, 2))
    assert copied.stride(-1) == 1


@pytest.mark.parametrize("dtypes", [("float16",) * 2, ("bfloat16", "float32"), ("float32", "bfloat16")])
def test_mixed_and_half_precision_inputs(dtypes):
    u_type, other = (getattr(torch, name) for name in dtypes)
    inputs = [x.to(u_type if i == 0 else other) for i, x in enumerate(scan_inputs(length=70))]
    ours = with_gradients(_native.selective_scan, inputs, True, True)
    exact = with_gradients(_reference.selective_scan, [x.double() for x in inputs], True, True)
    assert ours[0].dtype == u_type
    assert ours[1].dtype == torch.float32
    assert [g.dtype for g in ours[2:]] == [x.dtype for x in inputs]
    # The gradient of the output arrives rounded to its dtype.
    compare(ours, exact, 2e-3 if u_type == other else 5e-3)


def test_bfloat16_rounding_is_that_of_pytorch():
    values = torch.randn(1, 4096, 16)
    values[0, :6, 0] = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 1e-40])
    x = values.bfloat16()
    out = _native_causal_conv.forward(x, torch.full((16, 1), 1.00390625), None, False, False)
    expected = (x.float() * 1.00390625).bfloat16()
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out[~out.isnan()], expected[~out.isnan()])


def test_gradients_in_double_precision_match_differences():
    inputs = [x.requires_grad_() for x in scan_inputs(1, 3, 67, 2, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: _native.selective_scan(*x, True, True), inputs)


def test_slow_modes_stay_accurate_over_long_sequences():
    length, states = 20000, 4
    u, delta, A, B, C, D, z, bias = scan_inputs(1, 16, length, states)
    inputs = [u, delta, A * 0.01, B, C, D, z, bias - 2]
    ours = _native.selective_scan(*inputs, True)
    u, delta, A, B, C, D, z, bias = (x.double() for x in inputs)
    step = F.softplus(delta + bias[:, None])
    decay = torch.exp(step[:, :, None] * A[None, :, :, None])
    gain = (step * u)[:, :, None] * B
    state, states_ = torch.zeros_like(decay[..., 0]), []
    for a, g in zip(decay.unbind(-1), gain.unbind(-1), strict=True):
        state = a * state + g
        states_.append(state)
    exact = ((torch.stack(states_, -1) * C).sum(2) + D[:, None] * u) * F.silu(z)
    assert error(ours, exact) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v2"])
def test_builds_for_lesser_processors(level, monkeypatch):
    flags = _native_build.flags("float")
    if "-march=native" not in flags:
        pytest.skip("not an x86 processor")
    if level == "x86-64-v3" and " avx2 " not in f"{_native_build.processor_features()} ":
        pytest.skip("the processor lacks AVX2")
    monkeypatch.setattr(
        _native_build, "flags", lambda variant: [f.replace("native", level) if "march" in f else f for f in flags]
    )
    _native_library._load.cache_clear()
    try:
        assert _native_library.load(torch.float32).lanes == {"x86-64-v3": 8, "x86-64-v2": 4}[level]
        inputs = scan_inputs(channels=37, length=67, states=9)
        inputs[1][0, 3, 5] = 90.0
        ours = with_gradients(_native.selective_scan, inputs, True, True)
        exact = with_gradients(_reference.selective_scan, [x.double() for x in inputs], True, True)
        compare(ours, exact, 2e-6)
        inputs[0][0, 0, 3], inputs[1][0, 1, 4], inputs[1][0, 2, 4] = (float(x) for x in ("nan", "inf", "-inf"))
        bad = [_native.selective_scan(*inputs, True), _reference.selective_scan(*inputs, True)]
        torch.testing.assert_close(*bad, equal_nan=True, rtol=1e-4, atol=1e-4)
    finally:
        _native_library._load.cache_clear()
