"""From plan to network, and a model folder there and back."""

from dataclasses import replace

import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.configuration import Configuration
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.model_folder import ModelFolder, install_published, open_model
from custom_apps.seg.network import build_network, with_network
from custom_apps.seg.plans import Plans
from custom_networks.published import load
from tests.published.test_loading import checkpoint  # noqa: F401

DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "kidney": 2}, "file_ending": ".nii.gz"}


@pytest.fixture
def configuration():
    return Configuration(
        name="3d_fullres",
        data_identifier="nnUNetPlans_3d_fullres",
        spacing=[1.0, 1.0, 1.0],
        patch_size=[8, 12, 16],
        batch_size=2,
        median_image_size_in_voxels=[8.0, 12.0, 16.0],
        normalization_schemes=["CTNormalization"],
        use_mask_for_norm=[False],
        batch_dice=False,
        strides=[[1, 1, 1], [2, 2, 2]],
        kernel_sizes=[[3, 3, 3]] * 2,
        features_per_stage=[4, 8],
        n_conv_per_stage=[2, 2],
        n_conv_per_stage_decoder=[2],
    )


@pytest.fixture
def plans(configuration):
    content = {
        "dataset_name": "Dataset900_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [8, 12, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {"3d_fullres": configuration.to_dict()},
    }
    return Plans.from_dict(content)


@pytest.mark.parametrize("name", ["UMambaBot", "UMambaEnc"])
@pytest.mark.parametrize("mixer", ["mamba", "mamba2", "none"])
def test_every_network_of_a_plan(configuration, name, mixer):
    network = build_network(with_network(configuration, name, mixer=mixer), 1, 3, deep_supervision=True)
    logits = network(torch.randn(1, 1, 8, 12, 16))
    assert [tuple(level.shape) for level in logits] == [(1, 3, 8, 12, 16)]
    assert any("A_log" in key for key in network.state_dict()) == (mixer != "none")


def test_umamba2_needs_a_residual_encoder_plan(configuration):
    with pytest.raises(ValueError, match="resenc_m"):
        with_network(configuration, "UMamba2")
    residual = replace(configuration, residual_encoder=True)
    for mixer in ("mamba", "mamba2", "none"):
        network = build_network(with_network(residual, "UMamba2", mixer=mixer), 1, 3)
        assert network(torch.randn(1, 1, 8, 12, 16)).shape == (1, 3, 8, 12, 16)
        assert any("A_log" in key for key in network.state_dict()) == (mixer != "none")


def test_plan_files_run_no_foreign_code(configuration):
    with pytest.raises(ValueError, match=r"os\.system"):
        build_network(replace(configuration, network_class_name="os.system"), 1, 3)
    with pytest.raises(ValueError, match="network_name must be one of"):
        with_network(configuration, "nnUNet")


def test_model_folder_there_and_back(configuration, plans, tmp_path):
    labels = LabelManager(DATASET["labels"])
    with_bot = with_network(configuration, "UMambaBot", mixer="none")
    ModelFolder(tmp_path, plans, with_bot, DATASET, labels, (0, 1)).write(fold=3)
    again = open_model(tmp_path)
    assert again.configuration == with_bot
    assert again.mirror_axes == (0, 1)
    assert (again.in_channels, again.labels.num_segmentation_heads) == (1, 3)
    first, second = again.network().state_dict(), build_network(with_bot, 1, 3).state_dict()
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}


def test_missing_and_broken_model_folder(tmp_path):
    with pytest.raises(DataError, match=r"model\.json"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DataError, match=r"model\.json: is not JSON"):
        open_model(tmp_path)


def test_converted_checkpoint_becomes_a_model_folder(checkpoint, plans, tmp_path):  # noqa: F811
    _, content = checkpoint
    configuration = plans.to_dict() | {"configurations": {"2d": _old_entry(content)}}
    content["init_args"]["plans"] = configuration
    network, _ = load("umamba", content)
    install_published(network, content, tmp_path)
    model = open_model(tmp_path)
    assert model.mirror_axes == (0, 1)
    copy = model.network()
    copy.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    x = torch.randn(1, 2, 16, 24)
    assert torch.equal(copy.eval()(x), network(x))
    with pytest.raises(DataError, match="not overwritten"):
        install_published(network, content, tmp_path)


def _old_entry(content: dict) -> dict:
    """A complete v2.1 entry with the topology of the test checkpoint."""
    return content["init_args"]["plans"]["configurations"]["2d"] | {
        "data_identifier": "nnUNetPlans_2d",
        "spacing": [1.0, 1.0],
        "batch_size": 2,
        "median_image_size_in_voxels": [16.0, 24.0],
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [False, False],
        "batch_dice": True,
        "UNet_class_name": "PlainConvUNet",
    }
