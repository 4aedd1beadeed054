"""Classifiers of patch tokens: pooling, class tokens, positions, access to features."""

import pytest
import torch

from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vit_classifier import ViTClassifier

SMALL = {"in_channels": 2, "image_size": (8, 12, 4), "patch_size": 4, "embed_dim": 24, "depth": 2, "drop_path": 0.0}


def make(network=VimClassifier, **options):
    torch.manual_seed(0)
    return network(3, **SMALL | options).eval()


def image():
    return torch.randn(2, 2, 8, 12, 4, generator=torch.Generator().manual_seed(1))


def test_poolings():
    made = make()
    tokens = made.tokens(image())
    expected = {
        "mean": made.head(tokens.mean(1)),
        "last": made.head(tokens[:, -1]),
        "max": made.head(tokens).amax(1),
        "all": made.head(tokens),
    }
    for pooling, logits in expected.items():
        made.pooling = pooling
        torch.testing.assert_close(made(image()), logits)


@pytest.mark.parametrize(("kind", "places"), [("front", [0]), ("middle", [3]), ("both_ends", [0, 7])])
@pytest.mark.parametrize("rotary", ["none", "sequence_half", "axial_three"])
def test_class_tokens_stand_where_they_should(kind, places, rotary):
    made = make(class_token=kind, rotary=rotary)
    sequence = made.tokens(image())
    assert sequence.shape == (2, 6 + len(places), 24)
    torch.testing.assert_close(made.features(image()), sequence[:, places].mean(1))
    rest = [place for place in range(6 + len(places)) if place not in places]
    assert torch.equal(made.patch_tokens(sequence), sequence[:, rest])
    _, first = made.streams(image(), blocks=1)
    given = [made.class_token, made.tail_token][: len(places)]
    if rotary != "sequence_half":
        for place, token in zip(places, given, strict=True):
            torch.testing.assert_close(first[0, place], (token[0, 0] + made.position_embedding[0, place]).detach())


def test_streams_lead_to_the_tokens():
    made = make()
    hidden, residual = made.streams(image())
    torch.testing.assert_close(made.encoder.norm(hidden + residual), made.tokens(image()))
    _, after_first = made.streams(image(), blocks=1)
    assert after_first.shape == residual.shape
    assert not torch.allclose(after_first, residual)
    assert torch.equal(made.token_features(image()), hidden)
    assert torch.equal(made.token_features(image(), "residual", 1), after_first)
    assert torch.equal(made.token_features(image(), "norm"), made.tokens(image()))


def test_without_positions_blocks_see_the_bare_patches():
    made = make(learned_positions=False, rotary="none")
    assert made.position_embedding is None
    torch.testing.assert_close(made.streams(image(), blocks=1)[1], made.patch_embedding(image()))


def test_two_dimensional_images():
    made = VimClassifier(4, 1, (16, 24), (8, 4), 24, 1, rotary="axial_two_of_three")
    assert made.grid == (2, 6)
    assert made(torch.randn(2, 1, 16, 24)).shape == (2, 4)


def test_initial_values():
    made = make()
    assert made.head.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert not made.head.bias.any()
    assert made.position_embedding.std().item() == pytest.approx(0.02, rel=0.2)
    shallow, deep = (make(depth=depth).encoder.blocks[0].mixer.out_proj.weight.abs().max() for depth in (1, 9))
    assert deep.item() == pytest.approx(shallow.item() / 3, rel=0.05)


def test_vit_pooling_and_tokens():
    mean = make(ViTClassifier, num_heads=4)
    tokens = mean.tokens(image())
    torch.testing.assert_close(mean.features(image()), mean.feature_norm(mean.patch_tokens(tokens).mean(1)))
    first = make(ViTClassifier, num_heads=4, pooling="class_token")
    torch.testing.assert_close(first.features(image()), first.encoder.norm(first.tokens(image()))[:, 0])
    assert first.position_embedding.std() > 0.01
    assert torch.equal(first.token_features(image()), first.patch_tokens(first.tokens(image())))
    assert torch.equal(first.token_features(image(), "norm")[:, 0], first.encoder.norm(first.tokens(image()))[:, 1])
    with pytest.raises(ValueError, match="source must be one of block, norm"):
        first.token_features(image(), "mixer")


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (VimClassifier, {"pooling": "median"}, "pooling must be one of"),
        (VimClassifier, {"class_token": "back"}, "class_token must be one of"),
        (VimClassifier, {"rotary": "axial_two_of_three", "embed_dim": 26}, "divisible by 4"),
        (ViTClassifier, {"pooling": "max"}, "pooling must be one of"),
        (ViTClassifier, {"num_heads": 7}, "heads do not divide"),
    ],
)
def test_options_that_do_not_exist_or_fit(network, options, message):
    with pytest.raises(ValueError, match=message):
        make(network, **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="expected images of shape"):
        make()(torch.zeros(1, 2, 12, 8, 4))
