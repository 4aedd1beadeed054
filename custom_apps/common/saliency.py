"""Maps of what in an image a network's answer depends on, for regression, classification and segmentation.

Source: gradients, Simonyan et al. 2013; SmoothGrad, Smilkov et al. 2017; Grad-CAM, Selvaraju et al. 2017, for
segmentation as in Vinogradova et al. 2020 (scores summed over the region that the network found); computed by
:mod:`monai.visualize`. Guided backpropagation is left out: it changes ReLUs, of which the encoders here have none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.inferers import Inferer
from monai.visualize import GradCAM, SmoothGrad, VanillaGrad
from torch import nn

from custom_apps.common.distributed import without_ddp
from custom_apps.common.latent_map import latent_map

METHODS = ("smoothgrad", "gradient", "gradcam", "latent")


class Score(nn.Module):
    """A network whose only output is the number that a map explains, (B, 1).

    Args:
        network: gives values or logits (B, K), or logits (B, K, *spatial); of several outputs the first counts.
        target: channel to explain. None for the only one, the largest logit, or, in a segmentation, all but the first
            (the background).

    Of logits with spatial axes the score is their sum where the network finds the target: where its channel is the
    largest, or, of a single channel, above 0.
    """

    def __init__(self, network: nn.Module, target: int | None = None):
        super().__init__()
        self.network, self.target = network, target

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores of images (B, C, *spatial)."""
        output = self.network(image)
        output = output[0] if isinstance(output, (list, tuple)) else output
        channels = output.shape[1]
        if self.target is not None and not 0 <= self.target < channels:
            raise ValueError(f"target must be a channel from 0 to {channels - 1}, got {self.target}")
        if output.dim() == 2:
            if self.target is None:
                return output.amax(dim=1, keepdim=True)
            return output[:, self.target : self.target + 1]
        flat = output.flatten(2)
        if channels == 1:
            found, values = flat[:, 0] > 0, flat[:, 0]
        else:
            largest, channel = flat.max(dim=1)
            found = channel > 0 if self.target is None else channel == self.target
            values = largest if self.target is None else flat[:, self.target]
        return (values * found).sum(dim=1, keepdim=True)


def saliency_map(
    network: nn.Module,
    image: torch.Tensor,
    method: str = "smoothgrad",
    target: int | None = None,
    samples: int = 8,
    noise: float = 0.15,
    layer: str | None = None,
    seed: int = 0,
    **latent: Any,
) -> torch.Tensor:
    """A map of where an image matters to a network.

    Args:
        network: see :class:`Score`. Its parameters keep their values and gradients.
        image: (B, C, *spatial), as the network takes it.
        method: ``gradient``, the largest absolute derivative of the score by a channel; ``smoothgrad``, the same of
            the root mean square over noisy copies; ``gradcam``; or ``latent``, which needs tokens and ignores the
            score, see :func:`custom_apps.common.latent_map.latent_map`.
        target: channel to explain, see :class:`Score`.
        samples: of ``smoothgrad``.
        noise: of ``smoothgrad``: standard deviation in units of the image's range.
        layer: of ``gradcam``: name of the module whose output (B, channels, *grid) is weighted.
        seed: of the noise.
        **latent: options of ``latent``: ``source``, ``reduce``, ``blocks``, ``expand``, ``rescale``.

    Returns:
        (B, 1, *spatial) float32, not below 0 except for ``latent``.

    Raises:
        ValueError: for an unknown method, target or layer, options of another method, or a layer without a grid.
    """
    network = without_ddp(network)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "latent":
        return latent_map(network, image, **latent)
    if latent:
        raise ValueError(f"{method} has no option {', '.join(latent)}")
    with torch.enable_grad(), torch.autocast(image.device.type, enabled=False), _frozen(network):
        score = Score(network, target)
        if method == "gradcam":
            return _gradcam(score, image, layer)
        explain = VanillaGrad(score) if method == "gradient" else SmoothGrad(score, noise, samples, verbose=False)
        maps = []
        for sample in image.detach().float():
            with torch.random.fork_rng(devices=[image.device] if image.device.type == "cuda" else []):
                torch.manual_seed(seed)
                maps.append(explain(sample[None].clone(), 0).detach().abs().amax(dim=1, keepdim=True))
        return torch.cat(maps)


