"""A zip archive is read within limits, whatever it says of itself."""

import tracemalloc
import zipfile

import pytest

from fidle_jax.data.zip_archives import open_archive, read_member
from fidle_jax.errors import InputError

LIMIT = 10_000


def _write(path, content, method=zipfile.ZIP_DEFLATED, name="photo"):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return path


def _claim(path, size):
    """Has the list of members say that the only one has ``size`` bytes."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(content)


def test_a_member_is_read_up_to_the_limit(tmp_path):
    with open_archive(_write(tmp_path / "a.zip", b"x" * LIMIT)) as archive:
        assert read_member(archive, "photo", LIMIT) == b"x" * LIMIT
        with pytest.raises(InputError, match=r"photo has 10,000 bytes, expected at most 9,999"):
            read_member(archive, "photo", LIMIT - 1)


def test_a_member_that_is_larger_than_it_says_is_never_decompressed_whole(tmp_path):
    path = _write(tmp_path / "a.zip", bytes(100_000_000))
    _claim(path, 300)
    with open_archive(path) as archive:
        tracemalloc.start()
        with pytest.raises(InputError, match="zip: photo is damaged"):
            read_member(archive, "photo", LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_without_a_limit_is_refused(tmp_path, method):
    with (
        open_archive(_write(tmp_path / "a.zip", b"x", method)) as archive,
        pytest.raises(InputError, match=f"photo is compressed by method {method}, expected 8"),
    ):
        read_member(archive, "photo", LIMIT)


@pytest.mark.parametrize(("place", "byte"), [(6, 0xFF), (8 + 1, 0x08)], ids=["version", "UTF-8"])
def test_a_list_of_members_that_is_damaged_is_said_in_one_line(tmp_path, place, byte):
    path = _write(tmp_path / "a.zip", b"x", name="photo")
    content = bytearray(path.read_bytes().replace(b"photo", b"\xff\xfeoto"))
    content[content.index(b"PK\x01\x02") + place] |= byte
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated, or no zip file") as caught:
        open_archive(path)
    assert "\n" not in str(caught.value)
