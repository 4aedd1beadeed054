"""One configuration of a plan: spacing, patch, normalization, resampling and network topology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError

PLAIN_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL_UNET = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
IMPORT_PATHS = {"PlainConvUNet": PLAIN_UNET, "ResidualEncoderUNet": RESIDUAL_UNET}

DATA_RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LABEL_RESAMPLING = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
LOGIT_RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}

TOPOLOGY_KEYS = ("features_per_stage", "strides", "kernel_sizes", "n_conv_per_stage_decoder")


@dataclass(frozen=True)
class Configuration:
    """What one configuration (``2d``, ``3d_fullres``, …) fixes. All axes are in the order of prepared arrays.

    Attributes:
        name: key of the configuration in the plan.
        data_identifier: folder of its prepared arrays.
        spacing: target spacing in mm; two values in 2D, where the first axis keeps its own.
        patch_size: training patch in voxels, as long as ``spacing``.
        batch_size: patches in a batch.
        median_image_size_in_voxels: median case at the target spacing.
        normalization_schemes: nnU-Net's scheme name for each channel.
        use_mask_for_norm: for each channel, whether statistics come from the non-zero region only.
        batch_dice: whether Dice sums run over the batch.
        strides: for each stage, stride on each axis; ones first.
        kernel_sizes: for each stage, kernel on each axis.
        features_per_stage: channels of each stage.
        n_conv_per_stage: convolutions, or residual blocks, of each encoder stage.
        n_conv_per_stage_decoder: convolutions of each decoder stage, one stage fewer.
        network_class_name: import path of the planned network.
        residual_encoder: whether ``n_conv_per_stage`` counts residual blocks.
        network_arguments: further constructor arguments of the planned network, as stored.
        kw_requires_import: names among them whose values are import paths.
        resampling_fn_data, resampling_fn_seg, resampling_fn_probabilities: nnU-Net's names of the resampling rules;
            their arguments are in the items with ``_kwargs`` added.
        previous_stage: in a cascade, the configuration whose result is an input.
        preprocessor_name: nnU-Net's name of the preprocessor.
    """

    name: str
    data_identifier: str
    spacing: list[float]
    patch_size: list[int]
    batch_size: int
    median_image_size_in_voxels: list[float]
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    batch_dice: bool
    strides: list[list[int]]
    kernel_sizes: list[list[int]]
    features_per_stage: list[int]
    n_conv_per_stage: list[int]
    n_conv_per_stage_decoder: list[int]
    network_class_name: str = PLAIN_UNET
    residual_encoder: bool = False
    network_arguments: dict[str, Any] = field(default_factory=dict)
    kw_requires_import: list[str] = field(default_factory=list)
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = field(default_factory=lambda: dict(DATA_RESAMPLING))
    resampling_fn_seg: str = "resample_data_or_seg_to_shape"
    resampling_fn_seg_kwargs: dict[str, Any] = field(default_factory=lambda: dict(LABEL_RESAMPLING))
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = field(default_factory=lambda: dict(LOGIT_RESAMPLING))
    previous_stage: str | None = None
    preprocessor_name: str = "DefaultPreprocessor"

    def __post_init__(self) -> None:
        stages, axes = len(self.strides), len(self.patch_size)
        lengths = {
            "spacing": (len(self.spacing), axes),
            "use_mask_for_norm": (len(self.use_mask_for_norm), len(self.normalization_schemes)),
            "kernel_sizes": (len(self.kernel_sizes), stages),
            "features_per_stage": (len(self.features_per_stage), stages),
            "n_conv_per_stage": (len(self.n_conv_per_stage), stages),
            "n_conv_per_stage_decoder": (len(self.n_conv_per_stage_decoder), stages - 1),
        }
        for item, (length, expected) in lengths.items():
            if length != expected:
                raise ValueError(f"configuration '{self.name}': {item} has {length} entries, expected {expected}")
        if axes not in (2, 3) or any(len(row) != axes for row in (*self.strides, *self.kernel_sizes)):
            raise ValueError(
                f"configuration '{self.name}': patch_size, strides and kernel_sizes differ in axes, expected 2 or 3"
            )
        for axis, size in enumerate(self.patch_size):
            divisor = 1
            for stride in self.strides:
                divisor *= stride[axis]
            if size % divisor:
                problem = f"patch_size is {size} on axis {axis}, expected a multiple of {divisor}"
                raise ValueError(f"configuration '{self.name}': {problem}")

    @property
    def spatial_dims(self) -> int:
        """2 or 3: axes of a patch."""
        return len(self.patch_size)

    @classmethod
    def from_dict(cls, name: str, entry: Mapping[str, Any], path: str | Path = "plans.json") -> Configuration:
        """A configuration from its entry in a plan file (inheritance resolved), either layout.

        Raises:
            DataError: when it is incomplete or contradicts itself.
        """
        entry = dict(entry)
        try:
            topology = _topology(entry)
            known = {item.name for item in fields(cls)} - {"name"}
            return cls(name=name, **{key: value for key, value in entry.items() if key in known} | topology)
        except KeyError as error:
            raise DataError(path, f"configuration '{name}' lacks {error}", "an entry as nnU-Net writes it") from error
        except TypeError as error:
            missing = str(error).rpartition(": ")[2]
            raise DataError(path, f"configuration '{name}' lacks {missing}", "an entry as nnU-Net writes it") from error
        except ValueError as error:
            raise DataError(path, str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Entry of a plan file in the later layout (v2.3 on), network under ``architecture``."""
        architecture = {item.name for item in fields(self) if item.name in _ARCHITECTURE}
        entry = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in architecture}
        del entry["name"]
        if self.previous_stage is None:
            del entry["previous_stage"]
        arguments = {
            "n_stages": len(self.strides),
            "features_per_stage": self.features_per_stage,
            "kernel_sizes": self.kernel_sizes,
            "strides": self.strides,
            "n_blocks_per_stage" if self.residual_encoder else "n_conv_per_stage": self.n_conv_per_stage,
            "n_conv_per_stage_decoder": self.n_conv_per_stage_decoder,
        }
        entry["architecture"] = {
            "network_class_name": self.network_class_name,
            "arch_kwargs": arguments | self.network_arguments,
            "_kw_requires_import": self.kw_requires_import,
        }
        return entry


