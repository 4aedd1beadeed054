import nibabel
import numpy as np
import pytest

from custom_apps.brain.contrasts import CONTRASTS
from custom_apps.brain.labels_table import EGD_TABLE, read_labels
from custom_apps.brain.patients import find_patients
from custom_apps.brain.phantom import glioma_case, write_glioma_phantom
from custom_apps.brain.phantom_glioma import EDEMA, ENHANCING, Glioma
from custom_apps.brain.phantom_head import BACKGROUND, CSF, GRAY, WHITE, head, tissue_images
from custom_apps.cli import main
from custom_apps.common.errors import DataError


def array(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_same_seed_same_data(egd_phantom, tmp_path):
    again = write_glioma_phantom(tmp_path, cases=6, size=24, seed=1)
    for patient in find_patients(egd_phantom):
        for path in patient.files.values():
            assert np.array_equal(array(path), array(again / path.relative_to(egd_phantom)))
    assert read_labels(again / EGD_TABLE) == read_labels(egd_phantom / EGD_TABLE)


def test_layouts_hold_the_same_heads_in_their_own_orientation(egd_phantom, brats_phantom):
    egd = nibabel.load(egd_phantom / "EGD-0001" / "2_T1GD" / "NIFTI" / "T1GD.nii.gz")
    brats = nibabel.load(brats_phantom / "BraTS2021_00000" / "BraTS2021_00000_t1ce.nii.gz")
    assert nibabel.aff2axcodes(egd.affine) == ("R", "A", "S")
    assert nibabel.aff2axcodes(brats.affine) == ("L", "P", "S")
    turned = nibabel.as_closest_canonical(brats)
    assert np.array_equal(np.asarray(turned.dataobj), np.asarray(egd.dataobj))
    assert np.allclose(turned.affine, egd.affine)


def test_background_is_exactly_zero_and_common_to_all_contrasts(egd_phantom):
    images = [array(path) for path in find_patients(egd_phantom)[0].images()]
    for image in images:
        assert image.dtype == np.int16
        assert np.array_equal(image == 0, images[0] == 0)
        assert 0.1 < (image > 0).mean() < 0.6


def test_tissues_are_ordered_as_in_mr():
    brain = head(np.random.default_rng(0), (40, 40, 32), 4.8)
    images = tissue_images(brain)
    of = {name: {t: float(images[name][brain.tissue == t].mean()) for t in (CSF, GRAY, WHITE)} for name in CONTRASTS}
    assert of["t1"][CSF] < of["t1"][GRAY] < of["t1"][WHITE]
    assert of["t2"][WHITE] < of["t2"][GRAY] < of["t2"][CSF]
    assert of["flair"][CSF] < of["flair"][WHITE] < of["flair"][GRAY]
    shares = [(brain.tissue == t).sum() / (brain.tissue != BACKGROUND).sum() for t in (CSF, GRAY, WHITE)]
    assert min(shares) > 0.02


def glioma(**changes):
    values = {
        "idh": 0, "codeletion": 0, "center_mm": (30.0, 10.0, 20.0), "radius_mm": 20.0, "roughness": 0.1,
        "blur_mm": 1.0, "enhancement": 0.0, "necrosis": 0.0, "edema": 1.3, "mismatch": 0.0, "calcification": 0.0,
    }  # fmt: skip
    return Glioma(**values | changes)


def case(**changes):
    images, mask, spacing_mm = glioma_case(np.random.default_rng(3), glioma(**changes), 48)
    assert spacing_mm == 4.0
    return {name: image / np.median(image[image > 0]) for name, image in images.items()}, mask


def test_ring_enhances_on_t1ce_only():
    images, mask = case(enhancement=1.0, necrosis=0.6)
    ring, core = mask == ENHANCING, mask == 1
    assert ring.sum() > 20
    assert core.sum() > 20
    assert images["t1ce"][ring].mean() > 1.2
    assert images["t1"][ring].mean() < 0.9
    assert images["t1ce"][core].mean() < images["t1ce"][ring].mean() - 0.3


def test_no_enhancement_no_ring():
    images, mask = case()
    assert not (mask == ENHANCING).any()
    assert images["t1ce"][mask == 1].mean() < 1


def test_edema_is_bright_on_flair_and_grows():
    few, many = case(edema=1.1), case(edema=1.8)
    assert many[0]["flair"][many[1] == EDEMA].mean() > 1.2
    assert (many[1] == EDEMA).sum() > 2 * (few[1] == EDEMA).sum()


def test_mismatch_darkens_flair_not_t2():
    plain, mismatch = case(), case(mismatch=1.0)
    tumor = plain[1] == 1
    assert mismatch[0]["flair"][tumor].mean() < plain[0]["flair"][tumor].mean() - 0.2
    assert mismatch[0]["t2"][tumor].mean() == pytest.approx(plain[0]["t2"][tumor].mean(), rel=0.05)


def test_calcifications_are_dark_spots_on_t2():
    plain, calcified = case(), case(calcification=0.15)
    tumor = plain[1] == 1
    assert calcified[0]["t2"][tumor].std() > 1.3 * plain[0]["t2"][tumor].std()


def test_kinds_differ_on_average_but_overlap():
    random = np.random.default_rng(0)
    wild, mutant = ([Glioma.drawn(random, idh, 0) for _ in range(300)] for idh in (0, 1))
    enhances = [np.mean([g.enhancement > 0.2 for g in kind]) for kind in (wild, mutant)]
    assert enhances[0] > 0.8
    assert enhances[1] < 0.2
    assert enhances[1] > 0
    assert enhances[0] < 1
    frontal = [np.mean([g.center_mm[1] > 30 for g in kind]) for kind in (wild, mutant)]
    assert frontal[1] > frontal[0] + 0.1
    assert not any(g.mismatch for g in wild)


def test_markers_are_balanced_and_some_unknown(tmp_path):
    markers = read_labels(write_glioma_phantom(tmp_path, cases=24, size=16) / EGD_TABLE).values()
    known = [m for m in markers if m.idh != -1]
    assert len(known) == 21
    assert 8 <= sum(m.idh for m in known) <= 13
    assert 4 <= sum(m.codeletion for m in known) <= 6
    assert all(m.idh == 1 for m in known if m.codeletion == 1)


def test_command_and_second_data_set(tmp_path, capsys):
    command = ["phantom", "brain_idh_ssm_mae", str(tmp_path), "--kind", "brats", "--cases", "1", "--test-cases", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "PhantomBraTS")
    assert len(find_patients(tmp_path / "PhantomBraTSTest")) == 1
    first = array(find_patients(tmp_path / "PhantomBraTS")[0].files["t1"])
    assert not np.array_equal(first, array(find_patients(tmp_path / "PhantomBraTSTest")[0].files["t1"]))
    assert main(command) == 1
    assert "not overwritten" in capsys.readouterr().err


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="layout"):
        write_glioma_phantom(tmp_path, layout="bids")
    with pytest.raises(ValueError, match="at least one case"):
        write_glioma_phantom(tmp_path, cases=0)
    write_glioma_phantom(tmp_path, cases=1, size=16)
    with pytest.raises(DataError, match="not overwritten"):
        write_glioma_phantom(tmp_path, cases=1, size=16)
