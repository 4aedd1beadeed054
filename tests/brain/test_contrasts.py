import pytest

from custom_apps.brain.contrasts import contrast_of


@pytest.mark.parametrize(
    ("contrast", "names"),
    [
        ("t1", "BraTS2021_00000_t1 BraTS-GLI-00000-000-t1n 1_T1 T1 T1w t1_mprage_sag sub-t2_t1"),
        (
            "t1ce",
            "BraTS2021_00000_t1ce BraTS-GLI-00000-000-t1c 2_T1GD T1GD t1_mprage_gd T1+C t1post t1_gd_tra T1-POST-GD",
        ),
        ("t2", "BraTS2021_00000_t2 BraTS-GLI-00000-000-t2w 3_T2 Ax_T2_TSE sub-t1_t2"),
        ("flair", "BraTS2021_00000_flair BraTS-GLI-00000-000-t2f 4_FLAIR T2_FLAIR t2flair FLAIR_tra"),
        ("seg", "BraTS2021_00000_seg 5_MASK tumor_mask MASK segmentation"),
        (None, "DWI adc pt1 t10 T1_biasfield localizer flairish patient1 dicom"),
    ],
)
def test_names(contrast, names):
    assert {name: contrast_of(name) for name in names.split()} == dict.fromkeys(names.split(), contrast)
