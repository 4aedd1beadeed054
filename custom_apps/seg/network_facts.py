"""What a program that runs an exported segmentation network must know."""

from __future__ import annotations

from monai.bundle import ConfigParser

from custom_apps.common.export_command import NetworkFacts
from custom_apps.seg.model_folder import ModelFolder


def network_facts(parser: ConfigParser) -> NetworkFacts:
    """Facts of the model of an inference configuration; axes and spacing are in the order of prepared arrays."""
    parser["model::default"] = None
    model: ModelFolder = parser.get_parsed_content("model")
    chosen = model.configuration
    names = [f"LoadImage{'' if model.reader is None else f' ({model.reader})'}", "transpose and crop to content"]
    names += [f"normalize channel {i}: {scheme}" for i, scheme in enumerate(chosen.normalization_schemes)]
    return NetworkFacts(
        [model.in_channels, *map(int, chosen.patch_size)],
        [float(side) for side in chosen.spacing],
        list(model.dataset_json["labels"]),
        [*names, "resample to spacing_mm"],
    )
