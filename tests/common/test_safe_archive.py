"""Archives that try to write elsewhere, or to fill the disk."""

import stat
import zipfile

import pytest

from custom_apps.common import safe_archive
from custom_apps.common.errors import DataError
from custom_apps.common.safe_archive import check_archive, unpack


def write_archive(path, *names, content=b"x", **settings):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in settings.items():
                setattr(entry, key, value)
            archive.writestr(entry, content)
    return path


def test_a_plain_archive_is_unpacked_once(tmp_path):
    path = write_archive(tmp_path / "a.zip", "bundle/", "bundle/LICENSE", "bundle/configs/train v1.yaml")
    written = unpack(path, tmp_path / "out")
    assert [file.relative_to(tmp_path / "out").as_posix() for file in written] == [
        "bundle/LICENSE",
        "bundle/configs/train v1.yaml",
    ]
    with pytest.raises(DataError, match="not empty and not overwritten"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../outside", "leads out"),
        ("bundle/../../outside", "leads out"),
        ("/etc/outside", "absolute"),
        ("C:/outside", "not safe"),
        ("..\\outside", "not safe"),
        ("bundle/a\x1b[2Jb", "not safe"),
        ("bundle/\u202egnp.exe", "not safe"),
        ("bundle//a", "no plain path"),
        ("bundle/./a", "no plain path"),
        ("bundle/a.", "no plain path"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path, name, problem):
    path = write_archive(tmp_path / "a.zip", "bundle/good", name)
    with pytest.raises(DataError, match=problem):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    path = write_archive(tmp_path / "a.zip", "bundle/link", content=b"/etc/passwd", external_attr=(kind | 0o644) << 16)
    with pytest.raises(DataError, match="link or a special file"):
        check_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["bundle/a", "bundle/A"])
def test_two_entries_of_one_name(tmp_path, second):
    path = write_archive(tmp_path / "a.zip", "bundle/a", second)
    with pytest.raises(DataError, match="twice"):
        check_archive(path)


def test_bombs(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "a.zip", "bundle/zeros", content=bytes(4 * 2**20))
    with pytest.raises(DataError, match="200 times its size"):
        check_archive(path)
    many = write_archive(tmp_path / "b.zip", *(f"bundle/{number}" for number in range(5)))
    monkeypatch.setattr(safe_archive, "MAX_FILES", 4)
    with pytest.raises(DataError, match="has 5 entries"):
        check_archive(many)
    monkeypatch.setattr(safe_archive, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match="unpacks to"):
        check_archive(path)


def test_damaged_and_encrypted_archives_leave_nothing_behind(tmp_path):
    path = write_archive(tmp_path / "a.zip", "bundle/a", "bundle/b", content=bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        second = archive.getinfo("bundle/b")
    content[second.header_offset + 60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()

    locked = write_archive(tmp_path / "locked.zip", "bundle/a")
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        check_archive(locked)
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.zip: cannot be read"):
        check_archive(tmp_path / "text.zip")
