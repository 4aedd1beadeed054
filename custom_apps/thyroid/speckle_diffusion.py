"""Speckle reducing anisotropic diffusion: smooths speckle and leaves edges."""

from __future__ import annotations

import numpy as np

FLOOR = 1.0
"""Added to gray values, because the method divides by them."""


def reduce_speckle(
    image: np.ndarray, iterations: int = 40, time_step: float = 0.5, speckle: float = 0.5, decay: float = 1 / 6
) -> np.ndarray:
    """Diffuses an image where its local variation is that of speckle.

    Args:
        image: uint8 (…, H, W).
        iterations: steps.
        time_step: of each step; at most 1, else the scheme is unstable.
        speckle: coefficient of variation of speckle at the start (q₀); 1 for raw echoes, less for log-compressed ones.
        decay: rate at which q₀ falls with time.

    Returns:
        uint8 of the same shape.

    Source: Yu and Acton 2002, IEEE TIP 11(11). Shown in a figure of Deblurring MAE (Kang et al. 2023), whose parameters
    are not published; these are ours.
    """
    values = image.astype(np.float64) + FLOOR
    for step in range(iterations):
        q0 = (speckle * np.exp(-decay * step * time_step)) ** 2
        padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
        center = padded[..., 1:-1, 1:-1]
        north, south = padded[..., :-2, 1:-1] - center, padded[..., 2:, 1:-1] - center
        west, east = padded[..., 1:-1, :-2] - center, padded[..., 1:-1, 2:] - center
        laplacian = (north + south + west + east) / values
        gradient = (north**2 + south**2 + west**2 + east**2) / (2 * values**2)
        q = np.maximum(0.5 * gradient - laplacian**2 / 16, 0) / (1 + laplacian / 4) ** 2
        share = np.clip(1 / (1 + (q - q0) / (q0 * (1 + q0))), 0, 1)
        # Flow to the south and east uses the neighbor's coefficient, so that what leaves one pixel enters the next.
        below = np.concatenate([share[..., 1:, :], share[..., -1:, :]], axis=-2)
        right = np.concatenate([share[..., 1:], share[..., -1:]], axis=-1)
        values = values + time_step / 4 * (share * (north + west) + below * south + right * east)
    return np.rint(values - FLOOR).clip(0, 255).astype(np.uint8)
