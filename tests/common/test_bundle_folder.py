import shutil

import pytest

from custom_apps.common.bundle_folder import find_bundle
from custom_apps.common.config_literal import config_literal
from custom_apps.common.errors import DataError
from tests.bundles.bundle_cli import ROOT


def test_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundle("umamba_seg") == ROOT / "bundles" / "umamba_seg"


def test_what_is_here_comes_first(tmp_path, monkeypatch):
    own = shutil.copytree(ROOT / "bundles" / "umamba_seg", tmp_path / "my copy")
    monkeypatch.chdir(own)
    assert find_bundle("umamba_seg") == own
    assert find_bundle("echo_ef_mamba3d") == ROOT / "bundles" / "echo_ef_mamba3d"
    monkeypatch.chdir(ROOT)
    assert find_bundle("umamba_seg", own) == own
    with pytest.raises(DataError, match=r"echo_ef_mamba3d: no such bundle in .*my copy"):
        find_bundle("echo_ef_mamba3d", own)


@pytest.mark.parametrize("text", ["/plain/path", "/a#b/@x/$y/%z", "$5 'and' \"more\" \\#", "@::up"])
def test_any_text_comes_out_of_a_configuration(text):
    from monai.bundle import ConfigParser

    parser = ConfigParser({"path": config_literal(text), "nested": {"joined": "$@path + '/end'"}})
    parser.parse()
    assert parser.get_parsed_content("path") == text
    assert parser.get_parsed_content("nested::joined") == f"{text}/end"
