import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.common.item_loader import item_loader
from custom_apps.thyroid.chains import MEAN, STD, ClassificationImages, PretrainingImages, UNetImages, UPerNetImages
from custom_apps.thyroid.image_dataset import ImageDataset
from custom_apps.thyroid.image_file import read_image
from custom_apps.thyroid.mask_file import read_mask
from custom_apps.thyroid.records import class_folder_records, image_mask_records, pretraining_records

MEAN_T, STD_T = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))


def gray_levels(image):
    """Back from what a network sees, (3, H, W), to one channel of gray levels."""
    levels = 255 * (image * STD_T + MEAN_T)
    assert (levels - levels[:1]).abs().max() < 1e-3
    return levels[0]


def pretraining(root, **options):
    return ImageDataset(pretraining_records(root), PretrainingImages(size=64, **options), seed=1)


def test_pairs_share_crop_and_flip(class_phantom):
    pair = pretraining(class_phantom)[0]
    assert pair["image"].shape == pair["target"].shape == (3, 64, 64)
    assert pair["image"].dtype == torch.float32
    image, target = gray_levels(pair["image"]), gray_levels(pair["target"])
    # Same place: the blurred one is the nearest of all shifts, and not the target itself.
    errors = {
        (dy, dx): (image[8:-8, 8:-8] - target.roll((dy, dx), (0, 1))[8:-8, 8:-8]).abs().mean().item()
        for dy in (-2, 0, 2)
        for dx in (-2, 0, 2)
    }
    assert min(errors, key=errors.get) == (0, 0)
    assert image.std() < target.std()
    assert errors[0, 0] > 0.5


def test_without_blur_the_target_is_the_image_and_draws_are_the_same(class_phantom):
    plain, deblurring = (pretraining(class_phantom, method=method) for method in (None, "gaussian"))
    for index in range(4):
        assert torch.equal(plain[index]["image"], plain[index]["target"])
        assert torch.equal(plain[index]["target"], deblurring[index]["target"])


def test_items_follow_from_seed_epoch_and_index(class_phantom):
    dataset, again = pretraining(class_phantom), pretraining(class_phantom)
    assert torch.equal(dataset[2, 3, 0]["image"], again[2, 3, 0]["image"])
    crops = {dataset[epoch, 3, turn]["target"].numpy().tobytes() for epoch in range(4) for turn in range(3)}
    assert len(crops) == 12
    flips = [pretraining(class_phantom, area=(1.0, 1.0))[epoch, 0, 0]["target"] for epoch in range(12)]
    assert any(torch.equal(flips[0], flip.flip(-1)) for flip in flips) or len({f.numpy().tobytes() for f in flips}) > 2


def test_validation_pairs_are_squashed(class_phantom):
    records = pretraining_records(class_phantom, "val")
    dataset = ImageDataset(records, PretrainingImages(False, size=(48, 40)))
    item = dataset[1]
    assert item["image"].shape == (3, 48, 40)
    original = read_image(records[1]["image"])
    assert item["original_size"].tolist() == list(original.shape)
    assert abs(gray_levels(item["target"]).mean() - original.mean()) < 1
    assert torch.equal(item["image"], dataset[1]["image"])


def test_classification_items(class_phantom):
    records = class_folder_records(class_phantom, "train")
    items = [ImageDataset(records, ClassificationImages(training, size=56))[6] for training in (True, False)]
    for item in items:
        assert item["image"].shape == (3, 56, 56)
        assert item["label"].dtype == torch.int64
        assert item["label"].shape == ()
        assert item["label"] == 1
        assert item["case"].startswith("malignant/")
    gray_levels(items[1]["image"])


def test_segmentation_items_in_training(nodule_phantom):
    records = image_mask_records(nodule_phantom, "train")
    for chain in (
        UPerNetImages(size=(40, 72), limits=(80, 60)),
        UNetImages(size=64, label_size=32),
        UNetImages(size=64, label_size=32, keep_aspect=True, interpolation="smooth"),
    ):
        items = [ImageDataset(records, chain, seed=2)[index] for index in range(len(records))]
        for item in items:
            assert item["image"].dtype == torch.float32
            assert item["label"].dtype == torch.int64
            assert item["label"].ndim == 2
            assert set(item["label"].unique().tolist()) <= {0, 1, 255}
        assert sum((item["label"] == 1).any().item() for item in items) > len(items) / 2
        assert len({item["image"].shape for item in items}) == 1


