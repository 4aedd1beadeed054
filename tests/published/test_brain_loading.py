"""Files of the 3D Mamba MAE: without any configuration, with another grid, handed to classifiers, and refused."""

import argparse
import pickle

import pytest
import torch

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.sincos_positions import resample_table
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.nets.vit_mae import ViTMAE
from custom_networks.published import CheckpointError, export, load
from custom_networks.published.brain import transfer_encoder, unused_entries

IMAGE = {"in_channels": 2, "image_size": (8, 8, 8), "patch_size": 4, "embed_dim": 24, "depth": 3}
DECODER = {"decoder_dim": 16, "decoder_depth": 2}
LEGACY = {"rotary": "sequence_half", "token_order": "shuffle", "decoder_alignment": "legacy"}
ATTENTION = {"attention_blocks": [1], "attention_options": {"num_heads": 1, "head_dim": 128}}
MAMBA2 = {"mixer": "mamba2", "mixer_options": {"d_state": 8, "headdim": 12}, "rotary": "none"}

AUTOENCODERS = {
    "published": LEGACY,
    "hybrid": LEGACY | MAMBA2 | {"mixer_options": {"d_state": 8, "headdim": 4}} | ATTENTION,
    "class token": LEGACY | {"class_token": True, "norm": "layer", "mixer": "bimamba_v1"},
    "other mixer sizes": LEGACY | {"mixer_options": {"d_state": 8, "d_conv": 3, "expand": 1, "layer_scale": 0.1}},
}

CLASSIFIERS = {
    "published": {"rotary": "axial_two_of_three"},
    "double class token": {"rotary": "none", "class_token": "both_ends", **MAMBA2},
    "one direction": {"rotary": "none", "mixer": "mamba", "num_classes": 5},
}


