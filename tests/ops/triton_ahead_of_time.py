"""Compiles the Triton kernels, as they would be launched, for GPUs that need not be there.

The functions of the backend run on CPU tensors with ``launch`` replaced by a compiler: every kernel is built for
exactly the constants, types and alignments of the call. Run as a program, for instance as ``python -m
tests.ops.triton_ahead_of_time 80,90,100``, it prints one JSON line a kernel with what the ``ptxas`` and ``cuobjdump``
that come with Triton say about it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def build(
    kernel: Callable, arguments: tuple, options: dict[str, object], capability: int
) -> triton.compiler.CompiledKernel:
    """Compiles one call of a kernel. Tensors count as aligned to 16 bytes, as the allocator's are."""
    names, constants = kernel.arg_names, {}
    launch_options = {k: v for k, v in options.items() if k not in names}
    bound = dict(zip(names, arguments, strict=False)) | {k: v for k, v in options.items() if k in names}
    signature, attributes = {}, {}
    for place, name in enumerate(names):
        value, parameter = bound[name], kernel.params[place]
        if (
            parameter.is_constexpr
            or value is None
            or (isinstance(value, int) and value == 1 and not parameter.do_not_specialize)
        ):
            signature[name], constants[(place,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attributes[(place,)] = _POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch_options)


def resources(compiled: triton.compiler.CompiledKernel) -> dict[str, int]:
    """Registers of a thread, bytes of its stack (spilled registers lie there), shared memory of a program."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [_TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told).groups()
    return {
        "registers": int(registers),
        "stack": int(stack) + int(local),
        "shared": compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
    }


def recorded(call: Callable[[], object], capability: int = 90) -> list[tuple[Callable, tuple, dict[str, object]]]:
    """The launches of a call on a GPU of that compute capability, none of them made."""
    from custom_networks.ops import _triton_launch

    launches = []

    def architecture(device):
        return capability // 10

    def record(kernel, programs, device, *arguments, **options):
        launches.append((kernel, arguments, options | {"enable_fp_fusion": True}))

    replaced = {"launch": record, "architecture": architecture}
    modules = [m for name, m in sys.modules.items() if name.startswith("custom_networks.ops._triton_")]
    original = {name: getattr(_triton_launch, name) for name in replaced}
    for module in modules:
        vars(module).update({name: new for name, new in replaced.items() if name in vars(module)})
    try:
        call()
    finally:
        for module in modules:
            vars(module).update({name: old for name, old in original.items() if name in vars(module)})
    return launches


def _selective_scan(dtype: torch.dtype, states: int, everything: bool, directions: int, length: int = 130) -> Callable:
    from custom_networks.ops import _triton_selective_scan as module

    channels, groups = 64, 1

    def call() -> None:
        u, delta, z, grad = (torch.zeros(directions, 2, length, channels, dtype=dtype) for _ in range(4))
        B, C = (torch.zeros(directions, 2, length, groups, 8 + states, dtype=dtype)[..., 8:] for _ in range(2))
        A = torch.zeros(directions, channels, states)
        D, bias = (torch.zeros(directions, channels) if everything else None for _ in range(2))
        z = z if everything else None
        initial = torch.zeros(directions, 2, channels, states) if everything else None
        tensors = u, delta, A, B, C, D, z, bias, initial
        direction = 2 if directions == 2 else int(not everything)
        for threshold in (0, 10**9):
            module.PROGRAMS_PER_PROCESSOR = threshold
            _, last, kept = module.scan_directions(*tensors, everything, direction, True)
        module.gradients_of_directions(grad, last, *tensors, kept, everything, direction)

    return call


def _ssd(dtype: torch.dtype, width: int, states: int, everything: bool) -> Callable:
    from custom_networks.ops import _triton_ssd as module

    heads, length = 4, 130

    def call() -> None:
        x, z, grad = (torch.zeros(2, length, heads, width, dtype=dtype) for _ in range(3))
        dt = torch.zeros(2, length, heads)
        B, C = torch.zeros(2, length, 1, 2 * states, dtype=dtype).chunk(2, dim=-1)
        A = torch.zeros(heads)
        D, bias, initial = torch.zeros(heads), torch.zeros(heads), torch.zeros(2, heads, width, states)
        options = (D, z, bias, initial) if everything else (None,) * 4
        tensors = x, dt, A, B, C, *options
        _, final, kept = module.forward(*tensors, everything, not everything, 64, True)
        module.backward(grad, final, *tensors, kept, everything, not everything, 64)

    return call


def _conv(dtype: torch.dtype, width: int, silu: bool) -> Callable:
    from custom_networks.ops import _triton_causal_conv as module

    def call() -> None:
        x, grad = (torch.zeros(2, 130, 128, dtype=dtype) for _ in range(2))
        tensors = x, torch.zeros(128, width), torch.zeros(128)
        module.forward(*tensors, silu, not silu)
        module.backward(grad, *tensors, silu, not silu)

    return call


CALLS = {
    "selective scan, bf16, N 16": _selective_scan(torch.bfloat16, 16, True, 1),
    "selective scan, fp32, N 16": _selective_scan(torch.float32, 16, True, 1),
    "selective scan, fp32, N 8, plain": _selective_scan(torch.float32, 8, False, 1),
    "selective scan, bf16, N 16, two directions": _selective_scan(torch.bfloat16, 16, True, 2),
    "selective scan, fp32, N 16, two directions": _selective_scan(torch.float32, 16, True, 2),
    "selective scan, bf16, N 32": _selective_scan(torch.bfloat16, 32, True, 1),
    "selective scan, fp32, N 32": _selective_scan(torch.float32, 32, True, 1),
    "selective scan, fp32, N 5": _selective_scan(torch.float32, 5, True, 1),
    "selective scan, bf16, N 64": _selective_scan(torch.bfloat16, 64, True, 1),
    "SSD scan, bf16, P 64, N 128": _ssd(torch.bfloat16, 64, 128, True),
    "SSD scan, fp32, P 64, N 64, plain": _ssd(torch.float32, 64, 64, False),
    "SSD scan, fp32, P 80, N 32": _ssd(torch.float32, 80, 32, True),
    "SSD scan, bf16, P 128, N 256": _ssd(torch.bfloat16, 128, 256, True),
    "convolution, bf16, W 4, silu": _conv(torch.bfloat16, 4, True),
    "convolution, fp32, W 4, silu": _conv(torch.float32, 4, True),
    "convolution, fp32, W 8, silu": _conv(torch.float32, 8, True),
    "convolution, bf16, W 4": _conv(torch.bfloat16, 4, False),
}


def main(capabilities: list[int], chosen: list[str]) -> None:
    """Prints the resources of every kernel of the chosen calls, of all if there are none, on every target."""
    jobs = {}
    for name in chosen or CALLS:
        for capability in capabilities:
            for kernel, arguments, options in recorded(CALLS[name], capability):
                # A kernel is launched twice with other tensors of the same kind.
                kinds = [(x.dtype, x.data_ptr() % 16) if isinstance(x, torch.Tensor) else x for x in arguments]
                jobs[name, kernel.__name__, capability, str(kinds), str(options)] = kernel, arguments, options

    def work(job: tuple) -> str:
        (name, kernel_name, capability, *_), (kernel, arguments, options) = job
        found = resources(build(kernel, arguments, options, capability))
        return json.dumps({"call": name, "kernel": kernel_name, "capability": capability, **found})

    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(work, jobs.items()):
            print(line, flush=True)


if __name__ == "__main__":
    main([int(c) for c in sys.argv[1].split(",")], sys.argv[2:])
