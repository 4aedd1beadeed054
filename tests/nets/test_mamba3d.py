"""E-ViM3 networks: clips, masks, what the decoder knows, branches, wrong sizes."""

import copy

import pytest
import torch

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.nets.mamba3d import Mamba3DEncoder
from custom_networks.nets.mamba3d_classifier import Mamba3DClassifier
from custom_networks.nets.mamba3d_mae import Mamba3DMAE
from custom_networks.nets.mamba3d_regressor import Mamba3DRegressor
from custom_networks.nets.mamba3d_segmenter import Mamba3DSegmenter

ENCODER = {
    "clip_size": [5, 9, 12],
    "time_patch_size": 2,
    "patch_size": 3,
    "embed_dim": 7,
    "num_macro_blocks": 1,
    "register_planes": [1, 0, 2],
}
MASK = {"decoder_blocks": 1, "mask_ratio": 0.5, "time_mask_chain": 2, "mask_chain": 2}


def build(network, **extra):
    torch.manual_seed(0)
    return network(**ENCODER | extra).eval()


def clips(*leading, seed=1):
    return torch.randn(*leading, 1, 5, 9, 12, generator=torch.Generator().manual_seed(seed))


def test_predictions_of_clips_are_averaged():
    network, x = build(Mamba3DRegressor), clips(2, 3)
    mean, each = network(x, per_clip=True)
    assert each.shape == (2, 3, 1)
    torch.testing.assert_close(mean, each.mean(1))
    torch.testing.assert_close(each[:, 1], network(x[:, 1]), rtol=1e-5, atol=1e-4)
    assert network(x[:, 0], per_clip=True)[1].shape == (2, 1, 1)
    with pytest.raises(ValueError, match="expected"):
        network(x[0, 0])


