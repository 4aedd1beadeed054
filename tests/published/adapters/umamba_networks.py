"""U-Mamba and U-Mamba2: layers and whole networks, outputs and gradients."""

from __future__ import annotations

import torch
from torch import nn

from custom_networks.layers.click_mixers import AppendedClickMixer, CrossAttentionClickMixer, PositionCodedMixer
from custom_networks.layers.grid_mixer import GridMixer
from custom_networks.published import SYSTEMS, load
from custom_networks.published.key_map import NameTable, load_published_state
from tests.published.vector import Vector, adapter, assert_gradient, assert_output

LAYER_TOLERANCE = (1e-5, 1e-4)
NETWORK_TOLERANCE = {
    "UMambaBot_2d": (1e-4, 2e-4),
    "UMambaBot_3d": (1e-4, 2e-4),
    "UMambaEnc_2d": (3e-4, 5e-4),
    "UMambaEnc_3d": (5e-4, 1e-3),
    "U-Mamba2": (5e-5, 2e-4),
}


class BottleneckOnly(nn.Module):
    """Gives a layer the place that it has in a network, so that the network's key map applies."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.bottleneck = layer


def layer_of(config: dict) -> nn.Module:
    """The bottleneck layer that a vector's configuration names."""
    mixer = {key: config[key] for key in ("d_state", "d_conv", "expand", "headdim", "dt_rank") if key in config}
    match config.get("module", config.get("cls")):
        case "MambaLayer":
            tokens = "channel" if config.get("channel_token") else "patch"
            return GridMixer(config["dim"], "mamba", tokens, options=mixer)
        case "MambaLayer2":
            return GridMixer(config["dim"], "mamba2", options=mixer)
        case "MambaLayer2PE":
            return PositionCodedMixer(config["dim"], mixer)
        case "MambaLayer2_Click":
            return AppendedClickMixer(config["dim"], config["patch_size"], mixer)
        case "MambaLayer2_CrossAttn_Click":
            heads = config.get("attn_num_heads", 4)
            return CrossAttentionClickMixer(config["dim"], config["patch_size"], 1, heads, 512, mixer)
        case "MambaLayer2_CrossAttn_Click2":
            heads = config.get("attn_num_heads", 4)
            return CrossAttentionClickMixer(config["dim"], config["patch_size"], 2, heads, 1024, mixer)
        case other:
            raise ValueError(f"unknown layer {other}")


def compare_gradients(vector: Vector, network: nn.Module, names: NameTable, rtol: float) -> None:
    """Every ``grad/<published key>`` of the vector against our parameter's gradient."""
    parameters = dict(network.named_parameters())
    ours = {name: parameters[key] for key, group in names.items() if key in parameters for name in group}
    for name, theirs in vector.section("grad").items():
        if not name.startswith("in/"):
            assert_gradient(name, ours[name].grad, theirs, rtol)


def clicks_of(vector: Vector) -> tuple:
    inputs = vector.section("in")
    return (inputs["point_coords"], inputs["point_labels"]) if "point_coords" in inputs else ()


@adapter(lambda v: v.bundle == "umamba_seg" and "MambaLayer" in v.config.get("module", v.config.get("cls", "")))
def bottleneck_layer(vector: Vector) -> None:
    atol, rtol = LAYER_TOLERANCE
    holder = BottleneckOnly(layer_of(vector.config))
    names = {
        key: [name.removeprefix("mamba_layer.") for name in group]
        for key, group in SYSTEMS["umamba2"].published_names(holder).items()
    }
    load_published_state(holder, vector.upstream_state(), names)
    layer, x, clicks = holder.bottleneck, vector.section("in")["x"].requires_grad_(), clicks_of(vector)
    y = layer(x, clicks) if clicks else layer(x)
    loss = y.square().mean()
    loss.backward()

    computed = {"y": y, "loss": loss.reshape(1)}
    for name, theirs in vector.section("out").items():
        if name in computed:
            ours = computed[name]
        elif name == "normed_tokens":
            ours = layer.norm(layer.to_tokens(x))
        elif name == "mamba_tokens":
            ours = layer.mix(layer.to_tokens(x))
        elif name == "image_pe":
            code = layer.click_encoder.position_code if clicks else layer.position_code
            ours = code.grid(x.shape[2:])
        elif name == "point_embedding":
            ours = layer.click_encoder(*clicks)
        else:
            raise AssertionError(f"nothing of ours corresponds to out/{name}")
        assert_output(name, ours, theirs, atol)
    assert_gradient("in/x", x.grad, vector.section("grad")["in/x"], rtol)
    compare_gradients(vector, holder, names, rtol)


def network_arguments(vector: Vector) -> tuple[str, dict, tuple[float, float]]:
    """System, arguments of `load`, and tolerances for a whole-network vector."""
    config = dict(vector.config)
    spatial_dims = len(config.pop("input_shape")) - 2
    module, cls = config.pop("module", None), config.pop("cls", None)
    config.pop("dim", None), config.pop("n_stages"), config.pop("conv_bias", None)
    config |= {
        "network": cls or module.rsplit("_", 1)[0],
        "spatial_dims": spatial_dims,
        "in_channels": config.pop("input_channels"),
        "out_channels": config.pop("num_classes"),
    }
    system = "umamba" if module else "umamba2"
    return system, config, NETWORK_TOLERANCE[module or "U-Mamba2"]


@adapter(lambda v: v.bundle == "umamba_seg" and "n_stages" in v.config)
def segmentation_network(vector: Vector) -> None:
    system, config, (atol, rtol) = network_arguments(vector)
    network, report = load(system, vector.upstream_state(), **config)
    assert report.complete
    assert report.duplicates == len(vector.upstream_state()) - len(report.matched)

    x, clicks = vector.section("in")["x"].requires_grad_(), clicks_of(vector)
    logits = network(x, clicks) if clicks else network(x)
    logits = logits if isinstance(logits, list) else [logits]
    loss = sum(level.square().mean() for level in logits)
    loss.backward()

    out = vector.section("out")
    with torch.no_grad():
        skips = network.encoder(x)
        bottleneck = network.bottleneck(skips[-1], clicks) if clicks else network.bottleneck(skips[-1])
    assert len(logits) == sum(name.startswith("logits_") for name in out)
    computed = {f"logits_{i}": level for i, level in enumerate(logits)}
    computed |= {f"skip_{i}": skip for i, skip in enumerate(skips)}
    computed |= {"bottleneck": bottleneck, "loss": loss.reshape(1)}
    for name, theirs in out.items():
        assert_output(name, computed[name], theirs, atol)
    assert_gradient("in/x", x.grad, vector.section("grad")["in/x"], rtol)
    compare_gradients(vector, network, SYSTEMS[system].published_names(network), rtol)