def test_padding_is_ignored_and_black_after_normalization(nodule_phantom):
    dataset = ImageDataset(image_mask_records(nodule_phantom, "train"), UPerNetImages(size=96, ratio=(0.2, 0.3)))
    dataset.transform.transforms[3].limits = (96, 96)
    item = dataset[0]
    ignored = item["label"] == 255
    assert item["image"].shape == (3, 96, 96)
    assert ignored.float().mean() > 0.5
    assert not item["image"][:, ignored].any()
    assert ignored[-1].all()
    assert not ignored[0, 0]


def test_segmentation_items_in_validation(nodule_phantom):
    records = image_mask_records(nodule_phantom, "val")
    size = read_image(records[0]["image"]).shape
    item = ImageDataset(records, UPerNetImages(False, limits=(192, 150)))[0]
    height, width = item["image"].shape[1:]
    assert width == 192 or height == 150
    assert width / height == pytest.approx(size[1] / size[0], rel=0.02)
    assert item["label"].shape == size
    assert item["original_size"].tolist() == list(size)
    assert np.array_equal(item["label"], read_mask(records[0]["label"]))
    native = ImageDataset(records, UNetImages(False, size=64, label_size=None))[0]
    assert native["image"].shape == (3, 64, 64)
    assert native["label"].shape == size
    unlabeled = [{key: record[key] for key in ("case", "image")} for record in records]
    for chain in (UPerNetImages(False, limits=(192, 150)), UNetImages(False, size=64)):
        assert "label" not in ImageDataset(unlabeled, chain)[0]
    with pytest.raises(ValueError, match="label_size"):
        UNetImages(label_size=None)


@pytest.mark.parametrize("sigma", [1.1, (0.5, 2.0)])
def test_kept_images_give_the_same_items(nodule_phantom, class_phantom, sigma):
    for records, chain in (
        (image_mask_records(nodule_phantom, "train"), UPerNetImages(size=48, limits=(80, 60), sigma=sigma)),
        (pretraining_records(class_phantom), PretrainingImages(size=32, sigma=sigma)),
    ):
        fresh, kept = (ImageDataset(records, chain, cache, seed=5) for cache in ("none", "memory"))
        assert len(kept.transform.transforms) == len(chain.transforms) - 2
        for place in ((0, 1, 0), (3, 2, 1), (0, 1, 0)):
            assert torch.equal(fresh[place]["image"], kept[place]["image"])


def test_colors_only_where_asked_for(tmp_path, save_image):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    records = [{"case": "a", "image": save_image(tmp_path / "a.png", pixels), "label": 0}]
    gray_levels(ImageDataset(records, ClassificationImages(False, 24))[0]["image"])
    image = ImageDataset(records, ClassificationImages(False, 24, color=True))[0]["image"]
    assert (image[0] - image[1]).abs().mean() > 0.1
    for chain in (ClassificationImages(size=24, color=True), PretrainingImages(size=24, color=True)):
        assert ImageDataset(records, chain)[0]["image"].shape == (3, 24, 24)


def test_errors_name_the_file(nodule_phantom, copied, save_image):
    root = copied(nodule_phantom)
    records = image_mask_records(root, "train")
    save_image(records[2]["label"], np.zeros((7, 9), np.uint8))
    records[3]["image"].write_text("no image")
    dataset = ImageDataset(records, UPerNetImages(size=32))
    with pytest.raises(DataError, match=r"masks/train/.*: 9×7 pixels") as error:
        dataset[2]
    assert error.value.path == str(records[2]["label"])
    with pytest.raises(DataError, match="cannot be read"):
        dataset[3]
    with pytest.raises(DataError, match="9×7 pixels"):
        ImageDataset(records, UPerNetImages(size=32), cache="memory")
    with pytest.raises(ValueError, match="cache"):
        ImageDataset(records, UPerNetImages(size=32), cache="disk")


def test_batches_of_workers_equal_batches_of_one_process(class_phantom):
    records = class_folder_records(class_phantom, "train")
    batches = []
    for workers in (0, 1):
        loader = item_loader(ImageDataset(records, ClassificationImages(size=32), seed=7), 4, True, workers, seed=7)
        batches.append(list(loader))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert one["original_size"].shape == (4, 2)
