"""Deblurring MAE, ConvMAE and their classifiers and segmentation networks; outputs, losses and gradients."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import nn

from custom_networks.layers.masked_prediction import masked_patch_loss
from custom_networks.layers.patch_tokens import patchify, unpatchify
from custom_networks.layers.pyramid_heads import resize
from custom_networks.layers.relative_position_bias import RelativePositionBias
from custom_networks.published import load
from custom_networks.published.thyroid import build, published_names, start_from_autoencoder
from tests.published.vector import Vector, adapter, assert_gradient, assert_output

OUTPUT, GRADIENT = 5e-6, 2e-5

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def is_thyroid(vector: Vector, *classes: str) -> bool:
    return "MembrAI/DeblurringMAE" in vector.source and str(vector.config.get("class", "")).startswith(classes)


def compare(vector: Vector, ours: dict[str, torch.Tensor]) -> None:
    """Everything in ``out/`` is there and agrees; ``<name>_every<n>`` is a part of ``<name>``."""
    for name, theirs in vector.section("out").items():
        whole, _, step = name.partition("_every")
        assert whole in ours, f"nothing of ours corresponds to out/{name}"
        value = ours[whole].detach()
        if step:
            n = int(step)
            value = value[:, ::n] if value.ndim == 3 else value[..., ::n, ::n]
        scale = theirs.abs().max().item() if theirs.is_floating_point() else 1.0
        assert_output(name, value.reshape(theirs.shape).to(theirs.dtype), theirs, OUTPUT * max(scale, 1e-6))


def compare_gradients(vector: Vector, network: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    parameters = dict(network.named_parameters())
    ours = {group[0]: parameters[key] for key, group in published_names(network).items() if key in parameters}
    ours |= {f"in/{name}": tensor for name, tensor in inputs.items()}
    for name, theirs in vector.section("grad").items():
        assert_gradient(name, ours[name].grad, theirs, GRADIENT)


def as_color(grey: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """Grey bytes (H, W), or batches of them, as the network sees them; ``factor`` 255 for statistics of 0-255."""
    image = grey.float().reshape(-1, 1, *grey.shape[-2:]).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (image / 255 - mean) / std if factor == 1.0 else (image - mean * factor) / std.mul(factor)


def square(size: int | list[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else [size[0], size[0]]


def image_arguments(config: dict) -> dict:
    """Arguments of an encoder from those of the published constructor."""
    arguments = {"in_channels": config["in_chans"], "image_size": square(config["img_size"])}
    arguments["num_heads"] = config["num_heads"]
    if isinstance(config["patch_size"], int):
        names = {"patch_size": "patch_size", "embed_dim": "embed_dim", "depth": "depth", "mlp_ratio": "mlp_ratio"}
    else:
        names = {"patch_size": "patch_sizes", "embed_dim": "embed_dims", "depth": "depths", "mlp_ratio": "mlp_ratios"}
    arguments |= {ours: config[theirs] for theirs, ours in names.items()}
    return arguments


@adapter(lambda v: is_thyroid(v, "MaskedAutoencoder", "DMaskedAutoencoder"))
def masked_autoencoder(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    conv = "Conv" in config["class"]
    arguments = image_arguments(config) | {
        "network": "ConvMAE" if conv else "ViTMAE",
        "decoder_dim": config["decoder_embed_dim"],
        "decoder_depth": config["decoder_depth"],
        "decoder_num_heads": config["decoder_num_heads"],
        "norm_pix": config["norm_pix_loss"],
        "mask_ratio": config["mask_ratio"],
        "loss_on": "all" if config["deblurring"] else "hidden",
        "token_order": "shuffle",
    }
    network, report = load("thyroid", vector.section("state"), **arguments)
    assert report.complete
    images = {name: as_color(value) if name.endswith("_u8") else value for name, value in inputs.items()}
    images = {name.removesuffix("_u8"): value for name, value in images.items() if name != "noise"}
    seen = next(iter(images)) if len(images) == 1 else "blurred"
    image = images[seen].requires_grad_()
    output = network(image, inputs["noise"], images.get("original"))
    loss = masked_patch_loss(output)
    loss.backward()
    with torch.no_grad():
        latent, mask = network.encode(image, inputs["noise"])
        ours = {
            "loss": loss,
            "pred": output.prediction,
            # Before it is standardized.
            "target": patchify(images.get("original", image), network.patch_size),
            "reconstruction": unpatchify(output.prediction, network.grid, network.patch_size),
            "mask": output.mask,
            "ids_restore": mask.restore,
            "latent": latent,
        }
        if conv:
            ours["stage1"], ours["stage2"], _ = network.patch_embedding.maps(image, ~mask.hidden)
        else:
            ours["patch_tokens"] = network.patch_embedding(image)
    compare(vector, ours)
    compare_gradients(vector, network, {seen: image})


@adapter(lambda v: is_thyroid(v, "VisionTransformer", "ConvViT"))
def classifier(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    conv = config["class"] == "ConvViT"
    pooling = "mean" if config["global_pool"] else "first_patch" if conv else "class_token"
    arguments = image_arguments(config) | {
        "network": "ConvViTClassifier" if conv else "ViTClassifier",
        "num_classes": config["num_classes"],
        "pooling": pooling,
        "qkv_bias": config.get("qkv_bias", True),
    }
    network, report = load("thyroid", vector.section("state"), **arguments)
    assert report.complete
    image = inputs["image"].requires_grad_()
    logits = network(image)
    loss = F.cross_entropy(logits, inputs["label"], label_smoothing=0.1)
    loss.backward()
    with torch.no_grad():
        ours = {"logits": logits, "loss": loss, "tokens": network.tokens(image), "features": network.features(image)}
        if conv:
            ours["stage1"], ours["stage2"], _ = network.patch_embedding.maps(image)
    compare(vector, ours)
    compare_gradients(vector, network, {"image": image})


def pyramid_arguments(config: dict) -> dict:
    relative = "each_block" if config.get("use_rel_pos_bias") else "none"
    return image_arguments(config) | {
        "layer_scale": config["init_values"],
        "absolute_positions": config["use_abs_pos_emb"],
        "relative_positions": "shared" if config.get("use_shared_rel_pos_bias") else relative,
        "qkv_bias": config.get("qkv_bias", True),
        "drop_path": 0.0,
    }


def compare_indices(vector: Vector, network: nn.Module) -> None:
    """Published indices of relative positions are those of the network."""
    ours = [module.index for module in network.modules() if isinstance(module, RelativePositionBias)]
    stored = [value for name, value in vector.section("state").items() if name.endswith("relative_position_index")]
    assert len(stored) == len(ours)
    assert all(torch.equal(value, index) for value, index in zip(stored, ours, strict=True))


@adapter(lambda v: is_thyroid(v, "EncoderDecoder(ConvMAE, UPerHead"))
def upernet(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    arguments = pyramid_arguments(config["backbone"]) | {
        "network": "UPerNet",
        "out_channels": config["num_classes"],
        "channels": config["channels"],
        "auxiliary_channels": config["aux_channels"],
        "pool_scales": config["pool_scales"],
    }
    network, report = load("thyroid", vector.section("state"), **arguments)
    assert report.complete
    compare_indices(vector, network)
    image, label = as_color(inputs["image_u8"], 255.0), inputs["label"][:, 0].long()
    main, auxiliary = network.head_logits(image)
    upsampled = resize(main, label.shape[1:])

    def cross_entropy(logits: torch.Tensor) -> torch.Tensor:
        # Ignored pixels count in the mean.
        return F.cross_entropy(logits, label, ignore_index=config["ignore_index"], reduction="none").mean()

    loss, auxiliary_loss = cross_entropy(upsampled), cross_entropy(resize(auxiliary, label.shape[1:]))
    auxiliary_loss = config["aux_loss_weight"] * auxiliary_loss
    (loss + auxiliary_loss).backward()
    with torch.no_grad():
        valid = label != config["ignore_index"]
        accuracy = 100 * (upsampled.argmax(1) == label)[valid].float().mean()
        # Half a pixel more, because MONAI rounds the stride down from the overlap.
        crop = config["slide_crop"]
        overlap = [1 - (stride + 0.5) / side for stride, side in zip(config["slide_stride"], crop, strict=True)]
        slide = as_color(inputs["slide_image_u8"], 255.0)
        logits = sliding_window_inference(slide, crop, 2, network, overlap=overlap)
        probability = resize(logits, config["slide_original_shape"]).softmax(dim=1)
        ours = {f"feat{i}": x for i, x in enumerate(network.backbone(image))} | {
            "main_logits": main,
            "aux_logits": auxiliary,
            "upsampled_logits": upsampled,
            "decode_loss_ce": loss,
            "aux_loss_ce": auxiliary_loss,
            "decode_acc_seg": accuracy,
            "slide_logits": logits,
            "slide_prob": probability,
            "slide_pred": probability.argmax(dim=1),
        }
        torch.testing.assert_close(network(image), resize(main, image.shape[2:]))
    compare(vector, ours)
    compare_gradients(vector, network, {})


@adapter(lambda v: is_thyroid(v, "SegmentationModel"))
def unet(vector: Vector) -> None:
    config, inputs = vector.config, vector.section("in")
    arguments = pyramid_arguments(config) | {
        "network": {"unet": "UNet", "unetpp": "UNetPlusPlus"}[config["decoder"]],
        "encoder": {"convmae": "conv_vit", "mae": "vit"}[config["encoder"]],
        "channels": config["decoder_channels"],
        "full_size": False,
    }
    if config["encoder"] == "mae":
        arguments["taps"] = config["out_indices"]
    network, report = load("thyroid", vector.section("state"), **arguments)
    assert report.complete
    compare_indices(vector, network)
    image, mask = as_color(inputs["image_u8"]), inputs["mask"]
    probability = network(image).sigmoid()
    loss = 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    loss.backward()
    with torch.no_grad():
        found = (probability > 0.5).float()
        both, either, eps = (found * mask).sum(), found.sum() + mask.sum(), 1e-7
        ours = {f"feat{i}": x for i, x in enumerate(network.backbone(image))} | {
            "prob": probability,
            "dice_loss": loss,
            "fscore": (2 * both + eps) / (either + eps),
            "iou": (both + eps) / (either - both + eps),
        }
    compare(vector, ours)
    compare_gradients(vector, network, {})


@adapter(lambda v: "MembrAI/DeblurringMAE" in v.source and "target_grid" in v.config)
def hand_over_to_a_backbone(vector: Vector) -> None:
    config, inputs, checkpoint = vector.config, vector.section("in"), vector.section("ckpt")
    content = {"model": {name.removeprefix("model/"): value for name, value in checkpoint.items()}}
    patches = [content["model"][f"patch_embed{i}.proj.weight"].shape[-1] for i in (1, 2, 3)]
    network = build(
        "UPerNet",
        image_size=inputs["image"].shape[2:],
        patch_sizes=patches,
        embed_dims=config["embed_dim"],
        depths=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratios=config["mlp_ratio"],
        channels=4,
    ).eval()
    names = {key: group[0].removeprefix("backbone.") for key, group in published_names(network).items()}
    report = start_from_autoencoder(content, network)
    missing = {names[key] for key in report.kept if key.startswith("backbone.")}
    # Indices of relative positions are no part of our state.
    assert missing == {name for name in config["missing_keys"] if not re.search(r"relative_position_index$", name)}
    assert set(report.ignored) == set(config["unexpected_keys"])
    given = {key: vector.section("state")[name] for key, name in names.items() if name in vector.section("state")}
    network.load_state_dict(given, strict=False)
    for key, name in report.matched.items():
        if name != "pos_embed":
            assert torch.equal(network.state_dict()[key], content["model"][name]), name
    with torch.no_grad():
        maps = network.backbone(inputs["image"])
        ours = {f"feat{i}": x for i, x in enumerate(maps)} | {"pos_embed": network.backbone.position_embedding}
    compare(vector, ours)