def _gradcam(score: Score, image: torch.Tensor, layer: str | None) -> torch.Tensor:
    names = [name.removeprefix("network.") for name, _ in score.named_modules()]
    if layer not in names[1:]:
        raise ValueError(f"gradcam needs the name of a layer of the network, got {layer!r}")
    cam = GradCAM(score, target_layers=f"network.{layer}", postprocessing=lambda values: values)
    # The hooks of Grad-CAM only see gradients of what depends on something that has one.
    inputs = image.detach().float().requires_grad_()
    cam_map = cam.compute_map(inputs, class_idx=0)
    if cam_map.dim() != image.dim():
        raise ValueError(f"the output of {layer} has no grid like the image's; choose a layer that gives maps")
    return cam.upsampler(image.shape[2:])(cam_map).detach()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients of parameters and hooks; afterwards as before."""
    state = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    hooks = [
        (module, dict(module._forward_hooks), dict(module._backward_hooks), module.training)
        for module in network.modules()
    ]
    try:
        yield network.eval().requires_grad_(False)
    finally:
        for parameter, required, gradient in state:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        for module, forward, backward, training in hooks:
            for now, before in ((module._forward_hooks, forward), (module._backward_hooks, backward)):
                for key in now.keys() - before.keys():
                    del now[key]
            module.training = training


class SaliencyInferer(Inferer):
    """Inferer that gives the map of an image in place of the network's answer.

    Args:
        inferer: one that goes through large images in windows: the map is put together from maps of windows. None for
            the whole image at once.
        **options: of :func:`saliency_map`.
    """

    def __init__(self, inferer: Inferer | None = None, **options: Any):
        super().__init__()
        self.inferer, self.options = inferer, options

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Maps (B, 1, *spatial) of images (B, C, *spatial)."""

        def explain(window: torch.Tensor) -> torch.Tensor:
            return saliency_map(network, window, **self.options)

        inputs = inputs.as_subclass(torch.Tensor)
        return explain(inputs) if self.inferer is None else self.inferer(inputs, explain)


def randomization_test(
    network: nn.Module, image: torch.Tensor, explain: Callable[[nn.Module, torch.Tensor], torch.Tensor], seed: int = 0
) -> dict[str, float]:
    """How much of a map is left as the network's weights are replaced, part by part from the output to the input.

    A map that stays the same shows edges of the image and nothing that the network has learned.

    Args:
        network: not changed.
        image: (B, C, *spatial).
        explain: gives a map of a network and an image, such as :func:`saliency_map`.
        seed: of the weights.

    Returns:
        Name of each child of the network, the last first, to Spearman's correlation of the map with the original one
        once the weights of this and all earlier children are shuffled within each parameter. Children without
        parameters are left out; NaN for a constant map.

    Source: sanity check of cascading randomization, Adebayo et al. 2018. Deviation: weights are shuffled, which keeps
        their distribution, where a network's own initialization would have to be known.
    """
    import numpy as np
    from scipy.stats import spearmanr

    shuffled, generator = copy.deepcopy(without_ddp(network)), torch.Generator().manual_seed(seed)
    original, found = explain(network, image).flatten().cpu().numpy(), {}
    for name, child in reversed(list(shuffled.named_children())):
        parameters = list(child.parameters())
        for parameter in parameters:
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.data = parameter.data.flatten()[order].view_as(parameter)
        if parameters:
            now = explain(shuffled, image).flatten().cpu().numpy()
            constant = np.ptp(now) == 0 or np.ptp(original) == 0
            found[name] = float("nan") if constant else float(spearmanr(original, now).statistic)
    return found
