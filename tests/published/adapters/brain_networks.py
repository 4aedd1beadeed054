"""3D Mamba MAE and its baselines: blocks, whole networks, maps and the hand-over; outputs and gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.patch_tokens import patchify, unpatchify
from custom_networks.layers.residual_stack import ResidualStack
from custom_networks.layers.sincos_positions import sincos_table
from custom_networks.layers.token_map import expand_to_image, reduce_tokens
from custom_networks.nets.vit_classifier import ViTClassifier
from custom_networks.ops import selective_scan
from custom_networks.published import load
from custom_networks.published.brain import build, published_names, transfer_encoder, unused_entries
from tests.published.vector import Vector, adapter, assert_gradient, assert_output

OUTPUT, GRADIENT = 1e-5, 1e-4


def is_brain(vector: Vector, case: str) -> bool:
    return "mamba_mae" in vector.source and vector.config.get("case") == case


def close(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Error relative to the largest value within `OUTPUT`."""
    scale = theirs.abs().max().item() if theirs.is_floating_point() else 1.0
    assert_output(name, ours.to(theirs.dtype), theirs, OUTPUT * max(scale, 1e-6))


def compare_all(vector: Vector, ours: dict[str, torch.Tensor]) -> None:
    """Everything in ``out/`` is there and agrees."""
    for name, theirs in vector.section("out").items():
        assert name in ours, f"nothing of ours corresponds to out/{name}"
        close(name, ours[name].reshape(theirs.shape) if name.endswith("loss") else ours[name], theirs)


def compare_gradients(vector: Vector, network: nn.Module, names: dict[str, list[str]], inputs: dict) -> None:
    parameters = dict(network.named_parameters())
    ours = {name: parameters[key] for key, group in names.items() if key in parameters for name in group}
    ours |= {f"in/{name}": tensor for name, tensor in inputs.items()}
    for name, theirs in vector.section("grad").items():
        assert_gradient(name, ours[name].grad, theirs, GRADIENT)


# Options of a mixer that only its initial values depend on.
INITIAL_ONLY = ("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor")

ATTENTION = {
    "num_heads": "num_heads",
    "head_dim": "head_dim",
    "d_conv": "d_conv",
    "causal": "causal",
    "qkv_proj_bias": "qkv_bias",
    "out_proj_bias": "out_bias",
}


def mixer_arguments(kwargs: dict) -> dict:
    """Options of the stack from a published constructor's arguments."""
    options = {key: value for key, value in (kwargs.get("ssm_cfg") or {}).items() if key not in INITIAL_ONLY}
    layer_scale = kwargs.get("init_layer_scale", options.pop("init_layer_scale", None))
    if kwargs.get("mixer_type") == "mamba2":
        mixer = "mamba2"
    else:
        mixer = {"none": "mamba", "v1": "bimamba_v1", "v2": "bimamba_v2"}[kwargs.get("bimamba_type", "none")]
        if mixer == "bimamba_v2":
            options["halve"] = kwargs.get("if_devide_out", False)
        if layer_scale is not None:
            options["layer_scale"] = layer_scale
    attention = kwargs.get("attn_cfg") or {}
    return {
        "mixer": mixer,
        "mixer_options": options,
        "attention_options": {ours: attention[theirs] for theirs, ours in ATTENTION.items() if theirs in attention},
        "norm": "rms" if kwargs.get("rms_norm") else "layer",
        "norm_eps": kwargs.get("norm_epsilon", 1e-5),
        "drop_path": 0.0,
        "rotate_residual": kwargs.get("if_rope_residual", False),
    }


def image_arguments(kwargs: dict) -> dict:
    size = kwargs["img_size"]
    return {
        "in_channels": kwargs.get("in_chans", kwargs.get("channels")),
        "image_size": [size] * (3 if kwargs.get("if_3d") else 2) if isinstance(size, int) else size,
        "patch_size": kwargs["patch_size"],
        "embed_dim": kwargs["embed_dim"],
        "depth": kwargs["depth"],
    }


