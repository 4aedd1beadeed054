"""The overlay ``saliency.yaml`` of every bundle, run as a user types it, with untrained weights."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.seg.phantom_ct import write_ct_phantom
from custom_apps.thyroid.phantom import write_thyroid_phantom
from tests.bundles.bundle_cli import ROOT, bundle_command, run

QUICK = {"load_pretrain": False, "saliency_method": "gradient"}


def explain(bundle, folder, data, **options):
    configs = [ROOT / "bundles" / bundle / "configs" / f"{name}.yaml" for name in ("inference", "saliency")]
    places = {"dataset_dir": data, "output_dir": folder, "ckpt_dir": folder}
    run(bundle_command(configs, **places, **QUICK | options))
    return folder / "saliency"


def nonzero(path):
    volume = nibabel.load(path)
    values = np.asarray(volume.dataobj)
    assert np.isfinite(values).all()
    assert values.max() > 0
    return volume


def test_clip_of_a_video(tmp_path):
    data = write_echonet_phantom(tmp_path / "data", cases=2, test_cases=1, frames=(20, 24), size=32)
    network = {"clip_length": 6, "period": 2, "frame_size": 16, "patch_size": 8, "embed_dim": 16}
    network |= {"num_macro_blocks": 1, "final_dim": 8}
    video = data / "Videos" / "phantom_ts_000.avi"
    folder = explain("echo_ef_mamba3d", tmp_path, video, **network)
    names = {f"phantom_ts_000_saliency.{ending}" for ending in ("nii.gz", "avi", "png")}
    assert {path.name for path in folder.iterdir()} == names
    volume = nonzero(folder / "phantom_ts_000_saliency.nii.gz")
    # Columns, rows and frames of the file's own size; every second frame of 50 a second.
    assert volume.shape == (32, 32, 6)
    assert volume.affine[2, 2] == pytest.approx(2 / 50)


def test_examination(tmp_path):
    data = write_glioma_phantom(tmp_path / "data", cases=1, size=24)
    network = {"image_size": [16, 20, 16], "spacing_mm": 12.0, "patch_size": 4, "embed_dim": 12, "depth": 1}
    folder = explain("brain_idh_ssm_mae", tmp_path, data / "EGD-0001", **network)
    names = {"EGD-0001_map.nii.gz", "EGD-0001_map_original.nii.gz", "EGD-0001_map.png", "EGD-0001_map.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert nonzero(folder / "EGD-0001_map.nii.gz").shape == (16, 20, 16)
    source = nibabel.load(next((data / "EGD-0001").rglob("FLAIR.nii.gz")))
    original = nibabel.load(folder / "EGD-0001_map_original.nii.gz")
    assert original.shape == source.shape
    np.testing.assert_allclose(original.affine, source.affine, atol=1e-4)


def test_image(tmp_path):
    data = write_thyroid_phantom(tmp_path / "data", 4, 1, layout="tn3k", size=72)
    network = {"image_size": 64, "embed_dims": [8, 12, 16], "depths": [1, 1, 2], "num_heads": 2}
    network |= {"head_channels": 8, "auxiliary_channels": 4, "limits": [80, 64], "sigma": 0.5}
    image = next((data / "test-image").iterdir())
    folder = explain("thyroid_deblur_mae", tmp_path, image, saliency_target=1, **network)
    size = Image.open(image).size
    for ending in ("_saliency.png", "_saliency_map.png"):
        assert Image.open(folder / f"{image.stem}{ending}").size == size


def test_volume(tmp_path):
    data = write_ct_phantom(tmp_path / "data", cases=2, test_cases=1, shape=(18, 26, 28))
    folder = explain("umamba_seg", tmp_path, data / "imagesTs", step_ratio=1.0)
    volume = nonzero(folder / "phantom_ts_000_saliency.nii.gz")
    source = nibabel.load(next((data / "imagesTs").iterdir()))
    assert volume.shape == source.shape
    np.testing.assert_allclose(volume.affine, source.affine, atol=1e-4)
    assert (folder / "phantom_ts_000_saliency.png").stat().st_size > 5000
