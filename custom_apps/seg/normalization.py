"""The five intensity normalizations of nnU-Net, chosen by the name of a channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

SMALLEST_DIVISOR = 1e-8


def z_score(image: np.ndarray, mask: np.ndarray | None, intensities: Mapping[str, float] | None) -> np.ndarray:
    """Zero mean and unit standard deviation: of the whole image or, with a mask, of the masked voxels (others stay)."""
    result = image.astype(np.float32)
    region = ... if mask is None else mask
    values = result[region]
    result[region] = (values - values.mean()) / max(values.std(), SMALLEST_DIVISOR)
    return result


def ct(image: np.ndarray, mask: np.ndarray | None, intensities: Mapping[str, float] | None) -> np.ndarray:
    """Clips to the data set's 0.5 and 99.5 percentiles of the foreground, then uses its mean and standard deviation.

    Raises:
        ValueError: without the data set's statistics.
    """
    if intensities is None:
        raise ValueError("CTNormalization has no foreground intensity properties, expected them in the plan")
    result = image.astype(np.float32)
    np.clip(result, intensities["percentile_00_5"], intensities["percentile_99_5"], out=result)
    result -= intensities["mean"]
    result /= max(intensities["std"], SMALLEST_DIVISOR)
    return result


def none(image: np.ndarray, mask: np.ndarray | None, intensities: Mapping[str, float] | None) -> np.ndarray:
    """The image unchanged."""
    return image.astype(np.float32)


def rescale_to_0_1(image: np.ndarray, mask: np.ndarray | None, intensities: Mapping[str, float] | None) -> np.ndarray:
    """Smallest value to 0, largest to 1."""
    result = image.astype(np.float32)
    result -= result.min()
    result /= max(result.max(), SMALLEST_DIVISOR)
    return result


def rgb_to_0_1(image: np.ndarray, mask: np.ndarray | None, intensities: Mapping[str, float] | None) -> np.ndarray:
    """Divides by 255.

    Raises:
        ValueError: for values outside 0..255.
    """
    if image.min() < 0 or image.max() > 255:
        raise ValueError(f"RGBTo01Normalization has values {image.min():g} to {image.max():g}, expected 0..255")
    return image.astype(np.float32) / np.float32(255)


SCHEMES: dict[str, Callable[..., np.ndarray]] = {
    "ZScoreNormalization": z_score,
    "CTNormalization": ct,
    "NoNormalization": none,
    "RescaleTo01Normalization": rescale_to_0_1,
    "RGBTo01Normalization": rgb_to_0_1,
}

SCHEME_OF_CHANNEL_NAME = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


def scheme_for_channel(name: str) -> str:
    """Scheme for a channel name, in any case; z-score for names without a scheme of their own."""
    return SCHEME_OF_CHANNEL_NAME.get(name.casefold(), "ZScoreNormalization")


def masks_by_nonzero(scheme: str) -> bool:
    """Whether a scheme may take its statistics from the non-zero region only."""
    return scheme == "ZScoreNormalization"


def normalize(
    image: np.ndarray,
    scheme: str,
    mask: np.ndarray | None = None,
    intensities: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Normalizes one channel (nnU-Net, Isensee et al. 2021).

    Args:
        image: (z, y, x).
        scheme: a key of ``SCHEMES``.
        mask: voxels that count, or None for all; only z-score looks at it.
        intensities: the data set's foreground statistics of the channel; only CT needs them.

    Returns:
        A new float32 array.

    Raises:
        ValueError: for an unknown scheme, or input that the scheme cannot take.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown normalization '{scheme}', expected one of {', '.join(SCHEMES)}")
    return SCHEMES[scheme](image, mask, intensities)
