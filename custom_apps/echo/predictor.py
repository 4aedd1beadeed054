"""Prediction of single videos and folders from Python, without an engine: what ``inference.yaml`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from custom_apps.common.checkpoint_files import load_weights, read_checkpoint
from custom_apps.common.errors import DataError
from custom_apps.echo.chains import EchoNetClips
from custom_apps.echo.clip_protocols import ClipInferer, ClipProtocols
from custom_apps.echo.ef_export import TABLE, AverageClipsd, SaveEF
from custom_apps.echo.lv_curve import LVCurve
from custom_apps.echo.lv_export import SaveLV, resize_masks
from custom_apps.echo.lv_inferer import VentricleInferer
from custom_apps.echo.video_lists import videos_to_predict
from custom_apps.echo.whole_video import normalization, uncut


@dataclass(frozen=True)
class VideoEF:
    """Ejection fraction of one video.

    Attributes:
        ef_percent: average by the protocol with the most clips.
        std_over_clips: standard deviation over the clips; NaN for one.
        by_protocol: average by each protocol.
        clip_starts: first frame of each clip.
        clip_ef_percent: prediction of each clip.
    """

    ef_percent: float
    std_over_clips: float
    by_protocol: Mapping[str, float]
    clip_starts: tuple[int, ...]
    clip_ef_percent: tuple[float, ...]


class VideoPredictor:
    """Reads, prepares and predicts whole videos with one network.

    Args:
        network: with weights; set to evaluation mode.
        inferer: from a prepared video (1, C, frames, H, W) and the network to a prediction.
        chain: that cut the clips the network was trained on, with ``training=False``; by default the published one.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer,
        chain: Compose | None = None,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.network, self.inferer = network.to(self.device).eval(), inferer
        self.chain = EchoNetClips(training=False) if chain is None else chain
        self._prepare = uncut(self.chain)

    @torch.no_grad()
    def run(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The item with the prepared video ``image`` and the prediction ``pred``, both without batch axis.

        Args:
            item: ``image``, the path of an AVI, MP4 or DICOM file, and anything else.

        Raises:
            DataError: naming the file, when it does not decode.
        """
        try:
            data = self._prepare(dict(item))
        except RuntimeError as error:
            # MONAI's transforms wrap what goes wrong in them.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, DataError):
                cause = cause.__cause__
            raise (cause or error) from error
        data["pred"] = self.inferer(data["image"][None].to(self.device), self.network)[0].cpu()
        return data


class EFPredictor(VideoPredictor):
    """Predicts ejection fractions.

    Args:
        network: a `custom_networks.nets.mamba3d_regressor.Mamba3DRegressor` with weights.
        chain: see :class:`VideoPredictor`.
        clips: clips spread evenly over a video; None for those of ``stride`` only.
        stride: 1 for every clip that fits, 4 for every fourth; None for those of ``clips`` only.
        batch_size: clips predicted at once.
        pad: ``loop`` or ``zero``, for videos shorter than a clip.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        chain: Compose | None = None,
        clips: int | None = 5,
        stride: int | None = None,
        batch_size: int = 4,
        pad: str = "loop",
        device: torch.device | str = "cpu",
    ):
        chain = EchoNetClips(training=False) if chain is None else chain
        self.protocols = ClipProtocols.of_chain(chain, network.encoder.clip_size[0], clips, stride)
        self._average = AverageClipsd("pred", self.protocols)
        super().__init__(network, ClipInferer(self.protocols, batch_size, pad), chain, device)

    def predict(self, path: str | Path) -> VideoEF:
        """Ejection fraction of one AVI, MP4 or DICOM file.

        Raises:
            DataError: naming the file, when it does not decode.
        """
        found = self._average(self.run({"image": str(path), "file_name": Path(path).name}))
        return VideoEF(
            found["ef_percent_predicted"],
            found["std_over_clips"],
            found["protocols"],
            tuple(found["clip_starts"]),
            tuple(found["pred"].double().tolist()),
        )

    def predict_folder(self, source: str | Path, output_dir: str | Path, existing: str = "error") -> list[str]:
        """Predicts all videos of a folder into ``ef.csv`` and ``ef.json``; see `videos_to_predict` for the arguments.

        Returns:
            Names of the files predicted.
        """
        items = videos_to_predict(source, output_dir, existing=existing, shared_table=TABLE)
        save = SaveEF(output_dir, overwrite=existing == "overwrite")
        save.begin()
        for number, item in enumerate(items):
            save.add(self._average(self.run(item)))
            save.write_now_and_then(number + 1)
        save.write()
        return [item["file_name"] for item in items]


class VentriclePredictor(VideoPredictor):
    """Predicts masks of the left ventricle in every frame.

    Args:
        network: a `custom_networks.nets.mamba3d_segmenter.Mamba3DSegmenter` with weights.
        chain: see :class:`VideoPredictor`.
        window_frames: see `custom_apps.echo.lv_inferer.VentricleInferer`.
        batch_size: windows predicted at once.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        chain: Compose | None = None,
        window_frames: int | None = 32,
        batch_size: int = 2,
        device: torch.device | str = "cpu",
    ):
        inferer = VentricleInferer(network.encoder.clip_size[0], window_frames, batch_size=batch_size)
        super().__init__(network, inferer, chain, device)

    def predict(self, path: str | Path) -> tuple[np.ndarray, LVCurve]:
        """Masks of one file, uint8 (frames, height, width) in the size of its frames, and the curve of the area.

        The curve is measured in the network's frame size.
        """
        found = self.run({"image": str(path)})
        masks = resize_masks(found["pred"][0], found["frame_size"].tolist())
        return masks.numpy(), LVCurve.of(found["pred"][0].numpy(), float(found["fps"]))

    def predict_folder(
        self,
        source: str | Path,
        output_dir: str | Path,
        existing: str = "error",
        kinds: tuple[str, ...] = ("masks", "video", "curve"),
    ) -> list[str]:
        """Predicts all videos of a folder into the files of :class:`SaveLV`; returns the names of the files."""
        items = videos_to_predict(source, output_dir, SaveLV.endings(kinds), existing)
        save = SaveLV(output_dir, *normalization(self.chain), kinds=kinds)
        for item in items:
            save.write(self.run(item))
        return [item["file_name"] for item in items]


def load_network(
    bundle: str | Path, weights: str | Path, overlays: tuple[str, ...] = (), **overrides: Any
) -> tuple[nn.Module, Compose]:
    """Network and chain of the bundle's ``inference.yaml``, with trained weights.

    Args:
        bundle: folder of the bundle.
        weights: ``model.pt`` of a training.
        overlays: names of configurations merged after ``inference.yaml``, such as ``inference_segmentation``.
        overrides: values that replace those of the configuration, such as ``patch_size=8``.

    Raises:
        DataError: naming the weights, when they are missing, unreadable or of another network.
    """
    parser = ConfigParser()
    parser.read_config([str(Path(bundle) / "configs" / f"{name}.yaml") for name in ("inference", *overlays)])
    parser.update({"bundle_root": str(bundle), **overrides})
    network, chain = parser.get_parsed_content("network_def"), parser.get_parsed_content("chain")
    load_weights(network, read_checkpoint(weights), weights)
    return network, chain
