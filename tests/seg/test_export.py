from dataclasses import replace

import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg import export
from custom_apps.seg.case_export import RestoreSegmentationd
from custom_apps.seg.export import restore_probabilities, restore_segmentation
from custom_apps.seg.preprocessing import preprocess_case
from tests.seg.model_phantom import LABELS, IntensityNetwork, intensities, label_map, model

PROPERTIES = {"spacing": [2.0, 1.0, 1.0]}


def prepared(labels, phantom, properties=PROPERTIES, margin=2):
    image, _, properties = preprocess_case(
        intensities(labels, margin)[None], None, properties, phantom.plans, phantom.configuration
    )
    return torch.from_numpy(image)[None], properties


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_cropping_and_transposing_are_undone_exactly(transpose):
    labels = label_map()
    spacing = [PROPERTIES["spacing"][axis] for axis in transpose]
    phantom = model(spacing=spacing, transpose=transpose)
    image, properties = prepared(labels, phantom)
    assert image.shape[2:] != labels.shape, "the phantom must be cropped, or this shows nothing"
    found = restore_segmentation(IntensityNetwork()(image)[0], properties, phantom)
    assert np.array_equal(found, labels)
    assert found.dtype == np.int16


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_resampling_is_undone(transpose):
    labels = label_map((12, 40, 36))
    phantom = model(spacing=[1.6, 1.3, 0.8], transpose=transpose)
    image, properties = prepared(labels, phantom)
    found = restore_segmentation(IntensityNetwork()(image)[0], properties, phantom)
    assert found.shape == labels.shape
    # Interpolated intensities at the edge of the kidney look like liver, so the foreground is compared as a whole.
    assert 2 * ((found > 0) & (labels > 0)).sum() / ((found > 0).sum() + (labels > 0).sum()) > 0.85
    centers = [np.argwhere(map_ > 0).mean(0) for map_ in (found, labels)]
    assert centers[0] == pytest.approx(centers[1], abs=0.3)


def test_a_2d_configuration_keeps_the_slices():
    labels = label_map((5, 30, 26))
    phantom = model(spacing=(1.5, 1.2), patch_size=(16, 16))
    image, properties = prepared(labels, phantom)
    assert image.shape[2] == 5
    found = restore_segmentation(IntensityNetwork()(image)[0], properties, phantom)
    assert found.shape == labels.shape
    assert (found == labels).mean() > 0.95


def test_probabilities_have_the_shape_of_the_image_and_background_around_the_crop():
    labels = label_map()
    phantom = model()
    image, properties = prepared(labels, phantom)
    found, probabilities = restore_probabilities(IntensityNetwork()(image)[0], properties, phantom)
    assert np.array_equal(found, labels)
    assert probabilities.shape == (3, *labels.shape)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(0) == pytest.approx(1, abs=1e-6)
    assert probabilities[0, 0, 0, 0] == 1
    assert np.array_equal(probabilities.argmax(0), labels)


def test_regions_are_painted_in_their_order():
    labels = label_map()
    regions = {"background": 0, "organ": [1, 2], "kidney": 2}
    phantom = model(labels=regions, regions_class_order=[1, 2])
    image, properties = prepared(labels, phantom)
    x = image[0, 0]
    logits = torch.stack([x - 0.75, x - 1.5])
    found, probabilities = restore_probabilities(logits, properties, phantom)
    assert np.array_equal(found, labels)
    assert np.array_equal(restore_segmentation(logits, properties, phantom), labels)
    assert probabilities[:, 0, 0, 0].tolist() == [0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_logits_name_the_case(value):
    phantom = model()
    image, properties = prepared(label_map(), phantom)
    logits = IntensityNetwork()(image)[0]
    logits[1, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"liver_07: the network gave NaN or infinite logits"):
        restore_segmentation(logits, properties, phantom, "liver_07")


def test_logits_of_another_shape_are_refused():
    phantom = model()
    image, properties = prepared(label_map(), phantom)
    with pytest.raises(ValueError, match=f"expected {len(LABELS)} heads"):
        restore_segmentation(IntensityNetwork()(image)[0][:2], properties, phantom)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_deciding_first_gives_the_same_labels_where_nothing_is_resampled(dtype):
    labels = label_map()
    phantom = model(spacing=[1.0, 2.0, 1.0], transpose=(1, 0, 2))
    image, properties = prepared(labels, phantom)
    logits = IntensityNetwork()(image)[0].to(dtype)
    found = restore_segmentation(logits, properties, phantom, decide_first=True)
    assert np.array_equal(found, labels)
    assert found.dtype == np.int16


def test_deciding_first_takes_the_nearest_voxel_where_the_spacing_differs():
    labels = label_map((12, 40, 36))
    phantom = model(spacing=[4.0, 0.5, 1.0])
    image, properties = prepared(labels, phantom)
    logits = IntensityNetwork()(image)[0]
    found = restore_segmentation(logits, properties, phantom, decide_first=True)
    exact = restore_segmentation(logits, properties, phantom)
    assert found.shape == exact.shape == labels.shape
    assert (found == exact).mean() > 0.9
    with pytest.raises(DataError, match="NaN or infinite"):
        restore_segmentation(logits * np.nan, properties, phantom, decide_first=True)
    with pytest.raises(ValueError, match="one of decide_first and probabilities_key"):
        RestoreSegmentationd("pred", phantom, "probabilities", decide_first=True)


@pytest.mark.parametrize(
    "declared", [{}, {"labels": {"background": 0, "all": [1, 2], "kidney": 2}, "regions_class_order": [1, 2]}]
)
@pytest.mark.parametrize("rule", ["resample_data_or_seg_to_shape", "resample_torch_fornnunet"])
def test_heads_one_by_one_decide_as_all_together(declared, rule):
    phantom = model(spacing=[1.6, 1.3, 0.8], **declared)
    options = {"is_seg": False, "force_separate_z": None} | ({"order": 1, "order_z": 0} if "data" in rule else {})
    configuration = replace(
        phantom.configuration, resampling_fn_probabilities=rule, resampling_fn_probabilities_kwargs=options
    )
    phantom = replace(phantom, configuration=configuration)
    _, properties = prepared(label_map((12, 40, 36)), phantom)
    heads = phantom.labels.num_segmentation_heads
    shape = properties["shape_after_resampling"]
    # Rounded, so that there are ties.
    logits = torch.randn(heads, *shape, generator=torch.Generator().manual_seed(0)).round()
    found = restore_segmentation(logits, properties, phantom)
    together, _ = restore_probabilities(logits, properties, phantom)
    resampled = export._resampled(logits, properties, phantom, "case")
    expected = export._to_original(phantom.labels.logits_to_segmentation(resampled), properties, phantom)
    assert np.array_equal(found, expected)
    assert (found == together).mean() > 0.999, "but for ties of rounded probabilities"
    assert len(np.unique(found)) > heads - 1
