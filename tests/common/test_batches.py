import torch

from custom_apps.common.batches import PrepareBatch

BATCH = {"image": torch.ones(2, 1), "ef": torch.zeros(2, 1), "frame": torch.ones(2, 2), "index": torch.tensor([4, 7])}


def test_targets_are_one_several_or_missing():
    assert torch.equal(PrepareBatch("ef")(BATCH)[1], BATCH["ef"])
    both = PrepareBatch(["ef", "frame"])(BATCH)[1]
    assert list(both) == ["ef", "frame"]
    assert torch.equal(both["frame"], BATCH["frame"])
    assert PrepareBatch("label")(BATCH)[1] is None
    assert PrepareBatch(["ef", "label"])(BATCH)[1] is None


def test_target_may_be_the_image_itself():
    image, target = PrepareBatch("image")(BATCH, "cpu", dtype=torch.float64)
    assert image is target
    assert image.dtype == torch.float64
