"""The backend ``torch``: chunked, with hand-written backward passes, on every device, without a compiler."""

from __future__ import annotations

from custom_networks.ops import _torch_conv, _torch_selective_scan, _torch_ssd
from custom_networks.ops._mamba_inner import Kernels, define_bidirectional_mamba_inner, define_mamba_inner
from custom_networks.ops._operators import define_causal_conv1d, define_selective_scan, define_ssd_scan


def is_available() -> tuple[bool, str]:
    """Always available."""
    return True, "always"


selective_scan = define_selective_scan(
    "torch", _torch_selective_scan.forward, _torch_selective_scan.backward, _torch_selective_scan.states_shape
)
causal_conv1d = define_causal_conv1d("torch", _torch_conv.forward, _torch_conv.backward)
_kernels = Kernels(
    _torch_conv.forward,
    _torch_conv.backward,
    _torch_selective_scan.forward,
    _torch_selective_scan.backward,
    _torch_selective_scan.states_shape,
)
mamba_inner = define_mamba_inner("torch", _kernels)
bidirectional_mamba_inner = define_bidirectional_mamba_inner("torch", _kernels)
ssd_scan = define_ssd_scan("torch", _torch_ssd.forward, _torch_ssd.backward, _torch_ssd.states_shape)
