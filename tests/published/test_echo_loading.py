"""E-ViM3 checkpoints: every form of file, hand-over of the encoder, position tables of other clip sizes."""

import pytest
import torch

from custom_networks.layers.enclosure_tokens import EnclosureLayout
from custom_networks.published import CheckpointError, echo, export, load
from custom_networks.published.echo_weights import resize_position_table

ENCODER = {
    "clip_size": [4, 9, 9],
    "patch_size": 3,
    "embed_dim": 6,
    "num_macro_blocks": 1,
    "register_planes": [1, 0, 1],
}
EF = "echo_dynamic_video_mamba_3d"
MAE = "pretrain_video_mamba_3d_efficient"


def network(name=EF, seed=0, **changes):
    torch.manual_seed(seed)
    extra = {"decoder_blocks": 1} if name == MAE else {}
    return echo.build(name, **ENCODER | extra | changes).eval()


@pytest.fixture(scope="module")
def pretrained():
    """Content of a file as the published trainer writes it: online weights and their average differ."""
    online, averaged = network(MAE, 1), network(MAE, 2)
    average = {f"ema_model.{key}": value for key, value in export("echo", averaged).items()}
    return {
        "model": export("echo", online),
        "ema_container": {"initted": torch.tensor([True]), "step": torch.tensor([7])} | average,
        "scaler": None,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "lr_scheduler": {"T_cur": 4},
        "last_val_metrics": {"mse_loss": 0.5},
        "epoch": 3,
    }


def patch_weight(net):
    return net.encoder.patch_embedding.projection.weight


@pytest.mark.parametrize("container", ["ema_container", "ema_model"])
def test_online_or_averaged_weights_of_a_file(pretrained, tmp_path, container):
    content = {container if k == "ema_container" else k: v for k, v in pretrained.items()}
    torch.save(content, tmp_path / "checkpoint_last_epoch_3.pth")
    arguments = {"network": MAE, "decoder_blocks": 1} | ENCODER
    online, report = load("echo", tmp_path / "checkpoint_last_epoch_3.pth", **arguments)
    averaged, _ = load("echo", tmp_path / "checkpoint_last_epoch_3.pth", weights="ema", **arguments)
    assert report.complete
    assert torch.equal(patch_weight(online), patch_weight(network(MAE, 1)))
    assert torch.equal(patch_weight(averaged), patch_weight(network(MAE, 2)))
    bare, _ = load("echo", pretrained["model"], **arguments)
    assert torch.equal(patch_weight(bare), patch_weight(online))


def test_no_average_in_the_file_and_unknown_names(pretrained):
    with pytest.raises(CheckpointError, match="holds no moving average; it has model, epoch"):
        load("echo", {"model": pretrained["model"], "epoch": 3}, weights="ema", network=MAE, **ENCODER)
    with pytest.raises(CheckpointError, match="weights must be one of"):
        load("echo", pretrained, weights="best", network=MAE, **ENCODER)
    with pytest.raises(CheckpointError, match="E-ViM3 has the networks"):
        load("echo", pretrained, network="resnet", **ENCODER)


@pytest.mark.parametrize(
    "name", ["echo_dynamic_video_mamba_3d", "echo_dynamic_video_mamba_3d_seg", "buv_video_mamba_3d"]
)
def test_encoder_is_handed_over_and_heads_stay(pretrained, name):
    fresh, filled = network(name, 5), network(name, 5)
    report = echo.transfer_encoder(pretrained, filled)
    assert not report.missing
    assert not report.unexpected
    assert len(report.matched) == sum(key.startswith("encoder.") for key in filled.state_dict())
    assert {key.split(".")[0] for key in report.ignored} == {
        "decoder_random_patch_mask_maker",
        "encoder_random_patch_mask_maker",
        "pretrain_decoder",
        *(f"pretrain_decoder_{axis}_pos_embed" for axis in "lhw"),
    }
    source = network(MAE, 1).state_dict()
    for key, value in filled.state_dict().items():
        assert torch.equal(value, source[key] if key.startswith("encoder.") else fresh.state_dict()[key]), key
    assert all(not key.startswith("encoder.") for key in report.kept)


