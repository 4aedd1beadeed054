import json
import logging
from types import SimpleNamespace

import pytest

from custom_apps.common.errors import DataError
from custom_apps.thyroid.blur_setting import BlurCheck, BlurRecord, blur_setting, check_blur, read_blur


@pytest.mark.parametrize(
    ("method", "sigma", "words"),
    [
        ("gaussian", 1.1, "gaussian 1.1"),
        ("gaussian", [0.5, 2.0], "gaussian 0.5 to 2"),
        ("gaussian", [1.1, 1.1], "gaussian 1.1"),
        ("median", 1.1, "median"),
        ("none", 1.1, "none"),
        (None, None, "none"),
    ],
)
def test_setting_in_words(method, sigma, words):
    assert blur_setting([{"case": "a"}], method, sigma) == words


def test_blurred_copy_is_the_same_setting_as_blur_on_the_fly():
    records = [{"case": "a", "blur": "gaussian 1.1"}, {"case": "b", "blur": "gaussian 1.1"}]
    assert blur_setting(records, "none") == blur_setting([{"case": "a"}], "gaussian", 1.1)


def test_blur_twice_and_mixed_blur_are_refused():
    with pytest.raises(DataError, match="blurred already"):
        blur_setting([{"blur": "gaussian 1.1"}], "gaussian", 1.1)
    with pytest.raises(DataError, match="different blur"):
        blur_setting([{"blur": "gaussian 1.1"}, {}], "none")


def engine(epoch=0):
    return SimpleNamespace(state=SimpleNamespace(epoch=epoch))


def test_kept_beside_the_weights_and_compared(tmp_path):
    BlurRecord(tmp_path, "gaussian 1.1")(engine())
    weights = tmp_path / "model.pt"
    assert read_blur(weights) == "gaussian 1.1"
    BlurCheck(weights, "gaussian 1.1")(engine())
    with pytest.raises(DataError, match=r"trained on images of blur 'gaussian 1\.1', now used with 'none'") as error:
        BlurCheck(weights, "none")(engine())
    assert "model.pt" in str(error.value)


def test_difference_can_be_allowed(tmp_path, caplog):
    BlurRecord(tmp_path, "gaussian 1.1")(engine())
    with caplog.at_level(logging.WARNING):
        check_blur(tmp_path / "model.pt", "median", allow_other=True)
    assert "now used with 'median'" in caplog.text


def test_resumed_training_keeps_its_setting(tmp_path):
    BlurRecord(tmp_path, "gaussian 1.1")(engine())
    with pytest.raises(DataError, match="now used with 'none'"):
        BlurRecord(tmp_path, "none")(engine(epoch=3))
    assert read_blur(tmp_path / "model.pt") == "gaussian 1.1"
    # A resumed training no longer looks at the weights that it began with.
    BlurCheck(tmp_path / "model.pt", "none", only_new=True)(engine(epoch=3))


def test_weights_without_a_setting_are_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check_blur(tmp_path / "published.pth", "gaussian 1.1")
    assert "gaussian 1.1" in caplog.text


def test_damaged_setting(tmp_path):
    (tmp_path / "blur.json").write_text(json.dumps(["gaussian"]))
    with pytest.raises(DataError, match=r"blur\.json"):
        read_blur(tmp_path / "model.pt")
