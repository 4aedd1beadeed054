import pytest
import torch
import torch.nn.functional as F

from custom_apps.thyroid.losses import BatchDice, PixelCrossEntropy, fitted


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (2, 9, 7), generator=generator)
    label[0, :, 5:] = 255
    return torch.randn(2, 2, 9, 7, generator=generator), label


def test_mean_runs_over_ignored_pixels_as_published_or_not(batch):
    logits, label = batch
    own = F.cross_entropy(logits, label, ignore_index=255)
    share = (label != 255).float().mean()
    torch.testing.assert_close(PixelCrossEntropy()(logits, label), own * share)
    torch.testing.assert_close(PixelCrossEntropy(average="counted")(logits, label), own)


def test_auxiliary_head_is_resized_and_weighted(batch):
    logits, label = batch
    coarse = torch.randn(2, 2, 3, 2, generator=torch.Generator().manual_seed(1))
    loss = PixelCrossEntropy(auxiliary_weight=0.25)
    resized = F.interpolate(coarse, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss([logits, coarse], label), loss(logits, label) + 0.25 * loss(resized, label))


def test_ignored_pixels_have_no_gradient(batch):
    logits, label = batch
    for loss, channels in ((PixelCrossEntropy(), 2), (BatchDice(), 1)):
        values = logits[:, :channels].clone().requires_grad_()
        loss(values, label).backward()
        assert (values.grad[0, :, :, 5:] == 0).all()
        assert (values.grad[1] != 0).all()


def test_all_ignored_is_zero_not_undefined():
    label = torch.full((1, 4, 4), 255)
    assert float(PixelCrossEntropy(average="counted")(torch.randn(1, 2, 4, 4), label)) == 0


def test_dice_of_the_whole_batch(batch):
    logits, label = batch
    label = label.clamp(max=1)
    p, g = logits[:, :1].sigmoid(), (label == 1)[:, None].float()
    expected = 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
    torch.testing.assert_close(BatchDice()(logits[:, :1], label), expected)


def test_logits_of_the_same_size_are_untouched(batch):
    logits, label = batch
    assert fitted(logits, label) is logits


def test_unknown_average():
    with pytest.raises(ValueError, match="all, counted"):
        PixelCrossEntropy(average="some")
