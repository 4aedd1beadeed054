import torch

from custom_apps.common.batches import PrepareBatch

BATCH = {"image": torch.ones(2, 1), "ef": torch.zeros(2, 1), "frame": torch.ones(2, 2), "index": torch.tensor([4, 7])}


def test_targets_are_none_one_or_several():
    assert PrepareBatch(None)(BATCH)[1] is None
    assert PrepareBatch("ef")(BATCH)[1] is not None
    both = PrepareBatch(["ef", "frame"])(BATCH)[1]
    assert list(both) == ["ef", "frame"]
    assert torch.equal(both["frame"], BATCH["frame"])
    assert PrepareBatch("label")(BATCH)[1] is None, "as at inference"


def test_target_may_be_the_image_itself():
    image, target, args, kwargs = PrepareBatch("image")(BATCH)
    assert torch.equal(image, target)
    assert args == ()
    assert kwargs == {}


def test_arguments_of_the_network_and_precision():
    image, _, _, kwargs = PrepareBatch("ef", network_keys={"position": "index"})(BATCH, "cpu", dtype=torch.float64)
    assert image.dtype == torch.float64
    assert torch.equal(kwargs["position"], BATCH["index"])


def test_mixing_sees_image_and_targets():
    def halve(tensors):
        return {key: value / 2 for key, value in tensors.items()}

    image, target, *_ = PrepareBatch("frame", mix=halve)(BATCH)
    assert float(image[0, 0]) == float(target[0, 0]) == 0.5
