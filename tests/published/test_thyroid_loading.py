"""Files of Deblurring MAE: without any configuration, of another size, handed over, and refused."""

import argparse
import copy

import pytest
import torch

from custom_networks.layers.relative_position_bias import resample_bias_table
from custom_networks.layers.sincos_positions import resample_table
from custom_networks.nets.conv_mae import ConvMAE
from custom_networks.nets.conv_vit_classifier import ConvViTClassifier
from custom_networks.nets.unet_decoders import UNet, UNetPlusPlus
from custom_networks.nets.upernet import UPerNet
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published import CheckpointError, export, load
from custom_networks.published.thyroid import transfer_encoder

CONV = {"embed_dims": (6, 8, 12), "depths": (1, 1, 2), "num_heads": 3, "mlp_ratios": (2, 3, 2)}
VIT = {"embed_dim": 12, "depth": 4, "num_heads": 3}
DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}
SIZE = {"in_channels": 1, "image_size": (64, 64)}
# Four blocks for four maps; published files of twelve tell theirs.
TAPS = {"taps": [0, 1, 2, 3]}


def perturbed(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


def conv_mae(**changes):
    return perturbed(ConvMAE(**SIZE | CONV | DECODER | changes))


def vit_mae(**changes):
    return perturbed(ViTMAE(**SIZE | {"patch_size": 16} | VIT | DECODER | changes))


def written(tmp_path, network, **options):
    """A file with everything that the authors' training loop stores."""
    path = tmp_path / "checkpoint-799.pth"
    arguments = argparse.Namespace(mask_ratio=0.6, norm_pix_loss=True, device="cuda", **options)
    torch.save({"model": export("thyroid", network), "epoch": 799, "scaler": {}, "args": arguments}, path)
    return path


@pytest.mark.parametrize(
    ("make", "name", "loss_on"),
    [
        (conv_mae, "dconvmae_convvit_base_patch16", "all"),
        (conv_mae, "convmae_convvit_base_patch16", "hidden"),
        (vit_mae, "dmae_vit_base_patch16", "all"),
        (vit_mae, "mae_vit_base_patch16", "hidden"),
    ],
)
def test_pretraining_file_tells_its_network(make, name, loss_on, tmp_path):
    network = make(mask_ratio=0.6, norm_pix=True, loss_on=loss_on)
    with pytest.raises(CheckpointError, match="does not tell num_heads, decoder_num_heads"):
        load("thyroid", written(tmp_path, network, model=name))
    heads = {"num_heads": 3, "decoder_num_heads": 2}
    loaded, report = load("thyroid", written(tmp_path, network, model=name), **heads)
    assert report.complete
    assert loaded.loss_on == loss_on
    image, noise = torch.randn(2, 1, 64, 64), torch.rand(2, 16)
    for ours, theirs in zip(loaded(image, noise), network(image, noise), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pooling", ["mean", "first_patch"])
def test_classifier_files(pooling):
    network = perturbed(ConvViTClassifier(**SIZE, **CONV, num_classes=3, pooling=pooling))
    loaded, _ = load("thyroid", export("thyroid", network), num_heads=3)
    image = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(loaded(image), network(image))


def upernet(encoder="conv_vit", seed=0, **changes):
    options = CONV if encoder.startswith("conv") else VIT | TAPS
    return perturbed(UPerNet(encoder, **SIZE | options | {"channels": 4, "auxiliary_channels": 3} | changes), seed)


def unet(network=UNetPlusPlus, encoder="conv_vit", **changes):
    options = CONV if encoder == "conv_vit" else VIT | TAPS
    changes = {"channels": [8, 6, 4, 4], "full_size": False} | changes
    return perturbed(network(encoder, **SIZE | options | changes))


SEGMENTERS = {
    "upernet": (upernet, {}),
    "upernet shared positions": (lambda: upernet(relative_positions="shared"), {}),
    "upernet plain": (
        lambda: upernet(relative_positions="none", layer_scale=None, auxiliary_channels=0),
        {"num_heads": 3},
    ),
    "unet++": (unet, {}),
    "unet vit": (lambda: unet(UNet, "vit"), TAPS),
    "unet vit patch 8": (lambda: unet(UNet, "vit", patch_size=8), TAPS),
}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmentation_files_tell_their_network(name, tmp_path):
    make, given = SEGMENTERS[name]
    network = make()
    content = {"state_dict": {f"module.{key}": value for key, value in export("thyroid", network).items()}}
    torch.save(content | {"meta": {"CLASSES": ["background", "nodule"]}}, tmp_path / "best_mDice_iter_81000.pth")
    loaded, report = load("thyroid", tmp_path / "best_mDice_iter_81000.pth", **given)
    assert report.complete
    assert type(loaded) is type(network)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(loaded(image), network(image))


def test_positions_move_to_another_image_size():
    network = upernet()
    moved, report = load("thyroid", export("thyroid", network), image_size=(96, 64))
    assert report.complete
    ours, theirs = moved.backbone, network.backbone
    expected = resample_table(theirs.position_embedding.data, (4, 4), (6, 4))
    torch.testing.assert_close(ours.position_embedding.data, expected)
    table = [backbone.encoder.blocks[1].attention.position_bias.table.data for backbone in (ours, theirs)]
    torch.testing.assert_close(table[0], resample_bias_table(table[1], (4, 4), (6, 4)))
    assert moved(torch.randn(1, 1, 96, 64)).shape == (1, 2, 96, 64)
    with_class, _ = load("thyroid", export("thyroid", unet(UNet, "vit")), image_size=(32, 64), **TAPS)
    assert with_class(torch.randn(1, 1, 32, 64)).shape == (1, 1, 16, 32)
    autoencoder, _ = load(
        "thyroid", export("thyroid", vit_mae()), image_size=(32, 48), num_heads=3, decoder_num_heads=2
    )
    assert autoencoder(torch.randn(1, 1, 32, 48)).prediction.shape == (1, 6, 256)


def test_another_index_of_relative_positions_is_noticed():
    state = export("thyroid", upernet())
    name = "backbone.blocks3.0.attn.relative_position_index"
    with pytest.raises(CheckpointError, match="is not the index of relative positions"):
        load("thyroid", state | {name: state[name].T.contiguous()})


def test_surprises_and_foreign_files_are_errors():
    state = export("thyroid", conv_mae())
    heads = {"num_heads": 3, "decoder_num_heads": 2}
    with pytest.raises(CheckpointError, match="1 unexpected"):
        load("thyroid", state | {"blocks1.0.surprise": torch.zeros(1)}, **heads)
    with pytest.raises(CheckpointError, match="1 missing"):
        load("thyroid", {key: value for key, value in state.items() if key != "norm.weight"}, **heads)
    with pytest.raises(CheckpointError, match="of another system"):
        load("thyroid", {"encoder.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="without decoder or head"):
        load("thyroid", {key: value for key, value in state.items() if key != "mask_token"}, **heads)
    with pytest.raises(CheckpointError, match="thyroid system has the networks"):
        load("thyroid", state, network="ResNet")


def test_whole_stored_networks_are_refused_with_the_way_round(tmp_path):
    torch.save(torch.nn.DataParallel(unet()), tmp_path / "99_dice_0.85.pt")
    with pytest.raises(CheckpointError, match=r"DataParallel, which could run code(.|\n)*network\.state_dict\(\)"):
        load("thyroid", tmp_path / "99_dice_0.85.pt")


AUTOENCODERS = {
    "conv_vit": conv_mae,
    "conv_mamba": lambda: conv_mae(encoder="mamba"),
    "vit": vit_mae,
    "mamba": lambda: perturbed(
        VimMAE(**SIZE, patch_size=16, embed_dim=12, depth=4, decoder_dim=8, decoder_depth=1, drop_path=0.0)
    ),
}

PYRAMID_ONLY = ("coarsest.", "scales.", "_scale", "position_bias")


@pytest.mark.parametrize(
    ("encoder", "published"),
    [("conv_vit", True), ("vit", True), *((encoder, False) for encoder in AUTOENCODERS)],
)
def test_segmentation_networks_keep_every_tensor_that_was_handed_over(encoder, published, tmp_path):
    """In the published UPerNet, most of them are drawn anew after loading."""
    pretrained = AUTOENCODERS[encoder]()
    content = (
        {"model": export("thyroid", pretrained)} if published else {"objects": {"network": pretrained.state_dict()}}
    )
    torch.save(content, tmp_path / "pretrained.pt")
    options = CONV if encoder.startswith("conv") else {k: v for k, v in VIT.items() if k != "num_heads"} | TAPS
    options |= {"num_heads": 3} if encoder == "vit" else {}
    network = UPerNet(encoder, **SIZE, **options, channels=4, auxiliary_channels=3)
    before = copy.deepcopy(network.state_dict())
    report = transfer_encoder(tmp_path / "pretrained.pt", network)
    source = pretrained.state_dict()
    after = network.state_dict()
    for key in report.matched:
        assert torch.equal(after[key], source[key.removeprefix("backbone.")]), key
    for key in report.kept:
        assert torch.equal(after[key], before[key]), key
        assert not key.startswith("backbone.") or any(part in key for part in PYRAMID_ONLY), key
    assert set(report.matched) | set(report.kept) == set(after)
    beside = ("decoder", "mask_token", "prediction_head", "fusions", "stage", "norm.", "encoder.norm.")
    assert all(name.startswith(beside) for name in report.ignored)


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(
    ("make", "classifier", "kept"),
    [
        (conv_mae, lambda: ConvViTClassifier(**SIZE, **CONV), {"head", "feature_norm"}),
        (conv_mae, lambda: ConvViTClassifier(**SIZE, **CONV, pooling="first_patch"), {"head"}),
        (vit_mae, lambda: ViTClassifier(**SIZE, patch_size=16, **VIT), {"head", "feature_norm"}),
        (vit_mae, lambda: ViTClassifier(**SIZE, patch_size=16, **VIT, pooling="class_token"), {"head"}),
    ],
)
def test_classifiers_start_from_pretraining(make, classifier, kept, published):
    pretrained, network = make(), classifier()
    state = export("thyroid", pretrained) if published else pretrained.state_dict()
    report = transfer_encoder(state, network)
    assert {key.split(".")[0] for key in report.kept} == kept
    for key in report.matched:
        assert torch.equal(network.state_dict()[key], pretrained.state_dict()[key])
    assert 0 < network.head.weight.abs().max() <= 4e-5
    if "feature_norm" in kept:
        assert torch.equal(network.feature_norm.weight, torch.ones(12))
        report = transfer_encoder(state, network, copy_norm=True)
        assert {key.split(".")[0] for key in report.kept} == {"head"}
        assert torch.equal(network.feature_norm.weight, pretrained.encoder.norm.weight)


def test_state_space_classifiers_start_from_pretraining():
    conv = ConvViTClassifier(**SIZE, **CONV, encoder="mamba")
    report = transfer_encoder(conv_mae(encoder="mamba").state_dict(), conv)
    assert {key.split(".")[0] for key in report.kept} == {"head", "feature_norm"}
    plain = VimClassifier(**SIZE, patch_size=16, embed_dim=12, depth=4, num_classes=2)
    pretrained = AUTOENCODERS["mamba"]()
    report = transfer_encoder(pretrained.state_dict(), plain)
    assert {key.split(".")[0] for key in report.kept} == {"head"}
    assert torch.equal(plain.encoder.norm.weight, pretrained.encoder.norm.weight)


def test_hand_over_to_another_size_and_from_a_segmentation_backbone():
    pretrained = conv_mae()
    network = upernet(image_size=(96, 64), seed=1)
    transfer_encoder(pretrained.state_dict(), network)
    expected = resample_table(pretrained.position_embedding.data, (4, 4), (6, 4))
    torch.testing.assert_close(network.backbone.position_embedding.data, expected)
    transfer_encoder(conv_mae(image_size=(32, 128)).state_dict(), network, pretrained_grid=(2, 8))
    with pytest.raises(CheckpointError, match="is no 2-dimensional cube"):
        transfer_encoder(conv_mae(image_size=(32, 96)).state_dict(), upernet(image_size=(64, 64)))


def test_hand_over_refuses_what_does_not_fit():
    state = conv_mae().state_dict()
    deeper = upernet(depths=(1, 1, 3))
    before = copy.deepcopy(deeper.state_dict())
    with pytest.raises(CheckpointError, match=r"12 missing(.|\n)*encoder\.blocks\.2"):
        transfer_encoder(state, deeper)
    assert all(torch.equal(value, before[key]) for key, value in deeper.state_dict().items())
    with pytest.raises(CheckpointError, match=r"unexpected(.|\n)*encoder\.blocks\.1"):
        transfer_encoder(state, upernet(depths=(1, 1, 1)))
    with pytest.raises(CheckpointError, match="has shape"):
        transfer_encoder(state, upernet(embed_dims=(6, 9, 12)))
    with pytest.raises(CheckpointError, match=r"does not fit UPerNet(.|\n)*missing"):
        transfer_encoder(vit_mae().state_dict(), upernet())
    with pytest.raises(CheckpointError, match=r"does not fit UNet(.|\n)*missing"):
        transfer_encoder(state, unet(UNet, "vit"))