def autoencoder_arguments(config: dict) -> dict:
    kwargs = config["kwargs"]
    arguments = image_arguments(kwargs) | {
        "decoder_dim": kwargs["decoder_embed_dim"],
        "decoder_depth": kwargs["decoder_depth"],
        "mask_ratio": config["mask_ratio"],
        "norm_pix": kwargs["norm_pix_loss"],
        "token_order": "shuffle",
    }
    if "ViT" in config["class"]:
        return arguments | {
            "network": "ViTMAE",
            "num_heads": kwargs["num_heads"],
            "decoder_num_heads": kwargs["decoder_num_heads"],
            "mlp_ratio": kwargs["mlp_ratio"],
        }
    return (
        arguments
        | mixer_arguments(kwargs)
        | {
            "network": "VimMAE",
            "decoder_alignment": "legacy",
            "rotary": "sequence_half" if kwargs["if_rope"] else "none",
            "class_token": kwargs["if_cls_token"],
            "attention_blocks": kwargs.get("encoder_attn_layer_idx", []),
            "decoder_attention_blocks": kwargs.get("decoder_attn_layer_idx", []),
        }
    )


POOLINGS = {"mean": "mean", "none": "last", "max": "max", "all": "all"}


def class_token_of(kwargs: dict) -> str:
    if not kwargs.get("if_cls_token"):
        return "none"
    if kwargs.get("use_double_cls_token"):
        return "both_ends"
    return "middle" if kwargs.get("use_middle_cls_token") else "front"


def classifier_arguments(config: dict) -> dict:
    kwargs = config["kwargs"]
    arguments = image_arguments(kwargs) | {"num_classes": kwargs["num_classes"]}
    if config["class"] == "VisionTransformer":
        return arguments | {
            "network": "ViTClassifier",
            "num_heads": kwargs["num_heads"],
            "mlp_ratio": kwargs["mlp_ratio"],
            "qkv_bias": kwargs["qkv_bias"],
            "pooling": "mean" if kwargs["global_pool"] else "class_token",
        }
    return (
        arguments
        | mixer_arguments(kwargs)
        | {
            "network": "VimClassifier",
            "pooling": POOLINGS[kwargs["final_pool_type"]],
            "rotary": "axial_two_of_three" if kwargs["if_rope"] else "none",
            "class_token": class_token_of(kwargs),
            "attention_blocks": kwargs.get("attn_layer_idx", []),
            "learned_positions": kwargs.get("if_abs_pos_embed", False),
        }
    )


