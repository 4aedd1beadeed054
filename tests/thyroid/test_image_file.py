import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.thyroid.image_file import image_files, image_name, in_mask_folder, read_image
from tests.echo.test_dicom_video import write_dicom


def gray(height=23, width=31):
    y, x = np.mgrid[:height, :width]
    return (5 * y + 3 * x).astype(np.uint8)


@pytest.mark.parametrize("ending", ["png", "PNG", "bmp", "tif", "tiff"])
def test_lossless_gray(tmp_path, save_image, ending):
    path = save_image(tmp_path / f"a.{ending}", gray())
    assert np.array_equal(read_image(path), gray())
    assert np.array_equal(read_image(path, color=True), np.repeat(gray()[..., None], 3, axis=-1))


def test_jpeg(tmp_path, save_image):
    assert np.abs(read_image(save_image(tmp_path / "a.jpg", gray(), quality=95)).astype(int) - gray()).max() < 12


def test_color_becomes_luma(tmp_path, save_image):
    pixels = np.stack([gray(), 255 - gray(), gray() // 2], axis=-1)
    path = save_image(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(path, color=True), pixels)
    assert np.abs(read_image(path) - pixels @ [0.299, 0.587, 0.114]).max() <= 0.51


def test_palette_is_resolved(tmp_path, save_image):
    image = Image.fromarray(255 - gray(), "L").convert("P")
    inverted = [255 - value for value in range(256) for _ in range(3)]
    image.putpalette(inverted)
    assert np.array_equal(read_image(save_image(tmp_path / "a.png", image)), gray())


def test_transparent_parts_turn_black(tmp_path, save_image):
    alpha = np.full(gray().shape, 255, np.uint8)
    alpha[:5] = 0
    pixels = np.dstack([gray()] * 3 + [alpha])
    for mode, name in (("RGBA", "a.png"), ("LA", "b.png")):
        result = read_image(save_image(tmp_path / name, Image.fromarray(pixels).convert(mode)))
        assert not result[:5].any()
        assert np.array_equal(result[5:], gray()[5:])


def test_sixteen_bits(tmp_path, save_image):
    values = gray().astype(np.uint16)
    deep = save_image(tmp_path / "deep.png", values * 256 + 200)
    shallow = save_image(tmp_path / "shallow.tif", values)
    assert np.array_equal(read_image(deep), gray())
    assert np.array_equal(read_image(shallow), gray())


def test_dicom_by_content(tmp_path):
    path = write_dicom(tmp_path / "image", gray()[None], "MONOCHROME2")
    assert np.array_equal(read_image(path), gray())
    video = write_dicom(tmp_path / "video.dcm", np.repeat(gray()[None], 3, axis=0), "MONOCHROME2")
    with pytest.raises(DataError, match=r"video.dcm: 3 frames"):
        read_image(video)


def truncated(path):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)).save(content, "PNG")
    path.write_bytes(content.getvalue()[:1500])


def two_pages(path):
    page = Image.fromarray(gray())
    page.save(path, "TIFF", save_all=True, append_images=[page])


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("missing.png", lambda path: None, "no such file"),
        ("empty.png", lambda path: path.write_bytes(b""), "cannot be read"),
        ("text.jpg", lambda path: path.write_text("no image"), "cannot be read"),
        ("cut.png", truncated, "cannot be read"),
        ("pages.tif", two_pages, "2 images in one file"),
        ("real.tif", lambda path: Image.fromarray(gray().astype(np.float32)).save(path), "floating-point"),
        ("other.png", lambda path: Image.fromarray(gray()).save(path, "GIF"), "cannot be read"),
        ("broken.dcm", lambda path: path.write_bytes(b"no DICOM"), "does not decode as DICOM"),
    ],
)
def test_broken_files_are_named(tmp_path, name, write, reason):
    path = tmp_path / name
    write(path)
    with pytest.raises(DataError, match=reason) as error:
        read_image(path)
    assert error.value.path == str(path)


def test_listing(tmp_path, save_image):
    for name in ("b.png", "a.JPG", "sub/c.bmp", ".hidden/d.png", ".e.png"):
        save_image(tmp_path / name, gray())
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in image_files(tmp_path)] == ["a.JPG", "b.png"]
    assert [path.name for path in image_files(tmp_path, deep=True)] == ["a.JPG", "b.png", "c.bmp"]
    with pytest.raises(DataError, match="no such folder"):
        image_files(tmp_path / "nowhere")


def test_names():
    assert image_name("x/1.2.3.png") == "1.2.3"
    assert image_name("x/1.2.3") == "1.2.3"
    relative = [in_mask_folder(tmp) for tmp in map(Path, ("masks_1/a", "trainval-mask/a", "a/b"))]
    assert relative == [True, True, False]
