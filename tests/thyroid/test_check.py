import shutil

import numpy as np
import pytest
from PIL import Image

from custom_apps.cli import main
from custom_apps.common.problems import errors_of
from custom_apps.thyroid.blurred_copy import write_blurred_copy
from custom_apps.thyroid.check import check_dataset

IMAGE = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)


def found(folder):
    return [(problem.severity, f"{problem.path}: {problem.problem}") for problem in check_dataset(folder)]


def test_sound_data_sets(class_phantom, nodule_phantom, tn3k_phantom):
    for root in (class_phantom, nodule_phantom, tn3k_phantom):
        assert not found(root)
    # Images without labels, for pre-training.
    assert not found(class_phantom / "train" / "benign")


def unreadable(root):
    (root / "images/train/phantom_0001.png").write_text("no image")


def truncated(root):
    path = root / "images/test/phantom_0001.png"
    path.write_bytes(path.read_bytes()[:600])


def without_mask(root):
    (root / "masks/train/phantom_0002.png").unlink()


def mask_of_another_size(root):
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(root / "masks/val/phantom_0008.png")


def mask_values(root):
    path = root / "masks/train/phantom_0003.png"
    Image.fromarray((np.array(Image.open(path)) // 2).astype(np.uint8)).save(path)


def same_name(root):
    shutil.copy(root / "images/train/phantom_0000.png", root / "images/train/phantom_0000.bmp")


def leak(root):
    for kind in ("images", "masks"):
        shutil.copy(root / kind / "train/phantom_0005.png", root / kind / "test/phantom_0077.png")


def reencoded_leak(root):
    Image.open(root / "images/train/phantom_0005.png").save(root / "images/test/other.bmp")
    shutil.copy(root / "masks/train/phantom_0005.png", root / "masks/test/other.png")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (unreadable, "images/train/phantom_0001.png: cannot be read"),
        (truncated, "images/test/phantom_0001.png: cannot be read"),
        (without_mask, "images/train/phantom_0002.png: image without mask"),
        (mask_of_another_size, "masks/val/phantom_0008.png: mask of 7×9 pixels"),
        (mask_values, "masks/train/phantom_0003.png: mask with the values 0, 127"),
        (same_name, "another image has the same name"),
        (leak, "test/phantom_0077.png: same image as train/phantom_0005.png, in another split (test)"),
        (reencoded_leak, "test/other.bmp: same image as train/phantom_0005.png, in another split (test)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_errors_of_images_and_masks(nodule_phantom, copied, damage, text):
    root = copied(nodule_phantom)
    damage(root)
    assert any(severity == "error" and text in message for severity, message in found(root)), found(root)


def empty_class(root):
    for path in (root / "val/benign").iterdir():
        path.unlink()


def unknown_class(root):
    (root / "test/cyst").mkdir()
    Image.fromarray(IMAGE).save(root / "test/cyst/a.png")


def loose(root):
    Image.fromarray(IMAGE).save(root / "train/a.png")


def two_classes(root):
    shutil.copy(root / "train/benign/phantom_0000.png", root / "train/malignant/again.png")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (empty_class, "val/benign: empty class"),
        (unknown_class, "classes benign, cyst, malignant"),
        (loose, "train/a.png: in no class folder"),
        (two_classes, "malignant/again.png: same image as benign/phantom_0000.png"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_errors_of_classes(class_phantom, copied, damage, text):
    root = copied(class_phantom)
    damage(root)
    assert any(severity == "error" and text in message for severity, message in found(root)), found(root)


def test_errors_of_tn3k(tn3k_phantom, copied):
    root = copied(tn3k_phantom)
    (root / "tn3k-trainval-fold1.json").write_text('{"train": [0, 1], "val": [1, 40]}')
    (root / "tn3k-trainval.json").write_text("broken")
    (root / "trainval-mask/0003.jpg").unlink()
    texts = [message for severity, message in found(root) if severity == "error"]
    assert len(texts) == 3
    assert any("fold1.json: 'val' holds 40" in text for text in texts)
    assert any("tn3k-trainval.json: unreadable" in text for text in texts)
    assert any("0003.jpg: image without mask" in text for text in texts)
    shutil.rmtree(root / "test-image")
    for path in root.glob("*.json"):
        path.unlink()
    texts = [message for severity, message in found(root) if severity == "error"]
    assert any("test-image: no such folder" in text for text in texts)
    assert any("no list" in text for text in texts)


def test_warnings(nodule_phantom, copied, save_image):
    root = copied(nodule_phantom)
    train = root / "images/train"
    gray = Image.open(train / "phantom_0000.png")
    color = np.dstack([IMAGE, 255 - IMAGE, IMAGE // 2])
    kinds = {
        "palette": gray.convert("P"),
        "transparency": gray.convert("RGBA"),
        "16 bits": (np.array(gray, np.uint16) * 256 + 3),
        "colors": color,
        "same value": np.full((30, 40), 9, np.uint8),
    }
    for number, image in enumerate(kinds.values()):
        path = save_image(train / f"odd{number}.png", image)
        size = Image.open(path).size
        save_image(root / "masks/train" / path.name, np.eye(*size[::-1], dtype=np.uint8))
    (train / "Thumbs.db").write_text("x")
    shutil.rmtree(root / "images/val")
    (root / "masks/train/lonely.png").write_bytes((root / "masks/train/phantom_0000.png").read_bytes())
    Image.fromarray(np.zeros_like(gray)).save(root / "masks/train/phantom_0000.png")
    problems = found(root)
    assert not errors_of(check_dataset(root))
    for text in (*kinds, "no images: Thumbs.db", "val: no such folder", "mask without image", "mask without nodule"):
        assert any(text in message for _, message in problems), text
    # The odd copies of the first image are the same image to whoever reads them.
    assert sum("same image as" in message for _, message in problems) == 3


def test_gray_in_three_channels_is_not_odd(class_phantom, copied, save_image):
    root = copied(class_phantom)
    path = root / "train/benign/phantom_0000.png"
    save_image(path.with_suffix(".jpg"), Image.open(path), "RGB", quality=60)
    path.unlink()
    assert not found(root)


def test_unknown_layout_missing_folder_and_copy(tmp_path, tn3k_phantom, capsys):
    assert "no such folder" in found(tmp_path / "nowhere")[0][1]
    assert "no images in a known layout" in found(tmp_path)[0][1]
    write_blurred_copy(tn3k_phantom, tmp_path / "copy")
    assert found(tmp_path / "copy") == [("warning", f"{tmp_path / 'copy'}: blurred copy (gaussian 1.1)")]
    assert main(["check", "thyroid_deblur_mae", str(tmp_path / "copy")]) == 0
    assert main(["check", "thyroid_deblur_mae", str(tmp_path / "nowhere")]) == 1
    assert "0 errors, 1 warnings" in capsys.readouterr().out