_ARCHITECTURE = {
    "network_class_name",
    "residual_encoder",
    "network_arguments",
    "kw_requires_import",
    "n_conv_per_stage",
    *TOPOLOGY_KEYS,
}


def _topology(entry: dict[str, Any]) -> dict[str, Any]:
    """The network items of an entry, of whichever layout."""
    if "architecture" not in entry:
        return _topology_of_v21(entry)
    architecture = entry["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    arguments.pop("n_stages", None)
    residual = "n_blocks_per_stage" in arguments
    return {
        **{key: arguments.pop(key) for key in TOPOLOGY_KEYS},
        "n_conv_per_stage": arguments.pop("n_blocks_per_stage" if residual else "n_conv_per_stage"),
        "residual_encoder": residual,
        "network_class_name": architecture["network_class_name"],
        "network_arguments": arguments,
        "kw_requires_import": list(architecture.get("_kw_requires_import", [])),
    }


def _topology_of_v21(entry: dict[str, Any]) -> dict[str, Any]:
    """The network items of the layout of v2.1, where widths follow from a first and a largest one."""
    strides = entry["pool_op_kernel_sizes"]
    first, largest = entry["UNet_base_num_features"], entry["unet_max_num_features"]
    class_name = entry["UNet_class_name"]
    residual = "ResidualEncoder" in class_name
    return {
        "strides": strides,
        "kernel_sizes": entry["conv_kernel_sizes"],
        "features_per_stage": [min(first * 2**stage, largest) for stage in range(len(strides))],
        "n_conv_per_stage": entry["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": entry["n_conv_per_stage_decoder"],
        "network_class_name": IMPORT_PATHS.get(class_name, class_name),
        "residual_encoder": residual,
        **default_network_arguments(len(entry["patch_size"])),
    }


def default_network_arguments(spatial_dims: int) -> dict[str, Any]:
    """``network_arguments`` and ``kw_requires_import`` that nnU-Net's planners write."""
    return {
        "network_arguments": {
            "conv_op": f"torch.nn.modules.conv.Conv{spatial_dims}d",
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{spatial_dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
