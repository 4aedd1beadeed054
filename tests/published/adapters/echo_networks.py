"""E-ViM3: layout, masks, mixers, stacks and whole networks, outputs and gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from custom_apps.echo.losses import AnnotatedFramesLoss, LesionLoss, annotated_frames
from custom_networks.layers.bidirectional_mamba import BidirectionalMamba
from custom_networks.layers.bidirectional_mamba2 import BidirectionalMamba2
from custom_networks.layers.chained_masking import ChainedMasking
from custom_networks.layers.enclosure_aggregation import EnclosureAggregation, FrameAggregation
from custom_networks.layers.enclosure_tokens import EnclosureLayout
from custom_networks.layers.global_line_block import GlobalLineBlock
from custom_networks.layers.mamba import Mamba
from custom_networks.layers.mamba2 import Mamba2
from custom_networks.layers.mamba3d import Mamba3DBlock
from custom_networks.layers.mamba_stack import MambaStack
from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.scan_orders import KeptOrders, VolumeOrders
from custom_networks.published import echo, load
from custom_networks.published.key_map import NameTable, load_published_state
from tests.published.adapters.echo_training import decision_scores
from tests.published.vector import Vector, adapter, assert_gradient, assert_output

OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def is_kind(*kinds: str):
    return lambda v: v.bundle == "echo_ef_mamba3d" and v.config.get("kind") in kinds


def assert_outputs(vector: Vector, computed: Mapping[str, torch.Tensor], skip: tuple[str, ...] = ()) -> None:
    """Every ``out/*``; the tolerance is relative to the largest value."""
    for name, theirs in vector.section("out").items():
        if not name.startswith(skip or ("\0",)):
            scale = theirs.double().abs().max().item() if theirs.is_floating_point() else 1.0
            assert_output(name, computed[name], theirs, OUTPUT_TOLERANCE * max(scale, 1e-3))


def assert_gradients(vector: Vector, network: nn.Module, names: NameTable, inputs: Mapping[str, torch.Tensor]) -> None:
    """Every ``grad/*``: parameters by their published name, inputs as ``in/<name>``."""
    parameters = dict(network.named_parameters())
    ours = {name: parameters[key].grad for key, group in names.items() if key in parameters for name in group}
    ours |= {f"in/{name}": tensor.grad for name, tensor in inputs.items()}
    for name, theirs in vector.section("grad").items():
        assert_gradient(name, ours[name], theirs, GRADIENT_TOLERANCE)


def fill(module: nn.Module, vector: Vector, prefix: str = "", ignore: tuple[str, ...] = ()) -> NameTable:
    """Fills a part of a network from the vector; the names are those of the part below ``prefix``."""
    names = {key: [prefix + echo.block_name(key)] for key in module.state_dict()}
    state = {k: v for k, v in vector.upstream_state().items() if k.startswith(prefix) and k not in ignore}
    load_published_state(module, state, names)
    return names


def registers(config: Mapping) -> list[int]:
    return [config.get("unified_reg_num", config.get(f"{axis}_reg_num", 0)) for axis in "lhw"]


@adapter(is_kind("enclosure"))
def enclosure_layout(vector: Vector) -> None:
    computed = {}
    for name, case in vector.config["cases"].items():
        layout = EnclosureLayout((case["L"], case["S"], case["S"]), registers(case["reg"]))
        starts = torch.tensor(
            [1001 + i for i in range(6)] + [2001 + i for i in range(12)] + [3001 + i for i in range(8)] + [4001]
        )
        ids = torch.empty(layout.size, dtype=torch.int64)
        ids.view(-1)[layout.patch_cells] = torch.arange(len(layout.patch_cells))
        ids.view(-1)[layout.shell_cells] = starts[layout.shell_kinds]
        real = torch.zeros(layout.size, dtype=torch.bool)
        real.view(-1)[layout.patch_cells] = True
        computed |= {f"{name}_ids": ids, f"{name}_real": real}
        computed |= {
            f"{name}_{axis}_idx": torch.tensor(planes) for axis, planes in zip("lhw", layout.planes, strict=True)
        }
    assert_outputs(vector, computed)


@adapter(is_kind("masks"))
def mask_upsampling(vector: Vector) -> None:
    computed, inputs = {}, vector.section("in")
    for name, case in vector.config["cases"].items():
        batch, *grid = case["shape"]
        masking = ChainedMasking(grid, case["mask_prob"], case["time_mask_chain"], case["mask_chain"])
        cells = inputs[f"{name}_cells"]
        drawn = masking.draw(batch)
        assert drawn.shape == cells.shape
        assert torch.equal(drawn.sum(1), cells.sum(1)), "number of hidden cells"
        computed[f"{name}_mask"] = masking.spread(cells).expand(batch, *grid)
    assert_outputs(vector, computed)


@adapter(is_kind("mamba_stack"))
def mamba_stack(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    stack = MambaStack(
        config["d_model"],
        config["n_layer"],
        config["mamba_block_type"],
        norm="rms" if config["rms_norm"] else "layer",
        final_norm=config["final_norm"],
        tower_layers=config["total_layers"],
    )
    names = fill(stack, vector)
    computed = {}
    for i, layer in enumerate(stack.layers):
        layer.register_forward_hook(
            lambda _, arguments, output, i=i: computed.update(
                {f"layer{i}_residual": arguments[0].detach(), f"layer{i}_hidden": output.detach()}
            )
        )
    x = inputs["x"].requires_grad_()
    y = stack(x)
    (y * inputs["w"]).sum().backward()
    assert_outputs(vector, computed | {"y": y})
    assert_gradients(vector, stack, names, {"x": x})


def stand_alone_mixer(name: str, config: Mapping, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The mixer that a vector calls ``name``; sizes that the configuration does not name are those of its weights."""
    width, taps, inner = config["d_model"], state["conv1d.weight"].shape[-1], state["out_proj.weight"].shape[1]
    common = {"d_conv": taps, "expand": inner // width}
    if "mamba2" in name:
        d_state, headdim = config["d_state2"], config["headdim2"]
        groups = (len(state["conv1d.bias"]) - inner) // (2 * d_state)
        common |= {"d_state": d_state, "headdim": headdim, "ngroups": groups}
        common |= {"D_has_hdim": len(state["D"]) == inner, "norm_before_gate": name == "mamba2_alt"}
        return BidirectionalMamba2(width, **common) if name == "bimamba2" else Mamba2(width, **common)
    common |= {"d_state": state["A_log"].shape[1], "dt_rank": state["dt_proj.weight"].shape[1]}
    if name == "none":
        return Mamba(width, **common)
    return BidirectionalMamba(width, kind=name[:2], halve=name == "v2_div", **common)


@adapter(is_kind("bimamba"))
def bidirectional_mixers(vector: Vector) -> None:
    inputs, holder, names = vector.section("in"), nn.ModuleDict(), {}
    x = inputs["x"].requires_grad_()
    for name in vector.section("out"):
        prefix = f"{name}."
        state = {k.removeprefix(prefix): v for k, v in vector.upstream_state().items() if k.startswith(prefix)}
        mixer = holder[name] = stand_alone_mixer(name, vector.config, state)
        if name == "bimamba2":
            state.pop("D_rev", None)  # stored and never read
        table = {key: [key.replace("_reverse", "_rev")] for key in mixer.state_dict()}
        load_published_state(mixer, state, table)
        names |= {prefix + key: [prefix + group[0]] for key, group in table.items()}
    computed = {name: mixer(x) for name, mixer in holder.items()}
    sum((y * inputs["w"]).sum() for y in computed.values()).backward()
    assert_outputs(vector, computed)
    assert_gradients(vector, holder, names, {"x": x})


@adapter(is_kind("mamba3d"))
def mamba3d_block(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    block = Mamba3DBlock(config["embed_dim"], config["n_mamba_per_block"], mixer=config["mamba_block_type"])
    names = fill(block, vector)
    computed, size = {}, tuple(inputs["x"].shape[1:4])

    def record(name: str):
        def hook(module, arguments, output) -> None:
            reverse = name.endswith("_reverse")
            key = f"seq_r_{name.removesuffix('_reverse')}_mamba" if reverse else f"seq_{name}_mamba"
            computed[key] = output.flip(1) if reverse else output

        return hook

    hooks = [stack.register_forward_hook(record(name)) for name, stack in block.named_children()]
    x, w, keep = inputs["x"].requires_grad_(), inputs["w"], inputs["keep"]
    y = block(x.flatten(1, 3), VolumeOrders(size)).unflatten(1, size)
    for hook in hooks:
        hook.remove()
    orders = KeptOrders.of(keep.flatten(1), size, len(x))
    y_kept = block(orders.take(x.flatten(1, 3)), orders)
    ((y * w).sum() + (y_kept.flatten(0, 1) * w[keep]).sum()).backward()
    computed |= {"y": y, "y_kept": y_kept, "y_2d_only": block.forward_frames(x)}
    computed |= {f"order_{step}": getattr(orders, step[-3:]) for step in ("lhw_to_hwl", "hwl_to_lwh", "lwh_to_lhw")}
    assert_outputs(vector, computed)
    assert_gradients(vector, block, names, {"x": x})


@adapter(is_kind("mamba3d_extra"))
def global_line_blocks(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    x = inputs["x"].requires_grad_()
    planes = [config[f"{axis}_idx"] for axis in "lhw"]
    blocks = nn.Sequential(
        *(
            GlobalLineBlock(
                config["embed_dim"],
                x.shape[1:4],
                planes,
                config["n_mamba_per_block"],
                mixer=config["mamba_block_type"],
            )
            for _ in range(config["extra_blocks_on_global"])
        )
    )
    names = fill(blocks, vector, "extra_blocks.")
    y = blocks(x)
    (y * inputs["w"]).sum().backward()
    assert_outputs(vector, {"y": y})
    assert_gradients(vector, blocks, names, {"x": x})


@adapter(is_kind("final"))
def final_aggregators(vector: Vector) -> None:
    config, x = vector.config, vector.section("in")["x"].requires_grad_()
    planes = registers(config["reg"])
    grid = [size - count - 2 for size, count in zip(x.shape[1:4], planes, strict=True)]
    layout = EnclosureLayout(grid, planes)
    assert [config[f"{axis}_idx"] for axis in "lhw"] == layout.planes
    holder, names = nn.ModuleDict(), {}
    for name in vector.section("out"):
        kind = FrameAggregation if name.startswith("frame_") else EnclosureAggregation
        part = holder[name] = kind(config["embed_dim"], layout, config["final_dim"], name.removeprefix("frame_"))
        table = {
            key: [f"{name}.{key.replace('norm.', 'final_norm.').replace('linear.', 'final_linear.mlp.0.')}"]
            for key in part.state_dict()
        }
        load_published_state(
            part, {k: v for k, v in vector.upstream_state().items() if k.startswith(f"{name}.")}, table
        )
        names |= {f"{name}.{key}": group for key, group in table.items()}
    computed = {name: part(x) for name, part in holder.items()}
    sum(torch.sin(y).sum() for y in computed.values()).backward()
    assert_outputs(vector, computed)
    assert_gradients(vector, holder, names, {"x": x})


MODELS = {
    "pretrain": "pretrain_video_mamba_3d_efficient",
    "ef": "echo_dynamic_video_mamba_3d",
    "seg": "echo_dynamic_video_mamba_3d_seg",
    "buv": "buv_video_mamba_3d",
}


def loaded(vector: Vector) -> nn.Module:
    """The network of a vector's configuration with its weights, and the derived layout checked."""
    config = vector.config
    arguments = echo.arguments_from_config(config["model"] | {"model_choice": MODELS[config["kind"]]}, config["data"])
    network, report = load("echo", vector.upstream_state(), **arguments)
    assert report.complete
    layout, derived = network.encoder.layout, config["derived"]
    assert list(layout.grid) == derived["grid"]
    assert list(layout.size) == derived["token_grid"]
    assert layout.planes == [derived[f"{axis}_reg_token_indices"] for axis in "lhw"]
    return network


@adapter(is_kind("pretrain"))
def masked_autoencoder(vector: Vector) -> None:
    network, inputs = loaded(vector), vector.section("in")
    x, cells = inputs["x"].requires_grad_(), inputs["mask_cells"]
    output = network(x, cells)
    loss = masked_patch_loss(output)
    loss.backward()

    grid, scored = network.encoder.layout.grid, output.weight > 0
    hidden = network.masking.spread(cells).flatten(1)
    encoded, orders = network.encode_visible(x, hidden)
    # Published networks embed hidden patches too, as a token that is thrown away behind the encoder.
    token = network.encoder_mask_token.expand(len(x), len(network.encoder.patch_cells), -1)
    embedded = network.encoder.positions(network.encoder.enclosure(token).unflatten(1, network.encoder.layout.size))
    computed = {
        "loss": loss,
        "patch_mask": scored.unflatten(1, grid),
        "original_masked": output.target[scored],
        "pred_masked": output.prediction[scored],
        "pred_all_patches": output.prediction.unflatten(1, grid),
        "encoder_tokens": orders.put(encoded, embedded.flatten(1, 3)).view(embedded.shape),
        "decoder_input_tokens": network.decoder_input(encoded, orders),
    }
    assert_outputs(vector, computed)
    assert_gradients(vector, network, echo.published_names(network), {"x": x})


@adapter(is_kind("ef"))
def ejection_fraction(vector: Vector) -> None:
    network, inputs = loaded(vector), vector.section("in")
    x, label = inputs["x"].requires_grad_(), inputs["gt_ef"].unsqueeze(1)
    prediction = network(x)
    loss = F.mse_loss(prediction, label)
    loss.backward()
    clips = x if x.dim() == 5 else x.flatten(0, 1)
    computed = {
        "pred_ef": prediction,
        "encoder_tokens": network.encoder(clips),
        "features": network.features(clips),
        "loss_mse": loss,
        "loss_l1": F.l1_loss(prediction, label),
        "loss_smooth_l1_beta4": F.smooth_l1_loss(prediction, label, beta=4.0),
    }
    assert_outputs(vector, computed)
    assert_gradients(vector, network, echo.published_names(network), {"x": x})


def pooled_dice(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice of all pixels of a batch together."""
    overlap = (prediction * label).sum()
    return 2 * overlap / (prediction.sum() + label.sum() + 1e-8)


@adapter(is_kind("seg"))
def ventricle_segmentation(vector: Vector) -> None:
    network, inputs = loaded(vector), vector.section("in")
    x, loss = inputs["x"].requires_grad_(), AnnotatedFramesLoss()
    logits = network(x)
    label = torch.stack([inputs["gt_largetrace"], inputs["gt_smalltrace"]], dim=1)
    frame = torch.stack([inputs["large_index"], inputs["small_index"]], dim=1)
    total = loss(logits, {"label": label, "label_frame": frame})
    total.backward()

    computed = {"pred_seg": logits, "encoder_tokens": network.encoder(x), "loss": total}
    decisions = []
    for i, name in enumerate(("ed", "es")):
        at_frame = annotated_frames(logits, frame[:, i])
        value, soft_dice = loss.of_frame(at_frame, label[:, i])
        decisions.append(at_frame.argmax(1).float())
        dice = pooled_dice(decisions[-1], label[:, i])
        computed |= {f"metric_{name}_dc_ce_loss": value, f"metric_{name}_dice": soft_dice}
        # One batch: the mean over batches of the pooled Dice is that of this batch.
        computed |= {f"epoch_{name}_global_dice": dice, f"epoch_{name}_each_mean_dice": dice}
    computed["epoch_overall_global_dice"] = pooled_dice(torch.stack(decisions, dim=1), label)
    assert_outputs(vector, computed)
    assert_gradients(vector, network, echo.published_names(network), {"x": x})


@adapter(is_kind("buv"))
def breast_lesion_classifier(vector: Vector) -> None:
    network, inputs = loaded(vector), vector.section("in")
    x, label = inputs["x"].requires_grad_(), inputs["y"].unsqueeze(1)
    video, frames = network(x)
    loss = LesionLoss(frame_weight=vector.config["frame_loss_weight"])((video, frames), label)
    loss.backward()
    every_frame = label.unsqueeze(1).expand_as(frames)
    volume = network.encoder.embed(x)
    encoded, by_frame = network.encoder.encode(volume), network.encoder.encode_frames(volume)
    computed = {
        "pred_y": video,
        "pred_frame_y": frames,
        "encoder_tokens": encoded,
        "encoder_tokens_2d": by_frame,
        "features": network.aggregation(encoded),
        "frame_features": network.frame_aggregation(by_frame),
        "loss": loss,
        "metric_ce_loss": LesionLoss()(video, label),
        "metric_frame_ce_loss": LesionLoss()(frames, every_frame),
    }
    for prefix, scores in (("", video), ("frame_", frames.mean(1))):
        decided = decision_scores(label.numpy().ravel(), scores.detach().sigmoid().numpy().ravel())
        computed |= {
            name.replace("cls_", f"epoch_{prefix}"): torch.tensor(value, dtype=torch.float64)
            for name, value in decided.items()
        }
    assert_outputs(vector, computed)
    assert_gradients(vector, network, echo.published_names(network), {"x": x})
