import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from custom_apps.thyroid.restoration import RestoreMaskd


def test_classes_and_probability_of_the_original_size():
    logits = torch.randn(2, 12, 20, generator=torch.Generator().manual_seed(0))
    result = RestoreMaskd()({"pred": logits, "original_size": [torch.tensor(31), torch.tensor(47)], "case": "a"})
    assert result["pred"].shape == result["probability"].shape == (31, 47)
    assert torch.equal(result["pred"] == 1, result["probability"] > 0.5)
    assert result["pred"].dtype == torch.int64


def test_same_size_is_not_resampled():
    logits = torch.randn(2, 5, 7)
    result = RestoreMaskd()({"pred": logits, "original_size": (5, 7), "case": "a"})
    torch.testing.assert_close(result["probability"], logits.softmax(0)[1])


def test_single_logit_counts_from_one_half():
    logits = torch.tensor([[[-0.1, 0.1], [3.0, -3.0]]])
    result = RestoreMaskd()({"pred": logits, "original_size": (2, 2), "case": "a"})
    assert result["pred"].tolist() == [[0, 1], [1, 0]]


def test_filling_of_a_square_is_cut_off():
    # An image of 20 x 40 fills the upper half of a square; the lower half must not leak into it.
    logits = torch.full((1, 16, 16), -5.0)
    logits[:, 8:] = 5.0
    result = RestoreMaskd(keep_aspect=True)({"pred": logits, "original_size": (20, 40), "case": "a"})
    assert result["pred"].sum() == 0


def test_published_size():
    logits = torch.randn(1, 8, 8)
    result = RestoreMaskd(published_edge=8)({"pred": logits, "original_size": (31, 17), "case": "a"})
    assert torch.equal(result["published_pred"], (logits[0] > 0).long())


def test_undefined_prediction_names_the_case():
    with pytest.raises(FloatingPointError, match="case_7"):
        RestoreMaskd()({"pred": torch.full((2, 3, 3), torch.nan), "original_size": (3, 3), "case": "case_7"})


@pytest.mark.parametrize("size", [(768, 939), (512, 512), (513, 1096), (700, 854)])
def test_windows_of_the_configuration_stand_where_the_published_ones_do(size):
    """512 pixels wide, 341 apart, the last one shifted back inside; sums divided by how often a pixel was covered."""
    rows, columns = ([min(341 * i, side - 512) for i in range(max(side - 512 + 340, 0) // 341 + 1)] for side in size)
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, *size), np.float32))
    total, count = torch.zeros(1, 1, *size), torch.zeros(1, 1, *size)
    for top in rows:
        for left in columns:
            window = image[:, :, top : top + 512, left : left + 512]
            total[:, :, top : top + 512, left : left + 512] += window * window.mean()
            count[:, :, top : top + 512, left : left + 512] += 1
    inferer = SlidingWindowInferer((512, 512), sw_batch_size=1, overlap=0.3333333333)
    found = inferer(image, lambda windows: windows * windows.mean())
    torch.testing.assert_close(found, total / count, rtol=1e-5, atol=1e-6)


def test_images_smaller_than_a_window_are_filled_up():
    inferer = SlidingWindowInferer((64, 64), sw_batch_size=1, overlap=0.3333333333)
    image = torch.rand(1, 1, 40, 90)
    torch.testing.assert_close(inferer(image, lambda windows: windows), image)
