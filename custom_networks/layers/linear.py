"""Float32 matrix products on CPUs where PyTorch's default library is not the fastest.

Once the scans are compiled, nearly all the time of a Mamba block on a CPU goes into its projections. PyTorch hands
float32 products to a library that leaves the wide vector units of AMD processors unused; oneDNN, which PyTorch brings
too, uses them. The switch that selects it also permits bfloat16 arithmetic, which oneDNN makes use of on processors
with bfloat16 matrix units only. So it is thrown only after a trial product.
"""

from __future__ import annotations

import logging
import math
import time

import torch
import torch.nn.functional as F

_log = logging.getLogger(__name__)

# Tokens, inputs and outputs of a projection of ordinary size: some ten milliseconds on one core.
_TRIAL = 1024, 384, 1536


def prefer_onednn_products(tolerance: float = 1e-6, gain: float = 1.02, rounds: int = 7) -> bool:
    """Lets oneDNN compute this process's float32 matrix products on the CPU, if it is as exact and faster.

    It concerns all products of the process, forward and backward, and is not undone. The outcome is logged. Products
    change in their last digits, so a run is repeated bit for bit only with the same choice.

    Args:
        tolerance: Largest relative error, in the Euclidean norm, of a trial product against float64.
        gain: Smallest ratio of the times of the trial product without and with oneDNN.
        rounds: Trials of each; the fastest counts.

    Returns:
        Whether oneDNN is used from now on.
    """
    switch = getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", None)
    if switch is None or not torch.backends.mkldnn.is_available():
        _log.info("matrix products stay as they are: this PyTorch has no choice for them")
        return False
    generator = torch.Generator().manual_seed(0)
    tokens, width, outputs = _TRIAL
    x, weight = torch.randn(tokens, width, generator=generator), torch.randn(outputs, width, generator=generator)
    best = {switch: math.inf, "bf16": math.inf}
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        exact = x.double() @ weight.double().T
        for _ in range(rounds):
            for choice in best:
                torch.backends.mkldnn.matmul.fp32_precision = choice
                start = time.perf_counter()
                y = F.linear(x, weight)
                best[choice] = min(best[choice], time.perf_counter() - start)
        error = ((y - exact).norm() / exact.norm()).item()
    ratio = best[switch] / best["bf16"]
    used = error <= tolerance and ratio >= gain
    if not used:
        torch.backends.mkldnn.matmul.fp32_precision = switch
    verdict = "used" if used else "not used"
    _log.info("float32 products by oneDNN: error %.1e, %.2f times as fast, %s", error, ratio, verdict)
    return used
