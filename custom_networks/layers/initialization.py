"""Initial weights of token networks."""

from __future__ import annotations

import math

import torch
from torch import nn

from custom_networks.layers.patch_tokens import PatchTokens
from custom_networks.layers.residual_stack import ResidualStack


def initialize_as_autoencoder(network: nn.Module) -> None:
    """Xavier-uniform linear layers with zero bias, patch projections likewise on their flattened kernel.

    The time-step projections of state-space mixers keep their own initialization; the published pre-training networks
    overwrite it, and so begin with steps of ln 2.

    Source: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", appendix A.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith(("dt_proj", "dt_proj_reverse")):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, PatchTokens):
            nn.init.xavier_uniform_(module.projection.weight.flatten(1))


def initialize_as_classifier(network: nn.Module) -> None:
    """Linear layers from a normal distribution of deviation 0.02, truncated at 2, with zero bias.

    Time-step projections keep their own initialization.

    Source: the published vision transformers of timm.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith(("dt_proj", "dt_proj_reverse")):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def shrink_mixer_outputs(network: nn.Module, depth: int) -> None:
    """Draws every mixer's ``out_proj`` anew, at PyTorch's default divided by the root of the depth.

    Source: the published initialization of Mamba, after GPT-2.
    """
    for stack in network.modules():
        if isinstance(stack, ResidualStack):
            for block in stack.blocks:
                weight = block.mixer.out_proj.weight
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
                with torch.no_grad():
                    weight.div_(math.sqrt(depth))
