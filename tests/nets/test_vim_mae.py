"""Masked autoencoders: what the options change, and what they must not."""

import pytest
import torch

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.patch_tokens import patchify, unpatchify
from custom_networks.layers.sincos_positions import sincos_table
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.nets.vit_mae import ViTMAE

SIZE = (8, 12, 4)
SMALL = {"in_channels": 2, "image_size": SIZE, "patch_size": 4, "embed_dim": 24, "depth": 2}
SMALL |= {"decoder_dim": 16, "decoder_depth": 1, "mask_ratio": 0.5, "drop_path": 0.0}


def make(network=VimMAE, **options):
    torch.manual_seed(0)
    made = network(**SMALL | options).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def example():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, *SIZE, generator=generator), torch.rand(3, 6, generator=generator)


@pytest.mark.parametrize("network", [VimMAE, ViTMAE])
def test_output_describes_the_mask_and_the_target(network):
    heads = {"num_heads": 4, "decoder_num_heads": 4} if network is ViTMAE else {}
    made, (image, noise) = make(network, norm_pix=False, **heads), example()
    output = made(image, noise)
    assert torch.equal(output.mask, noise.argsort(1).argsort(1) >= 3)
    assert torch.equal(output.target, patchify(image, (4, 4, 4)))
    assert torch.equal(output.weight, output.mask.float())
    assert torch.equal(unpatchify(output.target, made.grid, made.patch_size), image)


@pytest.mark.parametrize("options", [{}, {"class_token": True}, {"rotary": "sequence_half", "token_order": "shuffle"}])
def test_hidden_patches_do_not_reach_the_prediction(options):
    made, (image, noise) = make(**options), example()
    output = made(image, noise)
    hidden = unpatchify(output.mask.float().unsqueeze(-1).expand(-1, -1, 128), made.grid, made.patch_size).bool()
    changed = torch.where(hidden, torch.randn_like(image), image)
    assert not torch.equal(changed, image)
    assert torch.equal(made(changed, noise).prediction, output.prediction)


def test_only_the_order_of_the_noise_matters_and_in_raster_order_only_the_set():
    image, noise = example()
    set_only = torch.where(noise.argsort(1).argsort(1) >= 3, noise + 2, torch.rand(3, 6))
    raster, shuffle = make(), make(token_order="shuffle")
    torch.testing.assert_close(raster(image, noise).prediction, raster(image, set_only).prediction)
    assert not torch.allclose(shuffle(image, noise).prediction, shuffle(image, set_only).prediction, atol=1e-4)
    vit = make(ViTMAE, num_heads=4, decoder_num_heads=4)
    torch.testing.assert_close(vit(image, noise).prediction, vit(image, set_only).prediction, rtol=1e-4, atol=1e-5)


def test_aligned_decoder_puts_every_embedding_at_its_patch_and_the_legacy_one_does_not():
    image, noise = example()
    for alignment, prefix in (("aligned", 0), ("legacy", 1)):
        made = make(decoder_alignment=alignment, rotary="none")
        seen = {}
        made.decoder.register_forward_pre_hook(lambda module, args, seen=seen: seen.update(tokens=args[0]))
        latent, mask = made.encode(image, noise)
        made.decode(latent, mask)
        tokens = seen["tokens"] - made.decoder_position_embedding
        embedded = made.decoder_embedding(latent)
        assert tokens.shape[1] == 6 + prefix
        for sample in range(3):
            places = mask.keep[sample]
            at_own_place = torch.isclose(tokens[sample, prefix + places], embedded[sample], atol=1e-5).all(-1)
            assert at_own_place.all() if alignment == "aligned" else not at_own_place.any()
        if alignment == "legacy":
            torch.testing.assert_close(tokens[:, 0], embedded[:, 0])


def test_all_patches_can_be_shown():
    made, (image, noise) = make(), example()
    latent, mask = made.encode(image, noise, mask_ratio=0)
    assert latent.shape == (3, 6, 24)
    assert not mask.hidden.any()
    torch.testing.assert_close(made.token_features(image, noise, mask_ratio=0)[0], latent)


@pytest.mark.parametrize("options", [{}, {"class_token": True, "token_order": "shuffle"}])
def test_features_come_back_at_their_patches(options):
    made, (image, noise) = make(**options), example()
    latent, mask = made.encode(image, noise)
    placed, _ = made.token_features(image, noise)
    assert torch.equal(placed.abs().sum(-1) == 0, mask.hidden)
    for sample in range(3):
        torch.testing.assert_close(placed[sample, mask.keep[sample]], latent[sample, made.prefix :])
    first, _ = made.token_features(image, noise, source="residual", blocks=1)
    assert torch.equal(first.abs().sum(-1) == 0, mask.hidden)
    with pytest.raises(ValueError, match="source must be one of mixer, residual, norm"):
        made.token_features(image, noise, source="logits")


def test_target_can_be_another_image_and_background_can_be_left_out():
    made, (image, noise) = make(norm_pix=False, skip_constant_patches=True), example()
    clean = image.clone()
    clean[:, :, :4, :4] = 0
    output = made(image, noise, clean)
    assert torch.equal(output.prediction, made(image, noise).prediction)
    assert torch.equal(output.target, patchify(clean, (4, 4, 4)))
    assert not output.weight[:, 0].any()
    assert torch.equal(output.weight[:, 1:], output.mask[:, 1:].float())
    assert make(loss_on="all")(image, noise).weight.all()


def test_position_tables_are_fixed_and_can_come_from_another_grid():
    made = make()
    fresh = VimMAE(**SMALL)
    assert torch.equal(fresh.position_embedding.data, sincos_table((2, 3, 1), 24))
    assert not any(p.requires_grad for name, p in made.named_parameters() if "position" in name)
    moved = VimMAE(**SMALL, position_grid=(4, 4, 4), class_token=True)
    assert moved.position_embedding.shape == (1, 7, 24)
    assert not moved.position_embedding[0, 0].any()
    assert not torch.allclose(moved.position_embedding[:, 1:], fresh.position_embedding)


def test_initial_loss_is_near_one_for_long_patch_vectors():
    torch.manual_seed(0)
    made = VimMAE(2, (32, 32, 32), 16, 24, 2, 16, 1)
    assert masked_patch_loss(made(torch.randn(1, 2, 32, 32, 32))).item() == pytest.approx(1.0, abs=0.05)


def test_checkpointing_gives_the_same_gradients():
    image, noise = example()
    gradients = []
    for checkpointing in (False, True):
        made = make(checkpointing=checkpointing, drop_path=0.3).train()
        torch.manual_seed(3)
        masked_patch_loss(made(image, noise)).backward()
        gradients.append([p.grad for p in made.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)


def test_state_space_steps_start_small_in_both_directions():
    made = VimMAE(**SMALL)
    mixer = made.encoder.blocks[0].mixer
    for projection in (mixer.dt_proj, mixer.dt_proj_reverse):
        steps = torch.nn.functional.softplus(projection.bias)
        assert 9e-4 < steps.min() < steps.max() < 0.11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_order": "random"}, "token_order must be one of"),
        ({"decoder_alignment": "shifted"}, "decoder_alignment must be one of"),
        ({"loss_on": "visible"}, "loss_on must be one of"),
        ({"rotary": "sequence_half", "decoder_dim": 18}, "divisible by 4"),
        ({"image_size": (9, 8, 8)}, "not a multiple"),
        ({"rotary": "spiral"}, "rotary must be one of"),
    ],
)
def test_options_that_do_not_exist_or_fit(options, message):
    with pytest.raises(ValueError, match=message):
        VimMAE(**SMALL | options)
