"""Published checkpoints: full nnU-Net files, prefixes, duplicates, and what must be refused."""

import numpy as np
import pytest
import torch

from custom_networks.published import CheckpointError, export, load
from custom_networks.published.nnunet_plan import architecture_of, resolve_configuration
from tests.nets_contract.published_plans import CT_3D, plan_2d, resenc

SMALL = {
    "spatial_dims": 2,
    "in_channels": 2,
    "out_channels": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[3, 3]] * 3,
    "strides": [[1, 1], [2, 2], [2, 2]],
    "n_conv_per_stage": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
}

OLD_PLAN = {
    "configurations": {
        "2d": {
            "patch_size": [16, 24],
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "conv_kernel_sizes": [[3, 3]] * 3,
            "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
            "n_conv_per_stage_encoder": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
        },
        "2d_wide": {"inherits_from": "2d", "unet_max_num_features": 6},
    }
}


@pytest.fixture
def checkpoint():
    """A file's content as nnU-Net's U-Mamba trainers write it, non-tensor values included."""
    torch.manual_seed(0)
    from custom_networks.nets.umamba import UMambaEnc

    arguments = SMALL | {"features_per_stage": [4, 8, 8], "input_size": [16, 24]}
    network = UMambaEnc(**arguments)
    content = {
        "network_weights": {f"module._orig_mod.{k}": v for k, v in export("umamba", network).items()},
        "optimizer_state": {"state": {}, "param_groups": []},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch_start": [1.0]},
        "_best_ema": np.float64(0.75),
        "current_epoch": 1000,
        "init_args": {
            "plans": OLD_PLAN,
            "configuration": "2d",
            "fold": 0,
            "dataset_json": {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "x": 1, "y": 2}},
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainerUMambaEncNoAMP",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    return network.eval(), content


def test_nnunet_file_needs_no_configuration(checkpoint, tmp_path):
    network, content = checkpoint
    torch.save(content, tmp_path / "checkpoint_final.pth")
    loaded, report = load("umamba", tmp_path / "checkpoint_final.pth")
    assert report.complete
    assert type(loaded).__name__ == "UMambaEnc"
    x = torch.randn(1, 2, 16, 24)
    torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("system", "network", "plan", "entries"),
    [
        ("umamba", "UMambaBot", CT_3D, 397),
        ("umamba", "UMambaEnc", CT_3D | {"input_size": [40, 224, 192]}, 518),
        ("umamba", "UMambaBot", plan_2d(7, 1, 14), 479),
        ("umamba", "UMambaEnc", plan_2d(7, 1, 14) | {"input_size": [320, 320]}, 556),
        ("umamba2", "UMambaBot2", resenc([1, 1, 1], 1, 47), 1170),
        ("umamba2", "UMambaBot2_CrossAttn_Click2", resenc([1, 1, 1], 1, 3) | {"patch_size": [160, 288, 288]}, 1246),
    ],
)
def test_export_has_every_entry_of_the_published_file(system, network, plan, entries):
    from custom_networks.published import SYSTEMS

    with torch.device("meta"):
        built = SYSTEMS[system].build(network, **plan)
    assert len(export(system, built)) == entries


def test_unknown_missing_reshaped_and_disagreeing_entries_are_errors(checkpoint):
    network, _ = checkpoint
    config = {"network": "UMambaEnc", "input_size": [16, 24], **SMALL, "features_per_stage": [4, 8, 8]}
    state = export("umamba", network)
    assert load("umamba", state, **config)[1].complete

    with pytest.raises(CheckpointError, match=r"1 unexpected(.|\n)*unexpected: surprise"):
        load("umamba", state | {"surprise": torch.zeros(1)}, **config)
    missing = {k: v for k, v in state.items() if "decoder.seg_layers.0.weight" not in k}
    with pytest.raises(CheckpointError, match=r"1 missing(.|\n)*missing: decoder\.heads\.0\.weight"):
        load("umamba", missing, **config)
    with pytest.raises(CheckpointError, match=r"decoder\.seg_layers\.1\.bias has shape \(5,\), the network \(3,\)"):
        load("umamba", state | {"decoder.seg_layers.1.bias": torch.zeros(5)}, **config)
    name = "decoder.encoder.stem.0.conv1.weight"
    with pytest.raises(CheckpointError, match=f"its duplicate {name} disagree"):
        load("umamba", state | {name: state[name] + 1}, **config)


def test_checkpoint_of_another_trainer_or_system(checkpoint):
    _, content = checkpoint
    with pytest.raises(CheckpointError, match="'nnUNetTrainer' is not one of U-Mamba"):
        load("umamba", content | {"trainer_name": "nnUNetTrainer"})
    with pytest.raises(CheckpointError, match="system must be one of"):
        load("resnet", content)
    with pytest.raises(CheckpointError, match="carries no plan"):
        load("umamba", {"network_weights": {}})
    with pytest.raises(CheckpointError, match=r"entry 'epoch' is a int, expected tensors only"):
        load("umamba", {"epoch": 3}, network="UMambaBot", **SMALL)


def test_plans_inherit_and_circles_are_refused():
    wide = resolve_configuration(OLD_PLAN, "2d_wide")
    assert architecture_of(wide)["features_per_stage"] == [4, 6, 6]
    with pytest.raises(KeyError, match="3d_fullres"):
        resolve_configuration(OLD_PLAN, "3d_fullres")
    circle = {"configurations": {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}}
    with pytest.raises(ValueError, match="inherits from itself"):
        resolve_configuration(circle, "a")
