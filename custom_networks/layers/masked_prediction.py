"""What a masked autoencoder predicts, and its loss.

Letters: B batch, L patches, P values of a patch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class MaskedPrediction(NamedTuple):
    """Output of a masked autoencoder; patches are in raster order.

    Attributes:
        prediction: predicted patch vectors, (B, L, P).
        target: patch vectors that the prediction is compared with, (B, L, P).
        mask: True for patches that the encoder did not see, (B, L).
        weight: share of each patch in the loss, (B, L): 1 for hidden patches and 0 for visible ones, unless the network
            was told otherwise.
    """

    prediction: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    weight: torch.Tensor


def masked_patch_loss(output: MaskedPrediction) -> torch.Tensor:
    """Weighted mean over patches of the mean squared error of a patch, a scalar; 0 if every weight is 0.

    Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3.
    """
    error = (output.prediction.to(output.target.dtype) - output.target).square().mean(dim=-1)
    return (error * output.weight).sum() / output.weight.sum().clamp(min=torch.finfo(error.dtype).tiny)


def standardize_patches(vectors: torch.Tensor) -> torch.Tensor:
    """Patch vectors (B, L, P) with mean 0 and unbiased variance 1 each (1e-6 is added to the variance)."""
    variance, mean = torch.var_mean(vectors, dim=-1, keepdim=True)
    return (vectors - mean) * torch.rsqrt(variance + 1e-6)


LOSS_PATCHES = ("hidden", "all")


def compare_patches(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    standardize: bool = True,
    loss_on: str = "hidden",
    skip_constant: bool = False,
) -> MaskedPrediction:
    """Sets a prediction beside its target.

    Args:
        prediction: (B, L, P).
        target: patch vectors of the target image, (B, L, P).
        mask: True for hidden patches, (B, L).
        standardize: compare with standardized patches (``norm_pix_loss`` of the published networks).
        loss_on: "hidden" patches only, or "all".
        skip_constant: give no weight to patches without any contrast, such as the background of skull-stripped images;
            they teach nothing and, standardized, are all noise if the target carries any.

    Raises:
        ValueError: for an unknown ``loss_on``.
    """
    if loss_on not in LOSS_PATCHES:
        raise ValueError(f"loss_on must be one of {', '.join(LOSS_PATCHES)}, got {loss_on!r}")
    weight = (mask if loss_on == "hidden" else torch.ones_like(mask)).to(target.dtype)
    if skip_constant:
        weight = weight * (target.amax(dim=-1) > target.amin(dim=-1))
    return MaskedPrediction(prediction, standardize_patches(target) if standardize else target, mask, weight)


def destandardize_patches(vectors: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Undoes `standardize_patches` with the statistics of ``reference`` patches, for display.

    The statistics of hidden patches are known only where the whole image is; an image made this way is no evidence of
    what the network knows about them.
    """
    variance, mean = torch.var_mean(reference, dim=-1, keepdim=True)
    return vectors * torch.sqrt(variance + 1e-6) + mean
