"""Cropping, normalization and resampling of nnU-Net as bundled with U-Mamba."""

import torch

from custom_apps.seg.cropping import crop_to_nonzero
from custom_apps.seg.normalization import normalize
from custom_apps.seg.resampling import resample, shape_at_spacing
from tests.published.vector import Vector, adapter, assert_output

TOLERANCE = 1e-4


@adapter(lambda v: "preprocessing/cropping" in v.source)
def preprocessing(v: Vector) -> None:
    spacing, target = v.config["spacing"], v.config["target_spacing"]
    image, seg, logits = (v.tensors[f"in/{name}"].numpy() for name in ("image", "seg", "logits"))
    cropped, cropped_seg, box = crop_to_nonzero(image, seg)
    z_scored = normalize(cropped[0], "ZScoreNormalization")
    images = torch.stack([torch.from_numpy(normalize(channel, "ZScoreNormalization")) for channel in cropped]).numpy()
    new_shape = shape_at_spacing(cropped.shape[1:], spacing, target)
    ours = {
        "bbox": torch.tensor(box),
        "cropped_image": cropped,
        "cropped_seg": cropped_seg,
        "ct_norm": normalize(cropped[0], "CTNormalization", intensities=v.config["ct_properties"]),
        "zscore": z_scored,
        "zscore_masked": normalize(cropped[0], "ZScoreNormalization", mask=cropped_seg[0] >= 0),
        "new_shape": torch.tensor(new_shape),
        "resampled_image": resample(images, new_shape, spacing, target),
        "resampled_seg": resample(cropped_seg, new_shape, spacing, target, is_seg=True, order=1),
        "logits_back": resample(logits, cropped.shape[1:], target, spacing, order=1),
    }
    assert set(v.section("out")) <= set(ours), "the vector holds an output that is not compared"
    for name, expected in v.section("out").items():
        assert_output(name, torch.as_tensor(ours[name]), expected, TOLERANCE)
