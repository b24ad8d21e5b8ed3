"""Zip archives that are not trusted: read in place, a member at a time, within a limit of bytes."""

import zipfile
from pathlib import Path, PurePosixPath

from fidle_jax.errors import InputError

# The others are decompressed whole, whatever size a member claims to have.
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive, open, its names known to be safe.

    Raises:
      InputError: it is missing, no zip file, truncated, or has an absolute name or one with "..".
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; get the official {path.name} there") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # damage of the list of members shows as one of many errors
        raise InputError(f"{path}: truncated, or no zip file; copy the whole file again") from error
    for name in archive.namelist():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name:
            archive.close()
            raise InputError(f"{path}: the name {name!r} leads out of it; get the official file")
    return archive


def read_member(archive: zipfile.ZipFile, member: str, largest: int) -> bytes:
    """The bytes of ``member``, of which no more than ``largest`` are ever held.

    Raises:
      InputError: it is not there, damaged, larger, or compressed in a way that has no such limit.
    """
    where = f"{archive.filename}: {member}"
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise InputError(f"{where} is not there; get the official file") from None
    if info.file_size > largest:
        raise InputError(
            f"{where} has {info.file_size:,} bytes, expected at most {largest:,}; get the official file"
        )
    if info.compress_type not in _BOUNDED:
        raise InputError(
            f"{where} is compressed by method {info.compress_type}, expected {zipfile.ZIP_DEFLATED} "
            "(deflate) or none; get the official file"
        )
    try:
        with archive.open(info) as file:
            # Without a number of bytes, a member that claims to be small is decompressed up to 1 GiB.
            return file.read(largest + 1)
    except Exception as error:  # damage shows as an error of zipfile or of any of its decompressors
        raise InputError(f"{where} is damaged ({error}); copy the file again") from error