def test_files_of_this_project_are_handed_over_too(pretrained, tmp_path):
    source = network(MAE, 1)
    training = {
        "epoch": 2,
        "objects": {
            "network": source.state_dict(),
            "average": {"step": 9, "started": True, "network": network(MAE, 2).state_dict()},
        },
    }
    torch.save(source.state_dict(), tmp_path / "model.pt")
    flat, online, averaged = network(seed=5), network(seed=5), network(seed=5)
    echo.transfer_encoder(tmp_path / "model.pt", flat)
    echo.transfer_encoder(training, online)
    echo.transfer_encoder(training, averaged, weights="ema")
    assert torch.equal(patch_weight(flat), patch_weight(source))
    assert torch.equal(patch_weight(online), patch_weight(source))
    assert torch.equal(patch_weight(averaged), patch_weight(network(MAE, 2)))


def test_incomplete_or_foreign_files_change_nothing(pretrained):
    target, before = network(seed=5), network(seed=5).state_dict()
    incomplete = {k: v for k, v in pretrained["model"].items() if k != "net.w_pos_embed"}
    with pytest.raises(CheckpointError, match=r"1 missing(.|\n)*missing: encoder.positions.columns"):
        echo.transfer_encoder(incomplete, target)
    with pytest.raises(CheckpointError, match="does not fit"):
        echo.transfer_encoder({"conv1.weight": torch.zeros(1)}, target, strict=False)
    with pytest.raises(CheckpointError, match="1 unexpected"):
        echo.transfer_encoder(pretrained["model"] | {"net.extra": torch.zeros(1)}, target, strict=False)
    with pytest.raises(CheckpointError, match=r"encoder.positions.frames: net.l_pos_embed has shape \(1, 7, 1, 1, 6\)"):
        echo.transfer_encoder(pretrained, network(clip_size=[6, 9, 9]), strict=False)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())
    report = echo.transfer_encoder(incomplete, target, strict=False)
    assert report.missing == ["encoder.positions.columns"]
    assert "kept: " in str(report)


def test_position_tables_of_another_clip_size_and_other_planes(pretrained):
    target = network(clip_size=[6, 15, 9], register_planes=[2, 0, 1])
    # The register token is there in both, so only the tables differ.
    report = echo.transfer_encoder(pretrained, target, interpolate_positions=True, register_planes_of_file=[1, 0, 1])
    assert not report.missing
    source = network(MAE, 1).encoder.positions
    assert torch.equal(target.encoder.positions.columns, source.columns)
    old, new = source.rows.flatten(0, 3), target.encoder.positions.rows.flatten(0, 3)
    assert torch.equal(new[[0, -1]], old[[0, -1]])
    assert new.shape == (7, 6)
    assert target(torch.randn(1, 1, 6, 15, 9)).isfinite().all()
    # The register planes are not in the file; the wrong number is refused when a table is too short for it.
    with pytest.raises(CheckpointError, match="cannot have 9 register planes"):
        echo.transfer_encoder(pretrained, target, interpolate_positions=True, register_planes_of_file=[9, 0, 1])


