"""The published chains of transforms, from a record to what the network sees."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose, EnsureTyped, NormalizeIntensityd, RandFlipd, RepeatChanneld, Transform

from custom_apps.thyroid.blur import METHOD, SIGMA, Blurd
from custom_apps.thyroid.category_crop import PadToSized, RandCategoryCropd
from custom_apps.thyroid.crops import RandResizedCropd, ResizeCenterCropd, Squashd
from custom_apps.thyroid.loading import CopyTargetd, LoadImaged, LoadMaskd
from custom_apps.thyroid.photometric_distortion import RandPhotometricd
from custom_apps.thyroid.rand_augment import RandAugmentd
from custom_apps.thyroid.random_erasing import RandErased
from custom_apps.thyroid.rescale import RescaleToFitd, SquareImaged
from custom_apps.thyroid.unet_augmentation import RandGrayd, RandShiftScaled

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colors, from 0 to 1."""
PAIR, BOTH = ("image", "target"), ("image", "label")
Sigma = float | Sequence[float]


class PretrainingImages(Compose):
    """Images to restore: ``image`` is blurred, ``target`` is not; both are cropped and flipped alike.

    Args:
        training: random crop and flip; otherwise the whole image is squashed.
        size: edge of the images in pixels, or height and width.
        method: of the blur, see :func:`custom_apps.thyroid.blur.blurred`; None for none, as of a plain masked
            autoencoder or with records whose images are blurred already.
        sigma: of ``gaussian``; two numbers for a range to draw from.
        area: range of the crop's share of the image.
        color: read colors; otherwise gray in three equal channels, so that the target is what the input can explain.
        mean, std: of the colors, from 0 to 1.

    Source: Deblurring MAE, Kang et al. 2023, arXiv 2306.08249. Its blurred images are gray and its originals are not.
    """

    def __init__(
        self,
        training: bool = True,
        size: int | Sequence[int] = 224,
        method: str | None = METHOD,
        sigma: Sigma = SIGMA,
        area: Sequence[float] = (0.2, 1.0),
        color: bool = False,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ):
        crop = [RandResizedCropd(PAIR, size, area), _flip(PAIR)] if training else [Squashd(PAIR, size)]
        super().__init__(
            [
                LoadImaged(PAIR, color, allow_missing_keys=True),
                CopyTargetd("image"),
                Blurd("image", method, sigma),
                *crop,
                *_standard(PAIR, color, mean, std),
            ]
        )


class ClassificationImages(Compose):
    """Images to classify.

    Args:
        training: random crop, flip, RandAugment and random erasing; otherwise the middle of the image.
        size: edge of the images in pixels.
        method, sigma: of the blur, see `PretrainingImages`; the same as in pre-training and in all splits.
        area: range of the crop's share of the image.
        magnitude: of RandAugment; None for none.
        erasing: probability of random erasing.
        color, mean, std: see `PretrainingImages`.

    Source: Deblurring MAE, Kang et al. 2023, with the recipe of He et al. 2022.
    """

    def __init__(
        self,
        training: bool = True,
        size: int = 224,
        method: str | None = METHOD,
        sigma: Sigma = SIGMA,
        area: Sequence[float] = (0.08, 1.0),
        magnitude: float | None = 9.0,
        erasing: float = 0.25,
        color: bool = False,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ):
        steps = [ResizeCenterCropd("image", size), *_standard("image", color, mean, std)]
        if training:
            # RandAugment fills with a color, hence three channels before it.
            steps = [
                RandResizedCropd("image", size, area),
                _flip("image"),
                *_three_channels("image", color),
                *([] if magnitude is None else [RandAugmentd("image", magnitude)]),
                *_standard("image", True, mean, std),
                *([RandErased("image", erasing)] if erasing else []),
            ]
        super().__init__([LoadImaged("image", color), Blurd("image", method, sigma), *steps])


