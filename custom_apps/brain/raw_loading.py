"""Raw contrasts prepared while they are loaded, for single patients."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor

from custom_apps.brain.loading import LoadPreparedd
from custom_apps.brain.preparation import Preparation, prepare_images

logger = logging.getLogger(__name__)


class LoadRawd(LoadPreparedd):
    """Replaces four paths of raw contrasts by the volume that ``prepare`` would make of them, uint8 (4, x, y, z).

    Its metadata has ``original_affine`` and ``original_shape``, the grid of the first contrast.

    Args:
        keys: usually ``image``.
        size: voxels along every axis of the result.
        spacing_mm, fit, resample: see :class:`custom_apps.brain.preparation.Preparation`.
        allow_missing_keys: as in MONAI.

    Raises:
        DataError: see :func:`custom_apps.brain.preparation.prepare_images`.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        size: int | Sequence[int] = 160,
        spacing_mm: float = 1.0,
        fit: str = "crop",
        resample: bool = False,
        allow_missing_keys: bool = False,
    ):
        self.preparation = Preparation(size, spacing_mm, fit, resample=resample)
        super().__init__(keys, self.preparation.size, allow_missing_keys)

    def load(self, paths: str | Path | Sequence[str | Path]) -> MetaTensor:
        """The prepared volume of these files."""
        prepared = prepare_images(paths, preparation=self.preparation)
        if any(prepared.record["cut_mm"]):
            logger.warning("%s: the brain is cut by %s mm along its axes", paths[0], prepared.record["cut_mm"])
        meta = {"filename_or_obj": str(paths[0])}
        meta |= {name: prepared.record[name] for name in ("original_affine", "original_shape")}
        return MetaTensor(torch.from_numpy(prepared.image), affine=torch.from_numpy(prepared.affine), meta=meta)
