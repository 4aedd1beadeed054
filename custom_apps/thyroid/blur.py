"""The blur that a network is taught to undo: six methods for 8-bit images, and the transform that applies them."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from scipy.ndimage import correlate, correlate1d, median_filter

from custom_apps.common.errors import DataError
from custom_apps.thyroid.blur_kernels import defocus_kernel, gaussian_taps, motion_kernel
from custom_apps.thyroid.speckle_diffusion import reduce_speckle

METHODS = ("gaussian", "mean", "median", "motion", "defocus", "srad")
METHOD, SIGMA = "gaussian", 1.1
"""The published setting."""
WINDOW = 5


def blurred(
    image: np.ndarray,
    method: str = METHOD,
    sigma: float = SIGMA,
    random: np.random.RandomState | None = None,
) -> np.ndarray:
    """Blurs an image at its own resolution.

    ========== ===============================================================================
    gaussian   standard deviation ``sigma`` pixels; equal to OpenCV's for 8-bit images, bit for bit
    mean       box of 5×5
    median     of 5×5; the border is repeated
    motion     along a random line within 5×5
    defocus    disk of radius 5
    srad       speckle reducing anisotropic diffusion, see `custom_apps.thyroid.speckle_diffusion`
    ========== ===============================================================================

    Beyond the border the image is mirrored without repeating the edge pixel, unless said otherwise.

    Args:
        image: uint8 (…, H, W); leading axes, such as colors, are blurred alike.
        method: see above.
        sigma: of ``gaussian``; the others do without.
        random: source of the line of ``motion``.

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: another type than uint8, for which the published results are not defined.
        ValueError: unknown method, ``sigma`` not above 0, or ``motion`` without ``random``.

    Source: Deblurring MAE, Kang et al. 2023, arXiv 2306.08249. Its ``median`` stops with an error; this is what was
    meant.
    """
    check_method(method)
    if image.dtype != np.uint8:
        raise TypeError(f"blur is defined for 8-bit images, got {image.dtype}")
    if method == "gaussian":
        return _gaussian(image, sigma)
    if method == "mean":
        sums = _separable(image, np.ones(WINDOW, np.int64))
        return ((sums + WINDOW**2 // 2) // WINDOW**2).astype(np.uint8)
    if method == "median":
        return median_filter(image, size=(1,) * (image.ndim - 2) + (WINDOW, WINDOW), mode="nearest")
    if method == "srad":
        return reduce_speckle(image)
    if method == "defocus":
        # Its outermost rings are zeros.
        return filtered(image, defocus_kernel()[3:-3, 3:-3])
    if random is None:
        raise ValueError("motion blur needs a source of random numbers")
    return filtered(image, motion_kernel(random))


def filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlates uint8 (…, H, W) with a kernel (h, w) of odd sizes, rounded to uint8; mirrored at the border."""
    kernel = kernel.reshape((1,) * (image.ndim - 2) + kernel.shape)
    return np.rint(correlate(image.astype(np.float64), kernel, mode="mirror")).clip(0, 255).astype(np.uint8)


def check_method(method: str) -> None:
    """Raises `ValueError` for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"blur must be one of {', '.join(METHODS)}, got {method!r}")


def random_of_name(name: str, seed: int = 0) -> np.random.RandomState:
    """Source of random numbers that belongs to the name of an image, whatever was blurred before.

    Args:
        name: of the file, without folders and ending.
        seed: another one gives other numbers for every name.
    """
    digest = hashlib.sha256(name.encode()).digest()
    words = np.random.SeedSequence([seed, *np.frombuffer(digest, "<u4").tolist()]).generate_state(4)
    return np.random.RandomState(words)


class Blurd(MapTransform, Randomizable):
    """Blurs images at their own resolution, before anything crops or resizes them.

    Blurred on the fly, images are the same as from a blurred copy of the data set (`custom_apps.thyroid.blurred_copy`):
    the line of ``motion`` belongs to the last part of ``case``, the file's name.

    Args:
        keys: images, uint8 (C, H, W).
        method: see :func:`blurred`; None leaves images as they are, and the draws of what follows the same.
        sigma: of ``gaussian``; two numbers for a range from which every item draws its own.
        seed: of ``motion``.

    Raises:
        DataError: an image of a copy that is blurred already (``blur`` of the record says so).
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        method: str | None = METHOD,
        sigma: float | Sequence[float] = SIGMA,
        seed: int = 0,
    ):
        super().__init__(keys)
        if method is not None:
            check_method(method)
        low, high = (sigma, sigma) if isinstance(sigma, (int, float)) else sigma
        if not 0 < low <= high:
            raise ValueError(f"sigma must be above 0, or a range above 0, got {sigma}")
        self.method, self.sigma, self.seed = method, (float(low), float(high)), int(seed)

    @property
    def deterministic(self) -> bool:
        """Whether an image is blurred in the same way every time."""
        return self.method != "gaussian" or self.sigma[0] == self.sigma[1]

    def randomize(self, data: Any = None) -> float:
        """Draws the standard deviation."""
        return self.sigma[0] if self.sigma[0] == self.sigma[1] else self.R.uniform(*self.sigma)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shapes."""
        result = dict(data)
        if self.method is None:
            return result
        if earlier := result.get("blur"):
            raise DataError(str(result["case"]), f"blurred already ({earlier})", "original images, or no blur here")
        sigma = self.randomize()
        random = random_of_name(str(result.get("case", "")).rsplit("/", 1)[-1], self.seed)
        for key in self.key_iterator(result):
            result[key] = blurred(np.asarray(result[key]), self.method, sigma, random)
        return result


def _gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    return ((_separable(image, gaussian_taps(sigma)) + (1 << 15)) >> 16).astype(np.uint8)


def _separable(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Sums of products with whole taps along rows, then along columns: exact, int64."""
    rows = correlate1d(image.astype(np.int64), taps, axis=-1, mode="mirror")
    return correlate1d(rows, taps, axis=-2, mode="mirror")
