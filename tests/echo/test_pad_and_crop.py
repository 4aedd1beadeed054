import pytest
import torch

from custom_apps.echo.pad_and_crop import PadAndCropd, shift


def item(height=9, width=11):
    frame = torch.arange(1.0, height * width + 1).view(height, width)
    return {"image": frame.expand(1, 4, -1, -1).clone(), "label": frame.long().expand(2, -1, -1).clone()}


def test_offsets_move_the_frame():
    frame = torch.tensor([[1.0, 2], [3, 4]])
    assert shift(frame, 1, 1, 1).tolist() == [[1, 2], [3, 4]]
    assert shift(frame, 1, 0, 1).tolist() == [[0, 0], [1, 2]]
    assert shift(frame, 2, 3, 1).tolist() == [[0, 3], [0, 0]]


def test_image_and_masks_move_together_alike_in_all_frames():
    transform = PadAndCropd(padding=3)
    transform.set_random_state(seed=0)
    for _ in range(10):
        moved = transform(item())
        assert moved["image"].shape == (1, 4, 9, 11)
        assert torch.equal(moved["image"], moved["image"][:, :1].expand(-1, 4, -1, -1))
        assert torch.equal(moved["image"][0, 0].long(), moved["label"][1])


def test_shifts_span_the_published_range():
    transform = PadAndCropd("image", padding=3)
    transform.set_random_state(seed=1)
    draws = [transform.randomize() for _ in range(500)]
    for axis in (0, 1):
        # The upper end is left out: from three pixels one way to two the other.
        assert {draw[axis] for draw in draws} == set(range(6))


def test_the_published_system_leaves_masks_behind():
    transform = PadAndCropd("image", padding=3)
    transform.set_random_state(seed=2)
    moved = transform(item())
    assert torch.equal(moved["label"], item()["label"])
    assert not torch.equal(moved["image"], item()["image"])


def test_items_without_masks_and_several_clips():
    transform = PadAndCropd(padding=2)
    transform.set_random_state(seed=3)
    assert transform({"image": torch.ones(3, 1, 4, 5, 6)})["image"].shape == (3, 1, 4, 5, 6)
    assert torch.equal(PadAndCropd(padding=0)(item())["image"], item()["image"])
    with pytest.raises(ValueError, match="padding"):
        PadAndCropd(padding=-1)
