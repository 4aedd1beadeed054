import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from custom_apps.common.saliency import METHODS, SaliencyInferer, randomization_test, saliency_map
from tests.nets_contract.registry import ENTRIES

REGION = (slice(None), slice(None), slice(2, 6), slice(7, 12))


class OneRegion(nn.Module):
    """Sees only a part of the image, and answers with a value, with classes, or with a mask."""

    def __init__(self, answer: str):
        super().__init__()
        torch.manual_seed(0)
        self.answer, self.conv = answer, nn.Conv2d(2, 3, 1)
        visible = torch.zeros(1, 1, 8, 15)
        visible[REGION] = 1
        self.register_buffer("visible", visible)

    def forward(self, image):
        maps = self.conv(image).tanh() * self.visible
        if self.answer == "mask":
            return [torch.cat([0.1 - self.visible.expand(len(image), -1, -1, -1), maps], 1)]
        values = maps.square().flatten(2).sum(2)
        return values.sum(1, keepdim=True) if self.answer == "value" else values


@pytest.fixture
def image():
    return torch.randn(2, 2, 8, 15, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("answer", ["value", "classes", "mask"])
@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "gradcam"])
def test_the_map_lies_where_the_network_looks(image, answer, method):
    network = OneRegion(answer)
    layer = {"layer": "conv"} if method == "gradcam" else {}
    with torch.no_grad():
        values = saliency_map(network, image, method, **layer)
    assert values.shape == (2, 1, 8, 15)
    assert not values.requires_grad
    assert values.min() >= 0
    if method == "gradcam":
        # The weights of channels come from the region, the channels themselves from everywhere.
        assert values.sum() > 0
    else:
        assert values[REGION].sum() > 0.999 * values.sum() > 0


def test_a_class_is_explained_by_itself(image):
    network = OneRegion("classes")
    maps = [saliency_map(network, image, "gradient", target=target) for target in range(3)]
    expected = torch.autograd.functional.jacobian(lambda x: network(x)[0, 2], image)[0].abs().amax(0)
    torch.testing.assert_close(maps[2][0, 0], expected)
    assert not torch.allclose(maps[0], maps[1])
    chosen = network(image).argmax(1)
    for sample in range(2):
        torch.testing.assert_close(saliency_map(network, image, "gradient")[sample], maps[chosen[sample]][sample])


def test_a_structure_that_is_not_there_has_an_empty_map(image):
    network = OneRegion("mask")
    with torch.no_grad():
        network.conv.bias[1] = -9
    assert saliency_map(network, image, "gradient", target=2).sum() == 0
    assert saliency_map(network, image, "gradient", target=1).sum() > 0


def test_nothing_of_the_network_changes(image):
    network = OneRegion("classes").train()
    network.conv.weight.grad = torch.ones_like(network.conv.weight)
    network.conv.bias.requires_grad_(False)
    for method in ("gradient", "smoothgrad", "gradcam"):
        first = saliency_map(network, image, method, **({"layer": "conv"} if method == "gradcam" else {}))
        assert torch.equal(
            first, saliency_map(network, image, method, **({"layer": "conv"} if method == "gradcam" else {}))
        )
    assert network.training
    assert network.conv.weight.requires_grad
    assert not network.conv.bias.requires_grad
    assert (network.conv.weight.grad == 1).all()
    assert not network.conv._forward_hooks
    assert not network.conv._backward_hooks


def test_windows_are_put_together(image):
    inferer = SaliencyInferer(SlidingWindowInferer((8, 15)), method="gradient")
    wide = torch.cat([image, image], 3)
    both = inferer(wide, OneRegion("classes"))
    single = saliency_map(OneRegion("classes"), image, "gradient")
    assert both.shape == (2, 1, 8, 30)
    torch.testing.assert_close(both[..., :8], single[..., :8])


def test_errors(image):
    network = OneRegion("classes")
    for options, text in (
        ({"method": "lime"}, "method"),
        ({"target": 3}, "target"),
        ({"method": "gradcam"}, "name of a layer"),
        ({"method": "gradcam", "layer": "nowhere"}, "name of a layer"),
        ({"method": "gradient", "reduce": "max"}, "no option reduce"),
        ({"method": "latent"}, "no tokens"),
    ):
        with pytest.raises(ValueError, match=text):
            saliency_map(network, image, **options)
    assert len(METHODS) == 4


TOKENS = (
    *("mamba3d_regressor", "mamba3d_segmenter", "mamba3d_classifier", "vim_classifier"),
    *("conv_vit_classifier_mamba", "upernet_mamba", "unetplusplus_conv_mamba", "unet_vit"),
)


@pytest.mark.parametrize("name", TOKENS)
def test_latent_maps_of_every_token_encoder(name):
    entry = next(entry for entry in ENTRIES if entry.name == name)
    torch.manual_seed(0)
    network, (image,) = entry.build(), entry.inputs()
    values = saliency_map(network, image, "latent", reduce="l2")
    whole = [side // patch * patch for side, patch in zip(image.shape[2:], (2, 3, 3), strict=False)]
    covered = whole if name.startswith("mamba3d") else image.shape[2:]
    assert values.shape == (2, 1, *covered)
    assert values.isfinite().all()
    assert values.std() > 0
    first = saliency_map(network, image, "latent", reduce="l2", blocks=1)
    assert name.startswith("mamba3d") or not torch.allclose(first, values)


@pytest.mark.parametrize("name", ["vim_classifier", "mamba3d_segmenter", "umamba2"])
def test_gradients_of_real_networks(name):
    entry = next(entry for entry in ENTRIES if entry.name == name)
    torch.manual_seed(0)
    network, (image,) = entry.build(), entry.inputs()
    values = saliency_map(network, image[:1], "gradient")
    assert values.shape == (1, 1, *image.shape[2:])
    assert values.sum() > 0


def test_a_map_that_ignores_the_weights_survives_their_randomization():
    entry = next(entry for entry in ENTRIES if entry.name == "vim_classifier")
    torch.manual_seed(0)
    network, (image,) = entry.build(), entry.inputs()
    before = [p.clone() for p in network.parameters()]
    honest = randomization_test(network, image, lambda n, x: saliency_map(n, x, "gradient"))
    assert next(iter(honest)) == "head"
    assert list(honest)[-1] == "patch_embedding"
    assert abs(honest["patch_embedding"]) < 0.5
    blind = randomization_test(network, image, lambda _, x: x[:, :1].abs())
    assert all(value == pytest.approx(1) for value in blind.values())
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
