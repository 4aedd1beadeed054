"""``predict`` on files as users have them: any names, DICOM, some of them damaged."""

import json
import shutil
import subprocess
import sys

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser
from PIL import Image
from pydicom.uid import UltrasoundImageStorage, generate_uid

from custom_apps.brain.phantom import write_glioma_phantom
from custom_apps.cli import main
from custom_apps.common.dicom_series import write_dicom_series
from custom_apps.common.model_weights import sha256_of
from custom_apps.common.prediction_summary import read_rows
from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.thyroid.phantom import write_thyroid_phantom
from tests.bundles.bundle_cli import ROOT, environment
from tests.echo.test_dicom_video import write_dicom
from tests.seg.model_phantom import LABELS, intensities, label_map, model

HOSTILE = ("a b#1 @x$y.nii.gz", "ünï'q\"%.nrrd", "-dash.mha", "scan_2023.nii.gz")


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """All tests run in a folder that has nothing to do with the bundles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """Folder of a small network with random weights."""
    folder = tmp_path_factory.mktemp("models")
    written = model(folder)
    written.write()
    torch.manual_seed(0)
    torch.save(written.network().state_dict(), folder / "model.pt")
    return folder


def save_volume(path, seed=0, spacing_mm=(1.0, 1.0, 2.0)):
    image = sitk.GetImageFromArray(intensities(label_map(seed=seed)))
    image.SetSpacing(spacing_mm)
    image.SetOrigin((11.5, -20.25, 7.0))
    image.SetDirection((-1, 0, 0, 0, 0, 1, 0, 1, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def predict(bundle, *arguments):
    return main(["predict", bundle, *map(str, arguments)])


def test_volumes_of_any_name_and_one_damaged(segmenter, tmp_path, capsys):
    images, output = tmp_path / "my #1 images", tmp_path / "out @put%"
    for number, name in enumerate(HOSTILE):
        save_volume(images / name, number)
    damaged = images / "-damaged.nii.gz"
    whole = (images / HOSTILE[0]).read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    (images / "notes.txt").write_text("no image")

    command = ("umamba_seg", images, output, "--ckpt-dir", segmenter, "--device", "cpu", "--set", "step_ratio=1.0")
    assert predict(*command) == 3
    printed = capsys.readouterr()
    assert "5 to predict on cpu" in printed.out
    assert "4 cases in" in printed.out
    assert "-damaged is left out" in printed.err
    assert "Traceback" not in printed.err
    for name in HOSTILE:
        image, mask = (sitk.ReadImage(str(folder / name)) for folder in (images, output))
        assert mask.GetSize() == image.GetSize()
        assert mask.GetSpacing() == pytest.approx(image.GetSpacing())
        assert mask.GetOrigin() == pytest.approx(image.GetOrigin())
        assert mask.GetDirection() == pytest.approx(image.GetDirection())

    results = json.loads((output / "results.json").read_text())
    assert list(results["left_out"]) == ["-damaged"]
    assert "scan_2023.nii.gz" in results["cases"]["scan_2023"]["files"]
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "-dash.mha")))
    for row in results["cases"]["-dash"]["numbers"]["volumes"]:
        assert row["voxels"] == int((mask == LABELS[row["structure"]]).sum())
        assert row["volume_ml"] == pytest.approx(row["voxels"] * 2 / 1000)
    record = json.loads((output / "run.json").read_text())
    assert record["outcome"] == "completed"
    assert record["weights"][0]["sha256"] == sha256_of(segmenter / "model.pt")
    assert set(HOSTILE) <= set(record["outputs"])
    assert "-damaged" in record["left_out"]

    content = (output / HOSTILE[0]).read_bytes()
    assert predict(*command) == 1
    assert "was predicted before" in capsys.readouterr().err
    damaged.unlink()
    save_volume(images / "later.nii")
    assert predict(*command, "--existing", "skip", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (output / HOSTILE[0]).read_bytes() == content
    results = json.loads((output / "results.json").read_text())
    assert {"later", "scan_2023"} <= results["cases"].keys()
    assert len(read_rows(output / "volumes.csv")) == 5 * 2
    assert predict(*command, "--existing", "skip") == 0, "nothing left to do"
    assert "0 cases" in capsys.readouterr().out
    assert len(json.loads((output / "results.json").read_text())["cases"]) == 5


def test_a_dicom_series_gives_a_segmentation_that_refers_to_it(segmenter, tmp_path, capsys):
    labels = label_map()
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = 5, -3, 11
    series = write_dicom_series(intensities(labels).astype(np.int16).T, affine, tmp_path / "series 1")
    assert predict("umamba_seg", series, tmp_path / "out", "--ckpt-dir", segmenter) == 0
    mask = nibabel.load(tmp_path / "out" / "series 1.nii.gz")
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)

    path = tmp_path / "out" / "series 1_seg.dcm"
    segmentation = highdicom.seg.segread(path)
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["liver", "kidney"]
    sources = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    assert segmentation.StudyInstanceUID == sources[0].StudyInstanceUID
    assert segmentation.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    referred = {uid for _, _, uid in segmentation.get_source_image_uids()}
    assert referred == {source.SOPInstanceUID for source in sources}
    frames = segmentation.get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert frames.any(), "the network found nothing"
    assert np.array_equal(frames, np.asarray(mask.dataobj).T)
    # As read by another program: one bit a pixel.
    plain = pydicom.dcmread(path)
    assert plain.Modality == "SEG"
    assert plain.pixel_array.sum() == (np.asarray(mask.dataobj) > 0).sum()

    nifti = tmp_path / "converted.nii.gz"
    nibabel.save(nibabel.Nifti1Image(intensities(labels).T, affine), nifti)
    options = ("--ckpt-dir", segmenter, "--dicom-seg", series)
    assert predict("umamba_seg", nifti, tmp_path / "converted", *options) == 0
    assert (tmp_path / "converted" / "converted_seg.dcm").is_file()
    other = save_volume(tmp_path / "other.nii.gz")
    assert predict("umamba_seg", other, tmp_path / "other", *options) == 1
    assert "other.nii.gz" in capsys.readouterr().err


def test_what_is_missing_or_misspelled_is_said(segmenter, tmp_path, capsys):
    image = save_volume(tmp_path / "case.nii.gz")
    two = model(tmp_path / "two", channels=2)
    two.write()
    (tmp_path / "weights").mkdir()
    shutil.copy(segmenter / "model.pt", tmp_path / "weights" / "mine.pt")
    cases = {
        (image, "--ckpt-dir", tmp_path): (1, "no trained weights"),
        (tmp_path / "absent.nii.gz", "--ckpt-dir", segmenter): (1, "no such file or folder"),
        (segmenter / "model.pt", "--ckpt-dir", segmenter): (1, "unknown file ending"),
        (image, "--weights", tmp_path / "weights" / "mine.pt"): (1, "model.json"),
        (image, "--weights", segmenter / "absent.pt"): (1, "absent.pt: no trained weights"),
        (image, "--ckpt-dir", tmp_path / "two", "--set", "load_pretrain=False"): (1, "the 2 channels"),
        (image, "--ckpt-dir", segmenter, "--set", "steps=1"): (2, "no id 'steps'"),
        (image, "--ckpt-dir", segmenter, "--device", "cuda:99"): (2, "cuda:99"),
        (image, "--ckpt-dir", segmenter, "--overlay", "absent"): (1, "no such configuration"),
        (image, "--ckpt-dir", segmenter, "--bundle-dir", tmp_path): (1, "no such bundle"),
    }
    for (source, *options), (code, message) in cases.items():
        assert predict("umamba_seg", source, tmp_path / "out", *options) == code, options
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists(), options
    with pytest.raises(SystemExit) as ended:
        predict("umamba_seg", image)
    assert ended.value.code == 2


def test_as_typed_in_a_shell_quiet_means_silent(segmenter, tmp_path):
    save_volume(tmp_path / "case.nii.gz")
    command = [sys.executable, "-m", "custom_apps", "predict", "umamba_seg", "case.nii.gz", "out", "--quiet"]
    command += ["--ckpt-dir", str(segmenter), "--set", "step_ratio=1.0"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "case.nii.gz").is_file()


def ultrasound(path, frames, **tags):
    """Anonymized: without name, birth date and the like."""
    identifiers = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "Modality": "US"}
    return write_dicom(path, frames, "MONOCHROME2", **identifiers, **tags)


def test_echo_clips_of_all_kinds(tmp_path, capsys):
    data = write_echonet_phantom(tmp_path, cases=2, test_cases=1, frames=(20, 24), size=48)
    clips, output = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    avi = sorted((data / "Videos").iterdir())[0]
    shutil.copy(avi, clips / "a (1).avi")
    (clips / "b.mp4").write_bytes(avi.read_bytes()[:900])
    frames = np.random.default_rng(0).integers(0, 255, (20, 40, 48), np.uint8)
    ultrasound(clips / "c.dcm", frames, FrameTime=20.0)
    options = ("--overlay", "demo", "--set", "load_pretrain=False")
    assert predict("echo_ef_mamba3d", clips, output, *options) == 3
    assert "b is left out" in capsys.readouterr().err
    results = json.loads((output / "results.json").read_text())
    assert sorted(results["cases"]) == ["a (1)", "c"]
    (row,) = results["cases"]["c"]["numbers"]["ef"]
    assert row["fps"] == pytest.approx(50)
    assert row["frames"] == 20
    assert json.loads((output / "ef.json").read_text())["videos"][1]["file_name"] == "c.dcm"
    assert predict("echo_ef_mamba3d", clips / "c.dcm", tmp_path / "one", *options, "--quiet") == 0
    (alone,) = read_rows(tmp_path / "one" / "ef.csv")
    assert float(alone["ef_percent"]) == pytest.approx(row["ef_percent"], abs=1e-4)


def test_ventricle_of_a_dicom_clip_in_numbers(tmp_path, capsys):
    frames = np.random.default_rng(0).integers(0, 255, (20, 40, 48), np.uint8)
    clip = ultrasound(tmp_path / "clip.dcm", frames, FrameTime=20.0)
    options = ("-o", "inference_segmentation", "-o", "demo", "--set", "load_pretrain=False")
    options += ("--set", "time_patch_size=1", "--set", "kinds=['masks']")
    assert predict("echo_ef_mamba3d", clip, tmp_path / "out", *options) == 0
    mask = nibabel.load(tmp_path / "out" / "clip_lv.nii.gz")
    assert mask.shape == (48, 40, 20)
    assert mask.header.get_zooms()[2] == pytest.approx(0.02)
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["cases"]["clip"]["numbers"]["ventricles"]
    assert row["frames"] == 20
    assert 0 <= row["smallest_area"] <= row["largest_area"] <= 56 * 56
    assert {"ef_area_length", "heart_rate_per_minute", "beats"} <= row.keys()


def test_thyroid_pictures_and_dicom(tmp_path):
    data = write_thyroid_phantom(tmp_path, 4, 1, layout="tn3k", size=96)
    image = sorted((data / "trainval-image").iterdir())[0]
    images, output = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    shutil.copy(image, images / f"neck $1{image.suffix}")
    pixels = np.asarray(Image.open(image).convert("L"))
    path = ultrasound(images / "neck 2.dcm", pixels[None], SOPClassUID=UltrasoundImageStorage)
    assert predict("thyroid_deblur_mae", images, output, "-o", "demo", "--set", "load_pretrain=False") == 0
    mask = np.asarray(Image.open(output / "neck 2_mask.png")) > 0
    assert mask.shape == pixels.shape
    segmentation = highdicom.seg.segread(output / "neck 2_seg.dcm")
    source = pydicom.dcmread(path).SOPInstanceUID
    assert {uid for _, _, uid in segmentation.get_source_image_uids()} == {source}
    found = segmentation.get_pixels_by_source_instance([source], combine_segments=True)
    assert np.array_equal(found[0] > 0, mask)
    assert not (output / "neck $1_seg.dcm").exists()
    results = json.loads((output / "results.json").read_text())["cases"]
    assert results["neck 2"]["numbers"]["nodules"][0]["nodule_pixels"] == int(mask.sum())


def test_brain_patient(tmp_path):
    data = write_glioma_phantom(tmp_path, cases=1, size=24, seed=1)
    patient = next(path for path in sorted(data.iterdir()) if path.is_dir())
    parser = ConfigParser()
    parser.read_config(
        [str(ROOT / "bundles" / "brain_idh_ssm_mae" / "configs" / f"{n}.yaml") for n in ("inference", "demo")]
    )
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), tmp_path / "fold_0.pt")
    options = ("-o", "demo", "--set", "spacing_mm=6.0")
    untrained = ("--set", "load_pretrain=False", "--set", "maps=False")
    assert predict("brain_idh_ssm_mae", patient, tmp_path / "untrained", *options, *untrained) == 0
    options += ("--weights", tmp_path / "fold_0.pt")
    assert predict("brain_idh_ssm_mae", patient, tmp_path / "out", *options, "--report") == 0
    assert f"{patient.name}" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["cases"][patient.name]["numbers"]["markers"]
    assert 0 <= row["probability"] <= 1
    original = nibabel.load(tmp_path / "out" / "maps" / f"{patient.name}_map_original.nii.gz")
    image = nibabel.load(next(patient.rglob("*.nii.gz")))
    assert original.shape == image.shape
    np.testing.assert_allclose(original.affine, image.affine, atol=1e-5)
