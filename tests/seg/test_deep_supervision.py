import pytest
import torch

from custom_apps.seg.deep_supervision import DeepSupervisionLoss, deep_supervision_weights
from custom_apps.seg.losses import DiceCrossEntropyLoss


@pytest.mark.parametrize(
    ("outputs", "weights"),
    [
        (5, [0.5333, 0.2667, 0.1333, 0.0667, 0]),
        (6, [0.5161, 0.2581, 0.1290, 0.0645, 0.0323, 0]),
        (3, [2 / 3, 1 / 3, 0]),
        (2, [1, 0]),
        (1, [1]),
    ],
)
def test_published_weights(outputs, weights):
    assert deep_supervision_weights(outputs) == pytest.approx(weights, abs=5e-5)


def levels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(8, 6, 4), (4, 6, 2), (2, 3, 1)]
    outputs = [torch.randn(2, 3, *size, generator=generator, requires_grad=True) for size in sizes]
    return outputs, torch.randint(0, 3, (2, 1, *sizes[0]), generator=generator, dtype=torch.int16)


def test_sum_of_levels_with_nearest_targets():
    outputs, target = levels()
    single = DiceCrossEntropyLoss()
    # nearest-exact takes the voxel at the middle: of two the second.
    coarse = target[:, :, 1::2, :, 1::2]
    expected = 2 / 3 * single(outputs[0], target) + 1 / 3 * single(outputs[1], coarse)
    value = DeepSupervisionLoss(single)(outputs, target)
    assert float(value) == pytest.approx(float(expected), abs=1e-6)
    value.backward()
    assert outputs[2].grad is None
    first = target[:, :, ::2, :, ::2]
    nearest = DeepSupervisionLoss(single, [0, 1, 0], "nearest")(outputs, target)
    assert float(nearest) == pytest.approx(float(single(outputs[1], first)), abs=1e-6)


def test_single_outputs_and_lists_of_one():
    outputs, target = levels()
    single = DiceCrossEntropyLoss()
    wrapped = DeepSupervisionLoss(single)
    assert wrapped(outputs[0], target) == single(outputs[0], target)
    assert float(wrapped(outputs[:1], target)) == pytest.approx(float(single(outputs[0], target)))


def test_labels_beyond_the_range_of_half_precision_survive():
    seen = []
    wrapped = DeepSupervisionLoss(lambda output, target: seen.append(target) or output.sum(), [1.0, 1.0])
    wrapped([torch.zeros(1, 1, 4), torch.zeros(1, 1, 2)], torch.tensor([[[0, 2049, 1, 30001]]]))
    assert seen[1].flatten().tolist() == [2049, 30001]
    assert seen[1].dtype == torch.int64


def test_mismatches_are_errors():
    outputs, target = levels()
    with pytest.raises(ValueError, match="2 weights"):
        DeepSupervisionLoss(DiceCrossEntropyLoss(), [0.5, 0.5])(outputs, target)
    with pytest.raises(ValueError, match="target_interpolation"):
        DeepSupervisionLoss(DiceCrossEntropyLoss(), target_interpolation="linear")