def test_position_rows_keep_their_meaning():
    """A table that is linear in the position of the patch stays so; plane rows are copied."""
    old, new = EnclosureLayout((8, 1, 1), (2, 0, 0)), EnclosureLayout((4, 1, 1), (2, 0, 0))
    table = torch.zeros(old.size[0], 1)
    patches = [i for i in range(old.size[0]) if i not in old.planes[0]]
    table[patches, 0] = torch.arange(8.0)
    table[old.planes[0], 0] = torch.tensor([10.0, 20.0, 30.0, 40.0])
    resized = resize_position_table(table, 2, new.size[0], 2)[:, 0]
    assert resized[new.planes[0]].tolist() == [10, 20, 30, 40]
    # Centers of four wide patches in units of the eight narrow ones.
    assert resized[[i for i in range(new.size[0]) if i not in new.planes[0]]].tolist() == [0.5, 2.5, 4.5, 6.5]
    more = resize_position_table(table, 2, 4 + 5, 3)[:, 0]
    assert more[EnclosureLayout((4, 1, 1), (3, 0, 0)).planes[0]].tolist() == [10, 17.5, 25, 32.5, 40]


@pytest.mark.parametrize("mixer", ["mamba2", "bimamba_v1", "bimamba_v2", "bimamba2"])
def test_names_of_every_mixer_and_enclosure_round_trip(mixer):
    arguments = {"mixer": mixer, "embed_dim": 8, "register_planes": [0, 1, 0]}
    for enclosure in ("separate", "group_unified", "all_unified"):
        net = network(EF, 1, enclosure=enclosure, **arguments)
        state = export("echo", net)
        assert len(state) == len(net.state_dict())
        assert not [name for name in state if "reverse" in name or "core" in name or ".layers." in name]
        again, report = load("echo", state, network=EF, **ENCODER | arguments | {"enclosure": enclosure})
        assert report.complete
        assert all(
            torch.equal(a, b) for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True)
        )


def test_shared_tokens_with_other_axes_of_size_one():
    net = network(EF, 1, enclosure="all_unified")
    torch.nn.init.normal_(net.encoder.enclosure.token)
    state = export("echo", net)
    state["net.global_token"] = state["net.global_token"].flatten()[None]
    again, _ = load("echo", state, network=EF, **ENCODER | {"enclosure": "all_unified"})
    assert torch.equal(again.encoder.enclosure.token, net.encoder.enclosure.token)


def test_unread_skip_weight_of_the_published_bidirectional_mixer():
    net = network(mixer="bimamba2", embed_dim=8)
    state = export("echo", net)
    stored = {name.replace(".A_log_rev", ".D_rev"): torch.ones(8) for name in state if name.endswith(".A_log_rev")}
    assert len(stored) == 6
    assert load("echo", state | stored, network=EF, **ENCODER | {"mixer": "bimamba2", "embed_dim": 8})[1].complete


@pytest.mark.parametrize(
    ("name", "tensors", "extra"),
    [(MAE, 546, {}), (EF, 415, {}), ("echo_dynamic_video_mamba_3d_seg", 409, {}), ("buv_video_mamba_3d", 423, {})],
)
def test_number_of_tensors_of_the_published_files(name, tensors, extra):
    with torch.device("meta"):
        assert len(export("echo", echo.build(name, **extra))) == tensors


def test_published_configuration():
    model = {
        "model_choice": EF,
        "patch_size": 4,
        "time_patch_size": 2,
        "embed_dim": 192,
        "unified_reg_num": 2,
        "l_reg_num": 1,
        "macro_block_num": 6,
        "head_type": "camus_ef",
        "enclosure_type": "all_unified",
        "use_pos_embed": False,
    }
    arguments = echo.arguments_from_config(model, {"length": 64, "resize_to": 112})
    assert arguments["register_planes"] == [2, 2, 2]
    assert arguments["clip_size"] == [64, 112, 112]
    assert (arguments["aggregation"], arguments["final_dim"]) == ("all_mean", 192)
    assert arguments["initial_output"] == 44.412
    with torch.device("meta"):
        built = echo.build(**arguments)
    assert built.encoder.enclosure.kind == "all_unified"
    assert "encoder.positions.frames" not in dict(built.named_parameters())
    with pytest.raises(CheckpointError, match="serial"):
        echo.arguments_from_config(model | {"mamba_3d_forward_type": "parallel"}, {"length": 64, "resize_to": 112})