@pytest.mark.parametrize(
    "changes",
    [
        {"register_planes": [0, 0, 0]},
        {"enclosure": "all_unified"},
        {"enclosure": "group_unified", "position_embedding": False},
        {"mixer": "bimamba_v1", "layers_per_stack": 2},
        {"mixer": "mamba2", "embed_dim": 8, "norm": "rms"},
        {"mixer": "bimamba2", "embed_dim": 4},
        {"mixer_options": {"d_state": 5, "expand": 3}},
        {"num_line_blocks": 1},
        {"aggregation": "two_corner_concat", "final_dim": None, "out_channels": 3, "output": "percent"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_train(changes):
    network = build(Mamba3DRegressor, **changes).train()
    out = network(clips(2))
    out.square().sum().backward()
    assert out.shape == (2, changes.get("out_channels", 1))
    assert all(p.grad.isfinite().all() for p in network.parameters())
    copied = copy.deepcopy(network).eval()
    assert torch.equal(copied(clips(1)), network.eval()(clips(1)))


def test_pixels_behind_the_last_patch_do_not_matter():
    network, x = build(Mamba3DSegmenter), clips(1)
    changed = x.clone()
    changed[:, :, -1] += 1
    assert torch.equal(network(x), network(changed))
    assert network(x).shape == (1, 2, 4, 9, 12)


@pytest.mark.parametrize("shape", [(1, 2, 5, 9, 12), (1, 1, 6, 9, 12), (1, 1, 5, 12, 9)])
def test_clips_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"clips must have shape \(B, 1, 5, 9, 12\)"):
        build(Mamba3DEncoder)(torch.zeros(shape))


def test_frame_branch_can_be_left_out():
    network, x = build(Mamba3DClassifier), clips(2)
    video, frames = network(x)
    network.frame_branch = False
    assert torch.equal(network(x), video)
    assert frames.shape == (2, 2, 1)


def test_without_the_frame_branch_every_trainable_parameter_is_used():
    network = build(Mamba3DClassifier, frame_branch=False).train()
    network(clips(2)).sum().backward()
    assert {p.grad is not None for p in network.parameters() if p.requires_grad} == {True}
    assert set(network.state_dict()) == set(build(Mamba3DClassifier).state_dict())


def test_hidden_pixels_reach_neither_encoder_nor_prediction():
    network, x = build(Mamba3DMAE, **MASK), clips(2)
    cells = network.masking.draw(2, torch.Generator().manual_seed(0))
    before = network(x, cells)
    assert before.prediction.shape == before.target.shape == (2, 24, 18)
    hidden = network.to_image(before.mask.unsqueeze(-1).expand_as(before.target).float()).bool()
    changed = x.clone()
    changed[:, :, :4][hidden] += 5
    after = network(changed, cells)
    assert torch.equal(before.prediction, after.prediction)
    assert not torch.equal(before.target, after.target)
    visible = x.clone()
    visible[:, :, :4][~hidden] += 5
    assert not torch.allclose(network(visible, cells).prediction, before.prediction, atol=1e-4)


def test_loss_is_that_of_the_hidden_patches():
    network, x = build(Mamba3DMAE, **MASK), clips(2)
    output = network(x, generator=torch.Generator().manual_seed(4))
    expected = (output.prediction - output.target)[output.mask].square().mean()
    torch.testing.assert_close(masked_patch_loss(output), expected)
    restored = network.reconstruct(output)
    assert restored.shape == (2, 1, 4, 9, 12)
    visible = ~network.to_image(output.mask.unsqueeze(-1).expand_as(output.target).float()).bool()
    assert torch.equal(restored[visible], x[:, :, :4][visible])


def test_same_seed_same_mask():
    network, x = build(Mamba3DMAE, **MASK | {"time_mask_chain": 1, "mask_chain": 1}), clips(2)
    first, again, other = (network(x, generator=torch.Generator().manual_seed(s)).mask for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(6)
    free = network(x).mask
    torch.manual_seed(6)
    assert torch.equal(free, network(x).mask)


def test_only_global_tokens_reach_the_decoder_when_asked():
    network, x = build(Mamba3DMAE, **MASK, decoder_sees_mask_tokens_only=True), clips(1)
    output = network(x)
    assert output.weight.all()
    assert not output.mask.all()
    encoded, orders = network.encode_visible(x, output.mask)
    volume = network.decoder_input(encoded, orders)
    tokens = network.encoder.patch_tokens(volume) - network.encoder.patch_tokens(
        network.decoder_positions(torch.zeros_like(volume))
    )
    torch.testing.assert_close(tokens, network.mask_token.expand_as(tokens), rtol=1e-4, atol=1e-6)


def test_nothing_hidden_is_the_plain_encoder():
    network, x = build(Mamba3DMAE, **MASK | {"mask_ratio": 0.0}), clips(2)
    output = network(x)
    assert not output.mask.any()
    assert masked_patch_loss(output) == 0
    encoded, _ = network.encode_visible(x, output.mask)
    torch.testing.assert_close(encoded, network.encoder(x).flatten(1, 3), rtol=1e-5, atol=1e-5)


def test_masks_of_samples_must_hide_equally_many_patches():
    network, x = build(Mamba3DMAE, **MASK), clips(2)
    cells = torch.zeros(2, network.masking.num_cells, dtype=torch.bool)
    cells[0, 0] = True
    with pytest.raises(ValueError, match="same number of tokens"):
        network(x, cells)
    with pytest.raises(ValueError, match="line blocks"):
        build(Mamba3DMAE, num_line_blocks=1)


def test_decoder_positions_start_as_copies_and_part():
    network = build(Mamba3DMAE, **MASK).train()
    assert torch.equal(network.decoder_positions.frames, network.encoder.positions.frames)
    masked_patch_loss(network(clips(2))).backward()
    assert not torch.equal(network.decoder_positions.frames.grad, network.encoder.positions.frames.grad)
    assert network.encoder_mask_token.grad is None
