"""A trained model on disk: weights, and the plan that says how to prepare images for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom_apps.common.checkpoint_files import install_weights, load_weights, read_checkpoint
from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file, write_json
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.ensemble import EnsembleNetwork
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.left_right import left_right_axis, left_right_pairs
from custom_apps.seg.mirroring import LabelExchange
from custom_apps.seg.network import build_network, with_network
from custom_apps.seg.plans import Plans
from custom_apps.seg.published_labels import published_description
from custom_networks.published.reading import state_dict_of
from custom_networks.published.umamba_autoencoder import is_autoencoder

WEIGHTS_FILE = "model.pt"
PLANS_FILE = "plans.json"
DATASET_FILE = "dataset.json"
MODEL_FILE = "model.json"


@dataclass(frozen=True)
class ModelFolder:
    """What a network's folder says about it.

    Attributes:
        folder: holds ``model.pt`` (a flat state dict), ``plans.json``, ``dataset.json`` and ``model.json``.
        plans: the plan; the configuration in use names one of our networks.
        configuration: the configuration the network was trained with.
        dataset_json: description of the training data set.
        labels: its labels.
        mirror_axes: axes of the network's input that may be mirrored at test time.
        left_right_pairs: labels that trade places in a mirrored patient, as the network was trained.
    """

    folder: Path
    plans: Plans
    configuration: Configuration
    dataset_json: dict[str, Any]
    labels: LabelManager
    mirror_axes: tuple[int, ...]
    left_right_pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, folder: str | Path) -> ModelFolder:
        """Reads the three JSON files of a folder; weights are not touched.

        Raises:
            DataError: when one is missing or broken.
        """
        folder = Path(folder)
        model, dataset = _read_json(folder / MODEL_FILE), _read_json(folder / DATASET_FILE)
        plans = Plans.read(folder / PLANS_FILE)
        if "configuration" not in model:
            raise DataError(folder / MODEL_FILE, "lacks 'configuration'", "the name of a configuration of the plan")
        configuration = plans.configuration(model["configuration"])
        labels = LabelManager.from_dataset_json(dataset, folder / DATASET_FILE)
        axes = tuple(model.get("mirror_axes", range(configuration.spatial_dims)))
        try:
            pairs = left_right_pairs(labels, model.get("left_right_pairs"))
        except (TypeError, ValueError) as error:
            raise DataError(folder / MODEL_FILE, f"'left_right_pairs' is broken ({error})") from error
        return cls(folder, plans, configuration, dataset, labels, axes, pairs)

    def write(self, **facts: Any) -> None:
        """Writes the three JSON files.

        Args:
            facts: further plain values for ``model.json``, such as the fold.
        """
        self.plans.with_configuration(self.configuration).write(self.folder / PLANS_FILE)
        write_json(self.dataset_json, self.folder / DATASET_FILE)
        model = {"configuration": self.configuration.name, "mirror_axes": list(self.mirror_axes)}
        if self.left_right_pairs:
            model["left_right_pairs"] = [list(pair) for pair in self.left_right_pairs]
        model |= facts
        write_json(model, self.folder / MODEL_FILE)

    @property
    def in_channels(self) -> int:
        """Image channels."""
        return len(self.dataset_json.get("channel_names", self.dataset_json.get("modality")))

    @property
    def exchange(self) -> LabelExchange | None:
        """What test-time mirroring must exchange; None for a network whose labels have no sides."""
        axis = left_right_axis(self.plans, self.configuration)
        return LabelExchange(self.left_right_pairs, axis) if self.left_right_pairs and axis is not None else None

    @property
    def reader(self) -> str | None:
        """nnU-Net's name of the reader that the data set forces, if it does."""
        return self.dataset_json.get("overwrite_image_reader_writer")

    def network(self, deep_supervision: bool = False) -> nn.Module:
        """The network with fresh weights."""
        return build_network(self.configuration, self.in_channels, self.labels.num_segmentation_heads, deep_supervision)


def open_model(folder: str | Path | Sequence[str | Path], default: str | Path | None = None) -> ModelFolder:
    """Reads a model folder.

    Args:
        folder: the folder, or the folders of an ensemble, of which the first is read.
        default: read instead while ``folder`` has no ``model.json``, so that a bundle without trained weights can be
            inspected and verified.

    Raises:
        DataError: when neither folder holds a model, or files are broken.
    """
    first = Path(folder if isinstance(folder, (str, Path)) else next(iter(folder)))
    if not (first / MODEL_FILE).is_file() and default is not None:
        return ModelFolder.read(default)
    return ModelFolder.read(first)


def ensemble(folders: Sequence[str | Path], weights: str = WEIGHTS_FILE) -> EnsembleNetwork:
    """The networks of several model folders, with their weights, as one network.

    Raises:
        DataError: naming the file that is missing, unreadable or of another network, or a folder whose labels or
            channels are not those of the first.
    """
    models = [ModelFolder.read(folder) for folder in folders]
    networks = []
    for model in models:
        if model.labels.declared != models[0].labels.declared or model.in_channels != models[0].in_channels:
            raise DataError(model.folder / DATASET_FILE, "other labels or channels", f"those of {models[0].folder}")
        networks.append(model.network())
        load_weights(networks[-1], read_checkpoint(model.folder / weights), model.folder / weights)
    return EnsembleNetwork(networks)


def install_published(network: nn.Module, content: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Writes a converted checkpoint as model files of the bundle; of an autoencoder, ``model.pt`` alone.

    Args:
        network: our network, filled with the published weights.
        content: the checkpoint, whose plan and data-set description are written beside the weights.
        folder: where to write; must not hold a model yet.

    Returns:
        The files written.

    Raises:
        DataError: if the folder already holds weights, or the checkpoint carries no plan.
    """
    folder = Path(folder)
    if (folder / WEIGHTS_FILE).exists():
        raise DataError(folder / WEIGHTS_FILE, "already there and not overwritten", "a folder without a model")
    if "model" in content and is_autoencoder(state_dict_of(content, ("model",))):
        return install_weights(network, content, folder)
    if "init_args" not in content:
        raise DataError(folder, "the checkpoint carries no plan", "a checkpoint written by an nnU-Net trainer")
    init = content["init_args"]
    plans = Plans.from_dict(init["plans"], "plans of the checkpoint")
    options = {"bottleneck": getattr(network, "bottleneck_name", None)}
    configuration = with_network(plans.configuration(init["configuration"]), type(network).__name__, **options)
    axes = content.get("inference_allowed_mirroring_axes")
    description, pairs = published_description(init["dataset_json"])
    labels = LabelManager.from_dataset_json(description, "dataset.json of the checkpoint")
    model = ModelFolder(
        folder,
        plans,
        configuration,
        description,
        labels,
        tuple(range(configuration.spatial_dims) if axes is None else axes),
        left_right_pairs(labels, pairs),
    )
    with partial_file(folder / WEIGHTS_FILE) as temporary:
        torch.save(network.state_dict(), temporary)
    model.write(trainer=str(content.get("trainer_name")), fold=init.get("fold"))
    return [folder / name for name in (WEIGHTS_FILE, PLANS_FILE, DATASET_FILE, MODEL_FILE)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "a file of a trained model") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", "a file of a trained model") from error
    if not isinstance(content, dict):
        raise DataError(path, f"holds a {type(content).__name__}", "a JSON object")
    return content
