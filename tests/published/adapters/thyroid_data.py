"""Blurs and segmentation metrics of Deblurring MAE."""

import numpy as np
import torch

from custom_apps.thyroid.blur import blurred, filtered
from custom_apps.thyroid.blur_kernels import defocus_kernel, gaussian_taps
from custom_apps.thyroid.segmentation_metrics import area_counts, area_scores, pooled_scores, published_image_scores
from tests.published.vector import Vector, adapter, assert_output

TOLERANCE = 1e-9
EXACT = ("gaussian", "median")


@adapter(lambda v: "blurred_images.py" in v.source)
def thyroid_blur(v: Vector) -> None:
    inputs = {name: tensor.numpy() for name, tensor in v.section("in").items()}
    for name, expected in v.section("out").items():
        if name.startswith("kernel256_"):
            taps = torch.from_numpy(gaussian_taps(float(name.removeprefix("kernel256_"))))
            assert_output(name, taps.to(expected.dtype), expected, 0)
            continue
        if name == "defocus_kernel":
            assert_output(name, torch.from_numpy(defocus_kernel()), expected, TOLERANCE)
            continue
        image, method = name.split("/")
        method, _, number = method.partition("_")
        if method == "motion":
            ours = filtered(inputs[image], inputs["motion_kernel"])
        else:
            ours = blurred(inputs[image], method, **({"sigma": float(number)} if method == "gaussian" else {}))
        difference = np.abs(ours.astype(int) - expected.numpy()).max()
        assert difference <= (0 if method in EXACT else 1), f"{name}: {difference} gray levels"


@adapter(lambda v: "SEG_UNET/predict.py:evaluate" in v.source)
def thyroid_metrics(v: Vector) -> None:
    prediction, label, ignoring = (v.tensors[f"in/{name}"].numpy() for name in ("pred", "label", "label_with_ignore"))
    classes, ignored = v.config["num_classes"], v.config["ignore_index"]
    counts = [area_counts(*pair, classes, ignored) for pair in zip(prediction, ignoring, strict=True)]
    pooled = pooled_scores(np.stack(counts))
    one_by_one = area_scores(np.stack(counts).sum(0)[None])
    titles = {"IoU": "iou", "Acc": "accuracy", "Recall": "accuracy", "Dice": "dice", "Fscore": "dice"}
    titles |= {"Precision": "precision", "aAcc": "overall_accuracy"}
    images = [published_image_scores(*pair) for pair in zip(prediction, label, strict=True)]
    for name, expected in v.section("out").items():
        kind, measure = name.split("/")
        if kind == "dataset":
            ours = torch.from_numpy(np.atleast_1d(pooled[titles[measure]]))
            assert np.array_equal(np.atleast_1d(one_by_one[titles[measure]][0]), ours.numpy())
            assert_output(name, ours, expected, TOLERANCE)
        else:
            key = {"hd95": "hd95_pixels"}.get(measure, measure)
            ours = torch.tensor([scores[key] for scores in images], dtype=expected.dtype)
            assert_output(name, ours, expected, 1e-6 * float(expected.abs().max()))