def perturbed(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


def written(tmp_path, network, **options):
    """A file with everything that the authors' training loop stores."""
    path = tmp_path / "checkpoint-999.pth"
    content = {
        "model": export("brain", network),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "epoch": 999,
        "scaler": {},
        "args": argparse.Namespace(mask_ratio=0.5, norm_pix_loss=False, input_size=8, device="cuda", **options),
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_pretraining_file_tells_its_network(name, tmp_path):
    network = perturbed(VimMAE(**IMAGE, **DECODER, **AUTOENCODERS[name], mask_ratio=0.5, norm_pix=False))
    loaded, report = load("brain", written(tmp_path, network))
    assert report.complete
    image, noise = torch.randn(2, 2, 8, 8, 8), torch.rand(2, 8)
    torch.testing.assert_close(masked_patch_loss(loaded(image, noise)), masked_patch_loss(network(image, noise)))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_file_tells_its_network(name, tmp_path):
    network = perturbed(VimClassifier(**IMAGE | CLASSIFIERS[name]))
    image = torch.randn(2, 2, 8, 8, 8)
    for state in (written(tmp_path, network), {k: v for k, v in export("brain", network).items() if "rope" not in k}):
        rotary = {"rotary": "axial_two_of_three" if name == "published" else "none"}
        loaded, report = load("brain", state, **rotary)
        assert report.complete
        torch.testing.assert_close(loaded(image), network(image))


def test_vision_transformer_files_need_only_their_heads(tmp_path):
    network = perturbed(ViTMAE(**IMAGE, **DECODER, num_heads=4, decoder_num_heads=2, mask_ratio=0.5, norm_pix=False))
    loaded, _ = load("brain", written(tmp_path, network), num_heads=4, decoder_num_heads=2)
    image, noise = torch.randn(2, 2, 8, 8, 8), torch.rand(2, 8)
    torch.testing.assert_close(loaded(image, noise).prediction, network(image, noise).prediction)
    classifier = perturbed(ViTClassifier(**IMAGE, num_heads=4, pooling="class_token"))
    torch.testing.assert_close(load("brain", export("brain", classifier), num_heads=4)[0](image), classifier(image))


def test_positions_move_to_another_image_size():
    network = perturbed(VimMAE(**IMAGE, **DECODER, **LEGACY))
    moved, report = load("brain", export("brain", network), image_size=(12, 8, 4))
    assert report.complete
    table, decoder_table = network.position_embedding, network.decoder_position_embedding
    torch.testing.assert_close(moved.position_embedding.data, resample_table(table.data, (2, 2, 2), (3, 2, 1)))
    assert torch.equal(moved.decoder_position_embedding[:, 0], decoder_table[:, 0])
    assert moved(torch.randn(1, 2, 12, 8, 4)).prediction.shape == (1, 6, 128)
    tokens = torch.randn(1, 6, 24)
    with pytest.raises(CheckpointError, match="no 3-dimensional cube"):
        load("brain", export("brain", network) | {"pos_embed": tokens})


def test_original_vim_names():
    network = perturbed(VimClassifier(**IMAGE, rotary="none"))
    state = {key.replace("blocks.", "layers."): value for key, value in export("brain", network).items()}
    loaded, _ = load("brain", state, rotary="none")
    image = torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(loaded(image), network(image))


def test_other_rotary_tables_are_noticed():
    network = VimClassifier(**IMAGE, rotary="axial_two_of_three")
    state = export("brain", network)
    assert set(state) >= set(unused_entries(network)) == {"rope.freqs_cos", "rope.freqs_sin"}
    with pytest.raises(CheckpointError, match=r"rope\.freqs_cos is not the table"):
        load("brain", state | {"rope.freqs_cos": state["rope.freqs_sin"]})


def test_surprises_and_foreign_files_are_errors(tmp_path):
    state = export("brain", VimMAE(**IMAGE, **DECODER, **LEGACY))
    with pytest.raises(CheckpointError, match="1 unexpected"):
        load("brain", state | {"blocks.0.mixer.surprise": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 missing"):
        load("brain", {key: value for key, value in state.items() if key != "norm_f.weight"})
    with pytest.raises(CheckpointError, match="of another system"):
        load("brain", {"encoder.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="brain system has the networks"):
        load("brain", state, network="ResNet")


class Intruder:
    """Would print on loading, were it allowed to."""

    def __reduce__(self):
        return print, ("loaded",)


def test_namespaces_open_no_door_for_code(tmp_path, capsys):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": {}, "args": argparse.Namespace(hidden=Intruder())}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match="refused"):
        load("brain", path)
    assert "loaded" not in capsys.readouterr().out


@pytest.mark.parametrize("published", [True, False])
def test_hand_over_to_a_classifier_on_another_grid(published):
    pretrained = perturbed(VimMAE(**IMAGE, **DECODER, **LEGACY))
    content = {"model": export("brain", pretrained), "epoch": 3}
    if not published:
        content = {"epoch": 3, "objects": {"network": pretrained.state_dict(), "optimizer": {"state": {}}}}
    classifier = VimClassifier(**IMAGE | {"image_size": (8, 12, 4)}, drop_path=0.0)
    report = transfer_encoder(content, classifier)
    assert set(report.kept) == {"head.weight", "head.bias"}
    assert {name.split("_")[0].split(".")[0] for name in report.ignored} >= {"decoder", "mask"}
    assert len(report.matched) + 2 == len(classifier.state_dict())
    torch.testing.assert_close(classifier.encoder.state_dict(), pretrained.encoder.state_dict())
    torch.testing.assert_close(classifier.patch_embedding.state_dict(), pretrained.patch_embedding.state_dict())
    expected = resample_table(pretrained.position_embedding.data, (2, 2, 2), (2, 3, 1))
    torch.testing.assert_close(classifier.position_embedding.data, expected)
    assert 0 < classifier.head.weight.abs().max() <= 4e-5
    assert not classifier.head.bias.any()


def test_hand_over_refuses_what_does_not_fit():
    state = VimMAE(**IMAGE, **DECODER).state_dict()
    deeper = VimClassifier(**IMAGE | {"depth": 4})
    before = deeper.head.weight.clone()
    with pytest.raises(CheckpointError, match=r"17 missing(.|\n)*encoder\.blocks\.3"):
        transfer_encoder(state, deeper)
    assert torch.equal(deeper.head.weight, before)
    with pytest.raises(CheckpointError, match=r"unexpected(.|\n)*encoder\.blocks\.2"):
        transfer_encoder(state, VimClassifier(**IMAGE | {"depth": 2}))
    with pytest.raises(CheckpointError, match=r"patch_embedding\.projection\.weight has shape"):
        transfer_encoder(state, VimClassifier(**IMAGE | {"patch_size": 2}))
    with pytest.raises(CheckpointError, match=r"missing: class_token"):
        transfer_encoder(state, VimClassifier(**IMAGE, class_token="front"))


@pytest.mark.parametrize(("pooling", "kept"), [("mean", {"feature_norm", "head"}), ("class_token", {"head"})])
def test_vision_transformer_hand_over(pooling, kept):
    pretrained = ViTMAE(**IMAGE, **DECODER, num_heads=4, decoder_num_heads=2)
    classifier = ViTClassifier(**IMAGE, num_heads=4, pooling=pooling)
    for state in (pretrained.state_dict(), export("brain", pretrained)):
        report = transfer_encoder(state, classifier)
        assert {key.split(".")[0] for key in report.kept} == kept
        assert torch.equal(classifier.class_token, pretrained.class_token)
