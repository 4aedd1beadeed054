import numpy as np
import pytest
import SimpleITK as sitk
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.click_inferer import ClickInferer
from custom_apps.seg.clicks import Click
from custom_apps.seg.component_filter import ComponentFilter
from custom_apps.seg.interactive_session import InteractiveSession
from tests.seg.click_phantom import BallNetwork, click_model
from tests.seg.model_phantom import intensities, label_map, model, write_case


@pytest.fixture
def phantom():
    return click_model(spacing=(1.5, 0.9, 1.1), transpose=(2, 0, 1), patch_size=(16, 16, 16))


@pytest.fixture
def session(phantom, tmp_path):
    path = write_case(tmp_path, "a", label_map((12, 30, 33)))
    return InteractiveSession(phantom, path, BallNetwork())


def test_the_label_map_follows_the_clicks(session):
    assert not session.predict().any()
    session.add_click("liver", (6, 10, 8))
    first = session.predict()
    assert first.shape == (12, 30, 33)
    assert first[6, 10, 8] == 1
    session.add_click(2, np.array([4, 22, 25]))
    second = session.predict()
    assert second[4, 22, 25] == 2
    assert second[6, 10, 8] == 1
    assert session.clicks == [Click(1, (6.0, 10.0, 8.0)), Click(2, (4.0, 22.0, 25.0))]


def test_undo_and_reset_bring_the_earlier_state_back(session):
    empty = session.predict()
    session.add_click("liver", (6, 10, 8))
    one = session.predict()
    session.add_click("kidney", (4, 22, 25))
    session.predict()
    assert session.undo() == Click(2, (4.0, 22.0, 25.0))
    assert np.array_equal(session.predict(), one)
    session.add_click("kidney", (4, 22, 25))
    session.reset()
    assert session.clicks == []
    assert np.array_equal(session.predict(), empty)
    assert session.undo() is None


def test_only_the_windows_around_a_new_click_are_predicted(session):
    network = session.network
    session.predict()
    every = network.patches
    assert every >= 8
    session.predict()
    assert network.patches == every, "nothing changed"
    session.add_click("liver", (0, 2, 2))
    session.predict()
    assert network.patches == every + 1, "a corner lies in one window"


def test_what_is_given_away_is_a_copy(session):
    session.add_click("liver", (6, 10, 8))
    session.predict()[:] = 9
    session.clicks.clear()
    assert session.predict().max() == 1
    assert len(session.clicks) == 1


def test_cross_and_component_filter(phantom, tmp_path):
    path = write_case(tmp_path, "a", label_map((12, 30, 33)))
    network = BallNetwork(radius=0.6)
    plain = InteractiveSession(phantom, path, network, cross=False)
    crossed = InteractiveSession(phantom, path, network)
    filtered = InteractiveSession(phantom, path, network, component_filter=ComponentFilter({1: 1e6}))
    for one in (plain, crossed, filtered):
        one.add_click("liver", (6, 10, 8))
    point = (6, 10, 8)
    assert crossed.predict()[point] == 1
    assert crossed.predict().sum() >= 7
    assert plain.predict().sum() < crossed.predict().sum()
    assert not filtered.predict().any(), "the cross needs its label to be there"


def test_arrays_and_an_own_inferer(phantom):
    labels = label_map((12, 30, 33))
    inferer = ClickInferer((16, 16, 16), step_ratio=1.0, mirror_axes=(0,))
    session = InteractiveSession(phantom, intensities(labels), BallNetwork(), inferer, spacing_mm=(2, 1, 1))
    session.add_click("kidney", (6, 10, 8))
    assert session.predict()[6, 10, 8] == 2
    with pytest.raises(DataError, match="spacing"):
        InteractiveSession(phantom, intensities(labels), BallNetwork())


def test_trained_models_are_opened_by_their_folder(tmp_path):
    folder = tmp_path / "model"
    phantom = click_model(folder, patch_size=(8, 8, 8))
    folder.mkdir()
    phantom.write()
    torch.manual_seed(0)
    torch.save(phantom.network().state_dict(), folder / "model.pt")
    image = sitk.GetImageFromArray(intensities(label_map((8, 14, 15))))
    sitk.WriteImage(image, str(tmp_path / "b_0000.nii.gz"))
    session = InteractiveSession(folder, tmp_path / "b_0000.nii.gz")
    assert session.case == "b"
    before = session.predict()
    session.add_click("liver", (3, 7, 7))
    assert before.shape == session.predict().shape == (8, 14, 15)


def test_bad_clicks_change_nothing(session):
    session.add_click("liver", (6, 10, 8))
    for structure, point, message in (
        ("nerve", (1, 1, 1), "names 'nerve'"),
        (7, (1, 1, 1), "names 7"),
        (0, (1, 1, 1), "names 0"),
        ("liver", (1, 1), "three finite numbers"),
        ("liver", (1, float("nan"), 1), "three finite numbers"),
        ("liver", (12, 1, 1), "outside the image"),
        ("liver", (-1, 1, 1), "outside the image"),
    ):
        with pytest.raises(DataError, match=message):
            session.add_click(structure, point)
    assert len(session.clicks) == 1


def test_a_network_without_clicks_is_refused(tmp_path):
    with pytest.raises(DataError, match="takes no clicks"):
        InteractiveSession(model(patch_size=(16, 16, 16)), tmp_path / "a_0000.nii.gz", BallNetwork())
