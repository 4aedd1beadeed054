"""Prediction of whole cases from files, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn

from custom_apps.seg.case_export import RestoreSegmentationd, SaveImageCased
from custom_apps.seg.case_lists import CaseItem, cases_to_predict
from custom_apps.seg.case_loading import LoadImageCased, PreprocessCased
from custom_apps.seg.case_times import CaseTimes
from custom_apps.seg.component_filter import FilterComponentsd, LabelMapFilter
from custom_apps.seg.model_folder import ModelFolder, ensemble
from custom_apps.seg.sliding_window import PatchwiseInferer

PROBABILITIES = "probabilities"
TIMES_FILE = "prediction_times.csv"


class CasePredictor:
    """Reads, prepares, predicts and restores whole cases: what ``inference.yaml`` does, as a Python object.

    Args:
        model: plan and labels.
        network: with weights; set to evaluation mode.
        inferer: by default a :class:`PatchwiseInferer` of the model's patch size, without mirroring.
        device: where the network runs.
        component_filter: applied to every label map.
        probabilities: compute and store probabilities too.
    """

    def __init__(
        self,
        model: ModelFolder,
        network: nn.Module,
        inferer: Inferer | None = None,
        device: torch.device | str = "cpu",
        component_filter: LabelMapFilter | None = None,
        probabilities: bool = False,
    ):
        self.device = torch.device(device)
        self.model, self.network = model, network.to(self.device).eval()
        self.inferer = PatchwiseInferer(model.configuration.patch_size) if inferer is None else inferer
        self.probabilities_key = PROBABILITIES if probabilities else None
        reader = model.dataset_json.get("overwrite_image_reader_writer")
        self._before = [LoadImageCased("image", reader=reader), PreprocessCased("image", model)]
        self._after = [RestoreSegmentationd("pred", model, self.probabilities_key)]
        if component_filter is not None:
            self._after.append(FilterComponentsd("pred", component_filter))

    @classmethod
    def from_folders(cls, folders: str | Path | Sequence[str | Path], **options: Any) -> CasePredictor:
        """A predictor from trained models on disk, several of them (the folds) averaged.

        Args:
            folders: folder with ``model.pt``, ``plans.json``, ``dataset.json``, ``model.json``; or several, of which
                the first says how to prepare images.
            options: further constructor arguments.

        Raises:
            DataError: naming the file that is missing, unreadable or of another network.
        """
        folders = [folders] if isinstance(folders, (str, Path)) else list(folders)
        networks = ensemble(folders)
        return cls(ModelFolder.read(folders[0]), networks.networks[0] if len(folders) == 1 else networks, **options)

    def predict(self, files: str | Path | Sequence[str | Path]) -> np.ndarray:
        """Label map (z, y, x), int16, of one case.

        Args:
            files: the image, or one file per channel.
        """
        paths = [files] if isinstance(files, (str, Path)) else list(files)
        return np.asarray(self._predict({"image": [str(path) for path in paths]})["pred"])[0]

    def predict_folder(
        self, images_dir: str | Path, output_dir: str | Path, existing: str = "error", part: int = 0, parts: int = 1
    ) -> list[str]:
        """Predicts a folder of images into ``{case}{ending}`` files, with a table of seconds and memory beside them.

        Args:
            images_dir: images in nnU-Net naming, or a data set whose ``imagesTs`` are meant.
            output_dir: made when missing.
            existing: ``error``, ``skip`` or ``overwrite``, for cases predicted before.
            part: share of the cases, when several processes divide them.
            parts: number of shares.

        Returns:
            Names of the cases predicted.

        Raises:
            DataError: naming the file, for unusable images and earlier predictions; naming the case, for non-finite
                logits.
        """
        items = cases_to_predict(images_dir, self.model.folder, output_dir, existing, part, parts)
        save = SaveImageCased("pred", output_dir, None, existing == "overwrite", self.probabilities_key)
        suffix = "" if parts == 1 else f"-{part}"
        times = CaseTimes(Path(output_dir) / TIMES_FILE.replace(".csv", f"{suffix}.csv"))
        for item in items:
            times.start()
            save(self._predict(item))
            times.stop([item["case"]])
        if items:
            times.write()
        return [item["case"] for item in items]

    @torch.no_grad()
    def _predict(self, item: CaseItem) -> dict[str, Any]:
        data: dict[str, Any] = dict(item)
        for transform in self._before:
            data = transform(data)
        data["pred"] = self.inferer(data["image"][None].to(self.device), self.network)[0]
        for transform in self._after:
            data = transform(data)
        return data
