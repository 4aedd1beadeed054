"""Clips, frame numbers and masks of E-ViM3's data pipelines, from decoded videos on."""

import torch
from monai.transforms import Compose, NormalizeIntensityd

from custom_apps.echo.annotated_clip import AnnotatedClipd
from custom_apps.echo.clip_sampling import SampleClipd, take_frames
from custom_apps.echo.echonet import traced_pair
from custom_apps.echo.frames import GrayVideod
from custom_apps.echo.pad_and_crop import shift
from custom_apps.echo.segment_clip import SegmentClipd
from custom_apps.echo.tracings import Tracing, lv_mask
from tests.published.vector import Vector, adapter, assert_output

TOLERANCE = 1e-5


def frame_means(clip):
    return clip.mean((-2, -1))


@adapter(lambda v: "echo_dynamic_dataset" in v.source and v.config.get("kind") == "data")
def echo_data_pipeline(v: Vector) -> None:
    config, expected = v.config, v.section("out")
    length, period = config["length"], config["period"]
    gray = GrayVideod("image")
    echonet = Compose([gray, NormalizeIntensityd("image", config["gray_mean"] / 255, config["gray_std"] / 255)])
    breast = Compose([gray, NormalizeIntensityd("image", config["buv_mean"] / 255, config["buv_std"] / 255)])
    ours = {}
    for name in sorted(key.removeprefix("video_") for key in v.section("in") if key.startswith("video_")):
        video = v.tensors[f"in/video_{name}"]
        frames = echonet({"image": video})["image"].as_tensor()

        first = SampleClipd("image", length, period, "first")({"image": frames})
        ours[f"ef_clip_first_{name}"] = first["image"]
        ours[f"ef_first_indices_{name}"] = first["frame_indices"]
        ours[f"ef_first_realmask_{name}"] = first["real_frames"]
        several = SampleClipd("image", length, period, "spread", config["val_test_clips"])({"image": frames})
        ours[f"ef_multiclip_indices_{name}"] = several["frame_indices"]
        ours[f"ef_multiclip_mean_{name}"] = frame_means(several["image"])
        # A label passes through unchanged; the vector holds no input to compute it from.
        ours[f"ef_label_{name}"] = expected.get(f"ef_label_{name}")

        # Training draws, as recorded: start of the clip and corner of the crop.
        indices = config["train_start"] + period * torch.arange(length).numpy()
        ours[f"ef_train_indices_{name}"] = torch.from_numpy(indices)
        ours[f"ef_clip_train_{name}"] = shifted(take_frames(frames, indices), config)

        tracings = [
            Tracing(int(v.tensors[f"in/trace_{kind}_frame_{name}"]), v.tensors[f"in/trace_{kind}_{name}"].numpy())
            for kind in ("small", "large")
        ]
        published = AnnotatedClipd("image", length, include_end=False)
        item = published({"image": frames, "tracings": traced_pair(tracings)})
        places = [0 if int(place) == 0 else -1 for place in item["label_frame"].flip(0)]
        ours[f"seg_clip_{name}"] = item["image"]
        ours[f"seg_positions_{name}"] = torch.tensor([*places, *(tracing.frame for tracing in tracings)])
        ours[f"seg_large_mask_{name}"], ours[f"seg_small_mask_{name}"] = item["label"]
        ours[f"seg_clip_train_{name}"] = shifted(item["image"], config)
        # The published system shifts the clip alone.
        ours[f"seg_train_large_mask_{name}"], ours[f"seg_train_small_mask_{name}"] = item["label"]
        assert torch.equal(item["label"][1], torch.from_numpy(lv_mask(tracings[0].rows, video.shape[-2:])).long())

        for clips in config["buv_clips"]:
            middle = Compose([SegmentClipd("image", length, period, clips, random=False), breast])
            ours[f"buv_eval_clip{clips}_{name}"] = frame_means(middle({"image": video[:1]})["image"].as_tensor())
    assert set(expected) <= set(ours), f"not compared: {sorted(set(expected) - set(ours))}"
    for key, value in expected.items():
        assert_output(key, ours[key], value, TOLERANCE)


def shifted(clip, config):
    """The clip as cut out of the padded one at the recorded corner."""
    return shift(clip, config["train_pad"], *config["train_crop_ij"])