def optimizer_of(network: nn.Module, optim: dict, depth: int) -> torch.optim.Optimizer:
    """AdamW with the published parameter groups, written out for these networks."""
    groups = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decay, scale = optim["weight_decay"] * (parameter.ndim > 1), 1.0
        if optim["recipe"] == "finetune":
            decay *= name not in ("position_embedding", "class_token", "tail_token")
            layer = depth + 1
            if name.startswith(("patch_embedding", "position_embedding", "class_token", "tail_token")):
                layer = 0
            elif name.startswith("encoder.blocks."):
                layer = int(name.split(".")[2]) + 1
            scale = optim["layer_decay"] ** (depth + 1 - layer)
        groups.append({"params": [parameter], "lr": optim["lr"] * scale, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(0.9, 0.999 if optim["recipe"] == "finetune" else 0.95))


def compare_step(vector: Vector, network: nn.Module, names: dict[str, list[str]]) -> None:
    """One optimizer step on the gradients of the loss; entries with a tiny gradient may go either way."""
    expected = {key: value for key, value in vector.section("out").items() if key.startswith("step1/")}
    if not expected:
        assert not vector.config.get("optim")
        return
    optimizer_of(network, vector.config["optim"], vector.config["kwargs"]["depth"]).step()
    parameters = dict(network.named_parameters())
    ours = {name: parameters[key] for key, group in names.items() if key in parameters for name in group}
    for key, theirs in expected.items():
        parameter = ours[key.removeprefix("step1/")]
        error = (parameter.detach() - theirs).abs()
        assert not (error[parameter.grad.abs() > 1e-7] > 1e-5).any(), key


@adapter(lambda v: is_brain(v, "block"))
def residual_block(vector: Vector) -> None:
    kwargs = vector.config["kwargs"]
    stack = ResidualStack(kwargs["d_model"], 1, **mixer_arguments(kwargs))
    block = stack.blocks[0].eval()
    prefix = "encoder.blocks.0."
    holder = nn.ModuleDict({"encoder": stack})
    names = {
        key.removeprefix(prefix): [name.removeprefix("blocks.0.") for name in group]
        for key, group in published_names(holder).items()
        if key.startswith(prefix)
    }
    state = vector.section("state")
    assert set(state) == {group[0] for group in names.values()}
    block.load_state_dict({key: state[group[0]] for key, group in names.items()})

    inputs = vector.section("in")
    x, residual = inputs["x"].requires_grad_(), inputs["residual"].requires_grad_()
    hidden_first, residual_first = block(x)
    hidden, after = block(x, residual)
    loss = (hidden * inputs["w_hidden"]).sum() + (after * inputs["w_residual"]).sum()
    loss.backward()
    ours = {
        "hidden": hidden,
        "residual": after,
        "hidden_first": hidden_first,
        "residual_first": residual_first,
        "loss": loss,
    }
    with torch.no_grad():
        mixer = block.mixer
        mixer.halve = not mixer.halve
        ours["hidden_other_divide"] = block(x, residual)[0]
        mixer.halve = not mixer.halve
        ours |= direction_outputs(mixer, block.norm(after))
    compare_all(vector, ours)
    compare_gradients(vector, block, names, {"x": x, "residual": residual})


def direction_outputs(mixer: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gated outputs of both scans, and the low-rank step, with convolutions and projections written out."""
    u, z = mixer.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
    ours = {}
    for suffix, flip in (("", False), ("_reverse", True)):
        part = {name: getattr(mixer, name + suffix) for name in ("conv1d", "x_proj", "dt_proj", "A_log", "D")}
        v, gate = (t.flip(-1) if flip else t for t in (u, z))
        v = F.silu(part["conv1d"](v)[..., : v.shape[-1]])
        rank, states = part["dt_proj"].in_features, part["A_log"].shape[1]
        step, B, C = part["x_proj"](v.transpose(1, 2)).transpose(1, 2).split([rank, states, states], dim=1)
        delta = part["dt_proj"].weight @ step
        y = selective_scan(
            v, delta, -part["A_log"].exp(), B, C, part["D"], gate, part["dt_proj"].bias, delta_softplus=True
        )
        ours["y_backward_flipped" if flip else "y_forward"] = y
        ours.setdefault("delta_forward", delta)
    return ours


@adapter(lambda v: is_brain(v, "mae"))
def masked_autoencoder(vector: Vector) -> None:
    network, report = load("brain", vector.section("state"), **autoencoder_arguments(vector.config))
    assert report.complete
    x, noise = vector.section("in")["x"].requires_grad_(), vector.section("in")["noise"]
    seen = {}
    block = network.decoder.blocks[0]
    block.register_forward_hook(lambda module, args, out: seen.update(decoder=(args, out)))
    output = network(x, noise)
    loss = masked_patch_loss(output)
    loss.backward()
    with torch.no_grad():
        latent, mask = network.encode(x, noise)
        fresh = sincos_table(network.grid, latent.shape[-1], network.prefix)
        decoder_width = network.decoder_embedding.out_features
        (args, out) = seen["decoder"]
        ours = {
            "loss": loss,
            "pred": output.prediction,
            "mask": output.mask,
            "ids_restore": mask.restore,
            "latent": latent,
            "patch_tokens": network.patch_embedding(x),
            "init/pos_embed": fresh,
            "init/decoder_pos_embed": sincos_table(network.grid, decoder_width, network.decoder_prefix),
            # The residual stream of the first block is its input after the rotation.
            "decoder_first_block_in": out[1] if isinstance(out, tuple) else args[0],
            "target_patches_head": patchify(x, network.patch_size)[:, :2],
        }
        values = reduce_tokens(network.token_features(x, noise)[0])
        hidden = expand_to_image(mask.hidden.float(), network.grid, network.patch_size)
        reconstruction = unpatchify(output.prediction, network.grid, network.patch_size)
        ours |= {
            "vis_token_map": values,
            "vis_latent_volume": expand_to_image(values, network.grid, network.patch_size),
            "vis_mask_volume": hidden,
            "vis_masked_image": x * (1 - hidden),
            "vis_reconstruction": reconstruction,
            "vis_pasted": x * (1 - hidden) + reconstruction * hidden,
        }
    names = published_names(network)
    out_section = {k: v for k, v in vector.section("out").items() if not k.startswith("step1/")}
    for name, theirs in out_section.items():
        close(name, ours[name].reshape(theirs.shape) if name == "loss" else ours[name], theirs)
    compare_gradients(vector, network, names, {"x": x})
    compare_step(vector, network, names)


@adapter(lambda v: is_brain(v, "cls"))
def classifier(vector: Vector) -> None:
    arguments = classifier_arguments(vector.config)
    network, report = load("brain", vector.section("state"), **arguments)
    assert report.complete
    x, target = vector.section("in")["x"].requires_grad_(), vector.section("in")["target"]
    logits = network(x)
    loss = F.cross_entropy(logits, target, label_smoothing=0.1)
    loss.backward()
    with torch.no_grad():
        ours = {
            "logits": logits,
            "features": network.features(x),
            "loss": loss,
            "loss_ce": F.cross_entropy(logits, target),
        }
        if isinstance(network, ViTClassifier):
            ours["last_block_tokens"] = network.tokens(x)
            values = reduce_tokens(network.token_features(x), "pca1")
            # The sign of a principal component is arbitrary.
            values = values * torch.sign((values * vector.section("out")["vis_token_map"]).sum(1, keepdim=True))
        else:
            hidden, residual = network.streams(x)
            values = reduce_tokens(network.token_features(x))
            ours |= {
                "last_block_hidden": hidden,
                "last_block_residual": residual,
                "tokens": network.tokens(x),
            }
            for pooling in ("none", "max"):
                network.pooling = POOLINGS[pooling]
                ours[f"logits_pool_{pooling}"] = network(x)
            network.pooling = arguments["pooling"]
        ours |= {
            "vis_token_map": values,
            "vis_latent_volume": expand_to_image(values, network.grid, network.patch_size),
        }
    for name, theirs in vector.section("out").items():
        if not name.startswith("step1/"):
            close(name, ours[name].reshape(theirs.shape) if name.startswith("loss") else ours[name], theirs)
    names = published_names(network)
    compare_gradients(vector, network, names, {"x": x})
    compare_step(vector, network, names)


@adapter(lambda v: is_brain(v, "transfer"))
def transfer(vector: Vector) -> None:
    network = build(**classifier_arguments(vector.config["classifier"])).eval()
    names = published_names(network)
    report = transfer_encoder(vector.section("ckpt"), network)
    assert network.head.weight.abs().max() <= 4e-5
    tables = set(unused_entries(network))
    assert report.complete
    assert {names[key][0] for key in report.kept} | tables == set(vector.json("missing_keys"))
    assert {key.split(".")[0] for key in report.ignored} == set(vector.json("unexpected_prefixes"))
    inputs = vector.section("in")
    network.head.load_state_dict({name: inputs[f"head.{name}"] for name in ("weight", "bias")})
    with torch.no_grad():
        compare_all(vector, {"features": network.features(inputs["x"]), "logits": network(inputs["x"])})
