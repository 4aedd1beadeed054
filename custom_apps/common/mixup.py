"""Mixup: each sample of a batch blended with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

KEYS = ("image", "ef_percent", "label")


def mixup(
    batch: dict[str, Any],
    random: np.random.RandomState,
    alpha: float = 1.0,
    keys: Sequence[str] = KEYS,
) -> dict[str, Any]:
    """Blends each sample with a partner: inputs and labels alike.

    Args:
        batch: a collated batch; other keys than ``keys`` stay those of the first of each two.
        random: source of the draws.
        alpha: each sample's own share follows Beta(alpha, alpha), uniform with 1. Partners are a random permutation.
        keys: floating-point tensors (B, …) to blend, where they are in the batch.

    Raises:
        TypeError: a tensor to blend is integer, such as a label map.

    Source: Zhang et al. 2018, arXiv 1710.09412; shares per sample as in E-ViM3, arXiv 2503.20258.
    """
    result = dict(batch)
    size = len(batch["image"])
    share = torch.from_numpy(random.beta(alpha, alpha, size).astype(np.float32))
    partner = torch.from_numpy(random.permutation(size))
    for key in keys:
        if key in batch:
            values = batch[key]
            if not values.is_floating_point():
                raise TypeError(f"{key} is {values.dtype} and cannot be blended")
            own = share.to(values).view(-1, *(1,) * (values.ndim - 1))
            result[key] = own * values + (1 - own) * values[partner.to(values.device)]
    return result
