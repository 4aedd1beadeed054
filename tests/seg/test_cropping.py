import numpy as np

from custom_apps.seg.cropping import bounding_box, crop_to_nonzero, nonzero_mask


def test_union_of_channels_with_holes_filled():
    image = np.zeros((2, 7, 8, 9))
    image[0, 1:4, 2:6, 2:6] = 1
    image[0, 2, 3:5, 3:5] = 0
    image[1, 5, 7, 8] = -3
    mask = nonzero_mask(image)
    assert mask[1:4, 2:6, 2:6].all()
    assert mask.sum() == 3 * 4 * 4 + 1
    assert bounding_box(mask) == [[1, 6], [2, 8], [2, 9]]


def test_background_outside_becomes_minus_one():
    image = np.zeros((1, 4, 5, 6), np.float32)
    image[0, 1:3, 1:4, 1:5] = 7
    image[0, 1, 1, 1] = 0
    seg = np.zeros((1, 4, 5, 6), np.uint8)
    seg[0, 2, 2, 2] = 1
    cropped, labels, box = crop_to_nonzero(image, seg)
    assert box == [[1, 3], [1, 4], [1, 5]]
    assert cropped.shape == (1, 2, 3, 4)
    assert labels[0, 0, 0, 0] == -1
    assert labels[0, 1, 1, 1] == 1
    assert (labels == 0).sum() == 2 * 3 * 4 - 2
    assert not (seg == 255).any()


def test_labels_outside_stay():
    image = np.zeros((1, 3, 3, 3))
    image[0, 0, 0, 0] = image[0, 2, 2, 2] = 1
    seg = np.zeros((1, 3, 3, 3), np.int16)
    seg[0, 1, 1, 1] = 2
    _, labels, _ = crop_to_nonzero(image, seg)
    assert labels[0, 1, 1, 1] == 2
    assert (labels == -1).sum() == 27 - 3


def test_without_a_label_map():
    image = np.zeros((1, 3, 4, 5))
    image[0, 1, 1:3, 1:4] = 1
    image[0, 1, 1, 1] = 0
    _, labels, _ = crop_to_nonzero(image)
    assert labels.tolist() == [[[[-1, 0, 0], [0, 0, 0]]]]


def test_an_image_of_zeros_is_kept_whole():
    cropped, labels, box = crop_to_nonzero(np.zeros((1, 3, 4, 5)), np.ones((1, 3, 4, 5), np.int16))
    assert cropped.shape == (1, 3, 4, 5)
    assert box == [[0, 3], [0, 4], [0, 5]]
    assert (labels == 1).all()
