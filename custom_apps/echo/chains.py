"""The published chains of transforms, from a record to what the network sees."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import Compose, EnsureTyped, NormalizeIntensityd, RandFlipd, SpatialCropd, Transform

from custom_apps.echo import buv, camus, echonet
from custom_apps.echo.annotated_clip import AnnotatedClipd
from custom_apps.echo.clip_augmentation import RandClipAffined, RandClipJitterd, RandClipResizedCropd
from custom_apps.echo.clip_sampling import SampleClipd
from custom_apps.echo.frames import GrayVideod, ResizeFramesd, SmoothFramesd
from custom_apps.echo.loading import LoadFrameArrayd, LoadVideod
from custom_apps.echo.pad_and_crop import PadAndCropd
from custom_apps.echo.segment_clip import SegmentClipd

BOTH = ("image", "label")
Numbers = int | Sequence[int]


class EchoNetClips(Compose):
    """Clips for ejection fraction and for pre-training on EchoNet-Dynamic.

    Args:
        training: random start and random shift (and ``augmentation``); otherwise deterministic.
        length: frames in a clip.
        period: distance between its frames, or several values to draw from.
        size: edge of the frames in pixels, or height and width.
        padding: largest shift in training; 0 for none.
        start: where clips start when not training: ``first``, ``spread`` or ``all``.
        clips: number of clips for ``spread``.
        stride: distance of starts for ``all``.
        pad: what follows a short video: itself (``loop``) or zeros (``zero``).
        time_pad: see `SampleClipd`; in training only.
        augmentation: affine map and jitter in training. Off in all published runs.
        median, gaussian, gaussian_sigma: see `SmoothFramesd`; training or not.
        gray: decode to gray instead of computing it from RGB: faster, differs by rounding.
        mean, std: of the gray values, from 0 to 1; those of EchoNet-Dynamic by default.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(
        self,
        training: bool = True,
        length: int = 64,
        period: Numbers = 2,
        size: Numbers = 112,
        padding: int = 12,
        start: str = "first",
        clips: int = 1,
        stride: int = 1,
        pad: str = "loop",
        time_pad: int = 0,
        augmentation: bool = False,
        median: bool = False,
        gaussian: bool = False,
        gaussian_sigma: float = 0.6,
        gray: bool = False,
        mean: float = echonet.GRAY_MEAN,
        std: float = echonet.GRAY_STD,
    ):
        augmented = training and augmentation
        sample = SampleClipd(
            "image", length, period, "random" if training else start, clips, pad, time_pad if training else 0, stride
        )
        normalize = NormalizeIntensityd("image", mean, std)
        frames = [
            GrayVideod("image"),
            *_smoothing(median, gaussian, gaussian_sigma),
            *([RandClipAffined("image", 15, 0.2, (0.8, 1.2), 10)] if augmented else []),
            ResizeFramesd("image", size),
            *([RandClipJitterd("image")] if augmented else []),
        ]
        # What is done frame by frame may follow the choice of frames; zeros for missing frames are normalized ones.
        middle = [sample, *frames, normalize] if pad == "loop" else [*frames, normalize, sample]
        shift = [PadAndCropd("image", padding)] if training and padding else []
        super().__init__([LoadVideod("image", gray), *middle, *shift, *_finish()])


class EchoNetSegmentation(Compose):
    """Clips between the two traced frames of EchoNet-Dynamic, with masks of end-diastole and end-systole.

    Args:
        training: random shift of clip and masks.
        length: frames in a clip.
        size: edge of the frames in pixels, or height and width.
        padding: largest shift in training; 0 for none.
        include_end: whether the clip ends with the later traced frame; the published system stops before it.
        shift_label: whether masks move with the clip; the published system leaves them behind.
        median, gaussian, gaussian_sigma: see `SmoothFramesd`.
        gray: see `EchoNetClips`.
        mean, std: of the gray values, from 0 to 1.

    Source: E-ViM3, arXiv 2503.20258; ``include_end=False, shift_label=False`` is what its authors ran.
    """

    def __init__(
        self,
        training: bool = True,
        length: int = 64,
        size: Numbers = 112,
        padding: int = 12,
        include_end: bool = True,
        shift_label: bool = True,
        median: bool = False,
        gaussian: bool = False,
        gaussian_sigma: float = 0.6,
        gray: bool = False,
        mean: float = echonet.GRAY_MEAN,
        std: float = echonet.GRAY_STD,
    ):
        super().__init__(
            [
                LoadVideod("image", gray),
                GrayVideod("image"),
                *_smoothing(median, gaussian, gaussian_sigma),
                AnnotatedClipd("image", length, include_end),
                ResizeFramesd(BOTH, size),
                NormalizeIntensityd("image", mean, std),
                *([PadAndCropd(BOTH if shift_label else "image", padding)] if training and padding else []),
                *_finish(),
            ]
        )


class CamusClips(Compose):
    """Clips of CAMUS arrays, for ejection fraction and pre-training.

    Args:
        training: random affine map.
        length: frames from the first on.
        size: edge of the window in the upper left corner, or height and width.
        augmentation: False for training without the affine map.
        mean, std: of the gray values.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(
        self,
        training: bool = True,
        length: int = 64,
        size: Numbers = 112,
        augmentation: bool = True,
        mean: float = camus.GRAY_MEAN,
        std: float = camus.GRAY_STD,
    ):
        height, width = (size, size) if isinstance(size, int) else size
        super().__init__(
            [
                LoadFrameArrayd("image"),
                SpatialCropd("image", roi_start=(0, 0, 0), roi_end=(length, height, width)),
                *_finish(),
                *([RandClipAffined("image", 10, 0.1, (0.8, 1.1))] if training and augmentation else []),
                NormalizeIntensityd("image", mean, std),
                *_finish(),
            ]
        )


class BuvClips(Compose):
    """Clips of breast ultrasound videos, for pre-training and classification.

    Args:
        training: random starts and augmentation.
        length: frames in a clip.
        period: distance between frames of one segment, or several values to draw from.
        clips: segments that a clip is put together from.
        size: edge of the frames in pixels, or height and width.
        augmentation: False for training without affine map, crop, flip and jitter.
        gray: decode to gray.
        mean, std: of the gray values, from 0 to 1.

    Source: E-ViM3, arXiv 2503.20258.
    """

    def __init__(
        self,
        training: bool = True,
        length: int = 64,
        period: Numbers = 2,
        clips: int = 1,
        size: Numbers = 112,
        augmentation: bool = True,
        gray: bool = True,
        mean: float = buv.GRAY_MEAN,
        std: float = buv.GRAY_STD,
    ):
        augmented = [
            RandClipAffined("image", 30, 0.2, (0.8, 1.2)),
            RandClipResizedCropd("image", size),
            RandFlipd("image", prob=0.5, spatial_axis=2),
            *_finish(),
            RandClipJitterd("image"),
        ]
        super().__init__(
            [
                LoadVideod("image", gray),
                SegmentClipd("image", length, period, clips, random=training),
                GrayVideod("image"),
                *(augmented if training and augmentation else [ResizeFramesd("image", size)]),
                NormalizeIntensityd("image", mean, std),
                *_finish(),
            ]
        )


def _smoothing(median: bool, gaussian: bool, sigma: float) -> list[Transform]:
    return [SmoothFramesd("image", median, gaussian, sigma)] if median or gaussian else []


def _finish() -> list[Transform]:
    """MONAI's own transforms return tensors that carry meta data, which nothing here needs."""
    return [EnsureTyped("image", track_meta=False)]