class UPerNetImages(Compose):
    """Images to segment with the UPerNet, at a size near 1096×768.

    Args:
        training: random scale, crop, flip and photometric distortion of image and mask; otherwise the whole image is
            rescaled and the mask, if there is one, keeps its own size.
        size: edge of the crops in pixels, or height and width.
        limits: greatest long and short side.
        ratio: range of a random factor of ``limits`` in training.
        category_limit: see `RandCategoryCropd`.
        photometric: False for training without photometric distortion.
        method, sigma, color, mean, std: see `PretrainingImages`.
        mask_convention: see :func:`custom_apps.thyroid.mask_file.read_mask`.

    Source: Deblurring MAE, Kang et al. 2023, on mmsegmentation.
    """

    def __init__(
        self,
        training: bool = True,
        size: int | Sequence[int] = 512,
        limits: Sequence[int] = (1096, 768),
        ratio: Sequence[float] = (0.5, 2.0),
        category_limit: float = 0.75,
        photometric: bool = True,
        method: str | None = METHOD,
        sigma: Sigma = SIGMA,
        color: bool = False,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        mask_convention: str = "binary",
    ):
        start = [
            LoadImaged("image", color),
            LoadMaskd("label", mask_convention, allow_missing_keys=not training),
            Blurd("image", method, sigma),
        ]
        steps = [RescaleToFitd("image", limits), *_standard("image", color, mean, std)]
        if training:
            steps = [
                RescaleToFitd(BOTH, limits, ratio),
                RandCategoryCropd(BOTH, size, category_limit),
                _flip(BOTH),
                *([RandPhotometricd("image")] if photometric else []),
                *_standard("image", color, mean, std),
                PadToSized(BOTH, size),
            ]
        super().__init__([*start, *steps])


class UNetImages(Compose):
    """Images to segment with a U-Net or U-Net++, squashed to a square, with masks of half the size.

    Args:
        training: flips, shift and scale of image and mask, and changes of gray values.
        size: edge of the images in pixels.
        label_size: edge of the masks, 256 as the networks' output; None keeps them as they are, for scores at the
            images' own resolution.
        interpolation: of images: ``nearest``, as published, ``linear`` or ``smooth``.
        keep_aspect: fill up to a square instead of squashing.
        augmentation: False for training without any.
        method, sigma, color, mean, std: see `PretrainingImages`.
        mask_convention: see :func:`custom_apps.thyroid.mask_file.read_mask`.

    Source: Deblurring MAE, Kang et al. 2023.
    """

    def __init__(
        self,
        training: bool = True,
        size: int = 512,
        label_size: int | None = 256,
        interpolation: str = "nearest",
        keep_aspect: bool = False,
        augmentation: bool = True,
        method: str | None = METHOD,
        sigma: Sigma = SIGMA,
        color: bool = False,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        mask_convention: str = "binary",
    ):
        if training and label_size is None:
            raise ValueError("masks of different sizes make no batch; give label_size for training")
        augmented = [_flip(BOTH), RandFlipd(BOTH, prob=0.5, spatial_axis=0), RandShiftScaled(BOTH), RandGrayd("image")]
        super().__init__(
            [
                LoadImaged("image", color),
                LoadMaskd("label", mask_convention, allow_missing_keys=not training),
                Blurd("image", method, sigma),
                SquareImaged(BOTH, size, label_size, interpolation, keep_aspect, allow_missing_keys=not training),
                *(augmented if training and augmentation else []),
                *_standard("image", color, mean, std),
            ]
        )


def _flip(keys: str | Sequence[str]) -> Transform:
    """Left for right in half of the cases."""
    return RandFlipd(keys, prob=0.5, spatial_axis=1)


def _three_channels(keys: str | Sequence[str], color: bool) -> list[Transform]:
    return [] if color else [RepeatChanneld(keys, 3)]


def _standard(keys: str | Sequence[str], color: bool, mean: Sequence[float], std: Sequence[float]) -> list[Transform]:
    """Three channels from gray ones, normalized; MONAI's meta data are of no use here."""
    scaled = ([255 * value for value in values] for values in (mean, std))
    return [
        *_three_channels(keys, color),
        NormalizeIntensityd(keys, *scaled, channel_wise=True),
        EnsureTyped(keys, track_meta=False),
    ]
