import pytest

from custom_apps.seg.topology import topology


def test_isotropic_patch():
    found = topology((1, 1, 1), (35, 50, 35))
    assert found.patch_size == (40, 56, 40)
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.kernel_sizes == ((3, 3, 3),) * 4
    assert found.divisor == (8, 8, 8)


def test_coarse_axis_waits():
    found = topology((2.5, 0.8, 0.8), (40, 224, 192))
    assert found.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert found.kernel_sizes == ((1, 3, 3),) + ((3, 3, 3),) * 5


def test_single_axis_stops_below_twelve():
    assert topology((1, 1), (4, 11)).num_stages == 1
    assert topology((1, 1), (4, 12)).strides == ((1, 1), (1, 2))


def test_number_of_stages_can_be_limited():
    found = topology((1, 1, 1), (35, 50, 33), max_stages=2)
    assert found.num_stages == len(found.kernel_sizes) == 2
    assert found.patch_size == (36, 50, 34)


@pytest.mark.parametrize("size", [(5, 6, 7), (128, 128, 128), (9, 300, 41)])
def test_padding_is_to_the_next_multiple(size):
    found = topology((1, 1, 1), size)
    for wanted, padded, divisor in zip(size, found.patch_size, found.divisor, strict=True):
        assert padded % divisor == 0
        assert 0 <= padded - wanted < divisor
