"""What the configurations make of the published recipes, without training."""

import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.bundle_cli import ROOT

BUNDLE = ROOT / "bundles" / "thyroid_deblur_mae"
NARROW = {"embed_dims": [8, 12, 16], "num_heads": 2, "head_channels": 8, "auxiliary_channels": 4, "image_size": 64}


def parsed(*names, **options):
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / f"{name}.yaml") for name in names])
    parser.update(pairs={"bundle_root": str(BUNDLE), "device": "$torch.device('cpu')"} | NARROW | options)
    return parser


def rates(parser):
    """Rate and weight decay of every parameter."""
    network, optimizer = parser.get_parsed_content("network"), parser.get_parsed_content("optimizer")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_upernet_has_thirteen_levels_of_rates():
    found = rates(parsed("train"))
    scale = {name: rate / 1e-4 for name, (rate, _) in found.items()}
    assert scale["backbone.patch_embedding.projection.weight"] == pytest.approx(0.75**12)
    assert scale["backbone.position_embedding"] == pytest.approx(0.03168, rel=1e-3)
    for block in range(11):
        key = f"backbone.encoder.blocks.{block}.attention.qkv.weight"
        assert scale[key] == pytest.approx(0.75 ** (11 - block)), block
    for name, value in scale.items():
        if name.startswith(("head.", "auxiliary_head.", "backbone.coarsest.")):
            assert value == 1, name


def test_upernet_decays_tables_and_spares_vectors():
    network = parsed("train")
    found = rates(network)
    shapes = dict(network.get_parsed_content("network").named_parameters())
    for name, (_, decay) in found.items():
        assert decay == (0.0 if shapes[name].ndim <= 1 else 0.05), name
    assert any("position_bias" in name and decay == 0.05 for name, (_, decay) in found.items())


def test_classifier_rates_and_the_published_ones():
    names = ("train", "train_classification")
    found = rates(parsed(*names))
    base = 1e-4  # 32 images, 8 times, for 256
    assert found["patch_embedding.projection.weight"][0] == pytest.approx(base * 0.75**12)
    assert found["encoder.blocks.10.attention.qkv.weight"][0] == pytest.approx(base * 0.75)
    assert found["head.weight"] == (pytest.approx(base), 0.05)
    assert found["position_embedding"][1] == 0
    published = rates(parsed(*names, "published_classification"))
    assert set(published.values()) == {(base, 0.01)}
    assert published.keys() == found.keys()


def test_pretraining_rate_is_for_256_images_and_positions_are_fixed():
    found = rates(
        parsed("train", "pretrain", batch_size=16, accumulation_steps=4, **{"decoder_dim": 16, "decoder_num_heads": 2})
    )
    assert {rate for rate, _ in found.values()} == {1.5e-4 * 64 / 256}
    assert not any("position_embedding" in name for name in found)
    assert found["mask_token"][1] == 0.05


@pytest.mark.parametrize(
    "encoder", [(), ("vit",), ("mamba",), ("conv_mamba",)], ids=lambda names: "".join(names) or "conv_vit"
)
def test_every_encoder_is_handed_over_to_both_tasks(encoder):
    options = {"depths": [1, 1, 4], "decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
    if set(encoder) & {"vit", "mamba"}:
        options |= {"embed_dim": 16, "depth": 4, "taps": [0, 1, 2, 3]}
    from custom_networks.published.thyroid import transfer_encoder

    autoencoder = parsed("train", "pretrain", *encoder, **options).get_parsed_content("network_def")
    state = {key: torch.randn_like(value) for key, value in autoencoder.state_dict().items()}
    for files in (("train",), ("train", "unetpp"), ("train", "train_classification")):
        network = parsed(*files, *encoder, **options).get_parsed_content("network_def")
        transfer_encoder(state, network)
        found = {key.removeprefix("backbone."): value for key, value in network.state_dict().items()}
        shared = [key for key in found if key in state and key.startswith(("encoder.blocks", "patch_embedding"))]
        assert len(shared) > 20
        assert all(torch.equal(found[key], state[key]) for key in shared)


def test_deblurring_and_plain_losses():
    for overlays, loss_on, method in ((("pretrain",), "all", "gaussian"), (("pretrain", "vanilla"), "hidden", None)):
        parser = parsed("train", *overlays, decoder_dim=16, decoder_num_heads=2)
        assert parser.get_parsed_content("network_def").loss_on == loss_on
        assert parser.get_parsed_content("blur_method") == method


def test_batches_are_blended_on_demand():
    names = ("train", "train_classification")
    assert parsed(*names).get_parsed_content("train::dataloader::finish") is None
    blend = parsed(*names, mixup=0.8, cutmix=1.0).get_parsed_content("train::dataloader::finish")
    assert (blend.mixup, blend.cutmix) == (0.8, 1.0)
