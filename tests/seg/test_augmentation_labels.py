import pytest
import torch

from custom_apps.seg.augmentation_labels import MaskOutsided, RandLeftRightFlipd, toothfairy3_left_right_pairs

BOTH = ("image", "label")


def item():
    image = torch.arange(24.0).view(1, 2, 3, 4)
    label = torch.tensor([-1, 0, 1, 2, 3, 5]).repeat(4).view(1, 2, 3, 4).to(torch.int16)
    return {"image": image, "label": label}


def test_labels_change_places_only_when_left_becomes_right():
    made = RandLeftRightFlipd(BOTH, [[1, 2]], axes=[2])
    table = {-1: -1, 0: 0, 1: 2, 2: 1, 3: 3, 5: 5}
    exchanged = 0
    for seed in range(20):
        result = made.set_random_state(seed)(item())
        flipped = torch.equal(result["image"], item()["image"].flip(3))
        assert flipped or torch.equal(result["image"], item()["image"])
        expected = item()["label"].flip(3) if flipped else item()["label"]
        if flipped:
            exchanged += 1
            expected = expected.clone().apply_(lambda value: table[value])
        assert torch.equal(result["label"], expected)
    assert 4 < exchanged < 16


def test_other_axes_flip_without_exchange():
    made = RandLeftRightFlipd(BOTH, [[1, 2]], axes=[0, 1])
    shapes = {tuple(made.set_random_state(seed)(item())["image"].flatten().tolist()) for seed in range(30)}
    assert len(shapes) == 4
    result = made.set_random_state(3)(item())
    assert sorted(result["label"].flatten().tolist()) == sorted(item()["label"].flatten().tolist())


def test_the_published_pairs_are_an_involution():
    pairs = toothfairy3_left_right_pairs()
    made = RandLeftRightFlipd(BOTH, pairs)
    assert len(pairs) == 19
    assert made.partner[11] == 19
    assert made.partner[26] == 18
    assert made.partner[35] == 27
    assert made.partner[43] == 44
    assert all(made.partner[made.partner[label]] == label for label in made.partner)
    assert not {0, 1, 2, 45, 46} & set(made.partner)
    with pytest.raises(ValueError, match="two pairs"):
        RandLeftRightFlipd(BOTH, [[1, 2], [2, 3]])


def test_outside_is_masked_in_chosen_channels_only():
    data = {"image": torch.ones(3, 2, 2), "label": torch.tensor([[[-1, 0], [2, -1]]])}
    result = MaskOutsided(("image",), [0, 2])(data)["image"]
    assert torch.equal(result[0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert torch.equal(result[1], torch.ones(2, 2))
    assert torch.equal(result[2], result[0])
    assert data["image"].min() == 1
