"""Weights of one training as the start of another: what is taken, what stays fresh, and what is refused."""

import pytest
import torch

from custom_networks.nets.umamba import UMambaBot
from custom_networks.nets.umamba2 import UMamba2
from custom_networks.published import CheckpointError, export, load
from custom_networks.published.umamba_transfer import transfer

SIZES = {
    "spatial_dims": 3,
    "in_channels": 1,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 2],
}
RESIDUAL = SIZES | {"n_blocks_per_stage": [1, 2, 1]}
PLAIN = SIZES | {"n_conv_per_stage": [2, 2, 2]}


def network(seed, out_channels=3, **options):
    torch.manual_seed(seed)
    return UMamba2(out_channels=out_channels, **RESIDUAL | options)


def autoencoder_file(source):
    """A file as the authors' pre-training writes it."""
    return {
        "model": {f"encoder.{name}": tensor for name, tensor in export("umamba2", source).items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 5e-5}]},
        "lr_scheduler": {"base_lr": 5e-5},
        "max_accuracy": 0.25,
        "epoch": 199,
    }


def split(state):
    heads = {key for key in state if key.startswith("decoder.heads.")}
    return heads, set(state) - heads


@pytest.mark.parametrize("form", ["weights", "training state", "authors"])
def test_an_autoencoder_gives_all_but_its_heads(form):
    source, target = network(0, out_channels=1), network(1)
    content = {
        "weights": source.state_dict(),
        "training state": {"epoch": 3, "objects": {"network": source.state_dict(), "optimizer": {}}},
        "authors": autoencoder_file(source),
    }[form]
    before = {key: value.clone() for key, value in target.state_dict().items()}
    report = transfer(content, target)
    heads, rest = split(before)
    after = target.state_dict()
    assert all(torch.equal(after[key], source.state_dict()[key]) for key in rest)
    assert all(torch.equal(after[key], before[key]) for key in heads)
    assert set(report.kept) == heads
    assert len(report.ignored) == len(heads)
    assert set(report.matched) == rest


def test_heads_that_fit_are_taken_unless_fresh_ones_are_asked_for():
    source = network(0)
    taken, fresh = network(1), network(1)
    transfer(source.state_dict(), taken)
    report = transfer(source.state_dict(), fresh, heads="fresh")
    key = "decoder.heads.0.weight"
    assert torch.equal(taken.state_dict()[key], source.state_dict()[key])
    assert torch.equal(fresh.state_dict()[key], network(1).state_dict()[key])
    assert key in report.kept
    assert "kept: 4 of decoder" in str(report)


def test_heads_that_must_fit():
    target = network(1)
    before = target.state_dict()["encoder.stem.conv.weight"].clone()
    with pytest.raises(CheckpointError, match=r"decoder\.heads\.0\.weight has shape \(1, 6, 1, 1, 1\)"):
        transfer(network(0, out_channels=1).state_dict(), target, heads="required")
    assert torch.equal(target.state_dict()["encoder.stem.conv.weight"], before), "nothing is changed on an error"
    with pytest.raises(ValueError, match="heads must be one of"):
        transfer({}, target, heads="all")


def test_clicks_and_position_codes_are_optional_on_both_sides():
    clicks = {"bottleneck": "mamba2_cross_click2", "patch_size": [4, 8, 8]}
    plain, interactive = network(0, out_channels=1), network(1, **clicks)
    report = transfer(plain.state_dict(), interactive)
    assert all("bottleneck.c" in key or "heads" in key for key in report.kept)
    assert any("click_encoder" in key for key in report.kept)
    back = transfer(export("umamba2", interactive), network(2))
    assert all("mamba_layer." in name for name in back.ignored)
    assert any("cross_attention" in name for name in back.ignored)
    other = network(3, **clicks)
    transfer(interactive.state_dict(), other)
    assert all(torch.equal(a, b) for a, b in zip(interactive.parameters(), other.parameters(), strict=True))


def test_another_network_is_refused():
    with pytest.raises(CheckpointError, match=r"fit UMamba2: .* missing"):
        transfer(network(0, bottleneck="none").state_dict(), network(1))
    with pytest.raises(CheckpointError, match="unexpected"):
        transfer(network(0).state_dict(), network(1, bottleneck="none"))
    wider = RESIDUAL | {"features_per_stage": [4, 6, 10]}
    with pytest.raises(CheckpointError, match="mismatched"):
        transfer(UMamba2(out_channels=3, **wider).state_dict(), network(1))
    with pytest.raises(CheckpointError, match="expected tensors only"):
        transfer({"epoch": 3}, network(1))


def test_umamba_networks_take_published_names_too():
    torch.manual_seed(0)
    source, target = (UMambaBot(out_channels=3, **PLAIN) for _ in range(2))
    transfer({"network_weights": export("umamba", source), "epoch": 1}, target, heads="required")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize("bottleneck", ["mamba2", "mamba", "none", "mamba2_pe"])
def test_autoencoder_files_need_no_plan(bottleneck, tmp_path):
    source = network(0, out_channels=1, bottleneck=bottleneck).eval()
    torch.save(autoencoder_file(source), tmp_path / "dae.pth")
    loaded, report = load("umamba2", tmp_path / "dae.pth")
    assert report.complete
    image = torch.randn(1, 1, 4, 8, 8)
    torch.testing.assert_close(loaded(image), source(image), rtol=0, atol=0)


def test_shapes_that_tell_no_network():
    with pytest.raises(CheckpointError, match="carries no plan"):
        load("umamba2", {"model": {"weight": torch.zeros(1)}})
    clicks = network(0, bottleneck="mamba2_click", patch_size=[4, 8, 8])
    with pytest.raises(CheckpointError, match="give `network`, `patch_size`"):
        load("umamba2", autoencoder_file(clicks))
