"""What surrounds the brain networks: scores, neighbors, folds, intensities, schedules, parameter groups, positions."""

from __future__ import annotations

import re

import torch
from torch import nn

from custom_apps.brain.knn import knn_scores, neighbor_votes
from custom_apps.brain.published_scores import published_scores
from custom_apps.common.parameter_groups import parameter_groups
from custom_apps.common.schedules import WarmupSchedule
from custom_networks.layers.patch_tokens import patchify
from custom_networks.layers.rotary import grid_rotation, rotary_frequencies, rotate, sequence_rotation
from custom_networks.layers.sincos_positions import sincos_table
from custom_networks.nets.vim_classifier import VimClassifier
from custom_networks.nets.vim_mae import VimMAE
from custom_networks.published.brain import published_names
from tests.published.adapters.brain_data import check_folds, check_intensities
from tests.published.adapters.brain_networks import close, is_brain
from tests.published.vector import Vector, adapter


@adapter(lambda v: is_brain(v, "recipe"))
def brain_recipe(vector: Vector) -> None:
    config, given = vector.config, vector.section("in")
    compared = check_intensities(vector) | check_folds(vector)
    ours = scores(given, config) | neighbors(given, config) | positions(vector)
    for stage in ("pretrain", "finetune"):
        ours[f"lr_{stage}"] = rates(given[f"epochs_{stage}"], config[f"schedule_{stage}"])
    for name, theirs in vector.section("out").items():
        if f"out/{name}" not in compared:
            assert name in ours, f"nothing of ours corresponds to out/{name}"
            close(name, ours[name], theirs)
    compare_groups(vector)


def scores(given: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """Of a fold, whose loss depends on the batches, and of cases of all folds together."""
    fold = published_scores(given["target"].numpy(), given["logits"], config["eval_batch"])
    return {
        f"{kind}/{name}": torch.tensor([value], dtype=torch.float32)
        for kind in ("eval", "global")
        for name, value in fold.items()
    }


def neighbors(given: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    known, new = given["knn_train_features"].numpy(), given["knn_val_features"].numpy()
    votes = neighbor_votes(known, given["knn_train_labels"].numpy(), new, config["knn_k"])
    found = knn_scores(votes, given["knn_val_labels"].numpy())
    return {f"knn/{name}": torch.tensor([value], dtype=torch.float32) for name, value in found.items()} | {
        "knn/pred": torch.from_numpy(votes.predicted)
    }


def rates(epochs: torch.Tensor, schedule: dict) -> torch.Tensor:
    """Rates at fractions of epochs."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=schedule["lr"])
    ours = WarmupSchedule(
        optimizer,
        schedule["epochs"],
        schedule["warmup_epochs"],
        final_ratio=schedule["min_lr"] / schedule["lr"],
        start_ratio=0.0,
    )
    return torch.tensor([schedule["lr"] * ours.ratio(float(epoch)) for epoch in epochs], dtype=torch.float64)


def positions(vector: Vector) -> dict[str, torch.Tensor]:
    """Patch order, rotations of both stages, tables named d<width>_g<grid>."""
    config, given = vector.config, vector.section("in")
    image, patch, tokens = given["patchify"], config["patchify_patch"], given["rope_x"]
    length, width = tokens.shape[1:]
    size = config["rope_finetune"]["ft_seq_len"]
    grid = grid_rotation("axial_two_of_three", (size,) * 3, width, tokens.device)
    ours = {
        "patchify": patchify(image, (patch,) * (image.ndim - 2)),
        "rope_finetune/freqs_cos": grid[0].repeat_interleave(2, dim=1),
        "rope_finetune/freqs_sin": grid[1].repeat_interleave(2, dim=1),
        "rope_finetune/rotated": rotate(tokens, grid),
        "rope_pretrain/freqs": rotary_frequencies(width // 4, tokens.device),
        "rope_pretrain/rotated": rotate(tokens, sequence_rotation(length, width, tokens.device)),
    }
    for name in vector.section("out"):
        if found := re.fullmatch(r"sincos3d/d(\d+)_g(\d+)", name):
            table_width, points = map(int, found.groups())
            ours[name] = sincos_table((points,) * 3, table_width, 0)[0]
    return ours


# Unlike the defaults of our configurations, the published ones let A_log decay.
PUBLISHED_NO_DECAY = ["position_embedding", "class_token", "tail_token"]


def compare_groups(vector: Vector) -> None:
    """Weight decay, and in fine-tuning the rate, of every parameter."""
    decay = max(weight_decay for _, weight_decay in vector.json("finetune_groups").values())
    expected = {name: tuple(values) for name, values in vector.json("finetune_groups").items()}
    depth = depth_of(expected, "blocks")
    network = VimClassifier(image_size=(8, 8, 8), patch_size=4, embed_dim=12, depth=depth)
    layers = [["patch_embedding.", "position_embedding", "class_token"]]
    layers += [[f"encoder.blocks.{i}."] for i in range(depth)]
    found = groups_of(network, decay, PUBLISHED_NO_DECAY, vector.config["layer_decay"], layers)
    assert found == expected

    expected = vector.json("pretrain_groups")
    depths = {"depth": depth_of(expected, "blocks"), "decoder_depth": depth_of(expected, "decoder_blocks")}
    network = VimMAE(image_size=(8, 8, 8), patch_size=4, embed_dim=12, decoder_dim=12, **depths)
    found = {name: weight_decay for name, (_, weight_decay) in groups_of(network, max(expected.values())).items()}
    # Published networks without a class token keep one that no gradient reaches; ours have none.
    assert found == {name: value for name, value in expected.items() if name != "cls_token"}


def depth_of(names: dict, stack: str) -> int:
    return 1 + max(int(found[1]) for name in names if (found := re.match(rf"{stack}\.(\d+)\.", name)))


def groups_of(network: nn.Module, decay: float, no_decay=(), layer_decay: float = 1.0, layers=()) -> dict:
    """Published name to scale of the rate and weight decay."""
    names = published_names(network)
    keys = {id(parameter): names[key][0] for key, parameter in network.named_parameters()}
    groups = parameter_groups(network, 1.0, decay, no_decay, layer_decay=layer_decay, layers=layers)
    return {keys[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
