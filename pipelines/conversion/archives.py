"""Zip archives from anybody: nothing reads them before it is known what they unpack to.

The sizes in an archive's directory are claims, so every member is unpacked once, and counted. Readers in native code inflate to the end
of the stream, whatever the directory says.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipelines.conversion.faults import BadFile

MOST_ENTRIES = 10_000
MOST_BYTES = 8 * 1024**3  # that all members may unpack to
MOST_RATIO = 200  # of unpacked to packed; workbooks of nothing but repetition reach about 100
_UNSUSPECTED = 64 * 1024**2  # what unpacks to no more may be packed as tightly as it likes
_CHUNK = 1024 * 1024
_HEADER = 30

Look = Callable[[str, bytes], None]


def is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check(path: Path, shown: str, look: Look | None = None, most_bytes: int = MOST_BYTES) -> None:
    """Unpack everything and keep nothing; `look` sees each member's name and pieces. Errors: `BadFile`."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = archive.infolist()
            _check_claims(members, path.stat().st_size, shown, most_bytes)
            for member in members:
                _count(member, raw, shown, look)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise BadFile(f"{shown} is damaged or cut off: it is not a whole zip archive ({error}). Fetch the file again.") from error


def _check_claims(members: list[zipfile.ZipInfo], size: int, shown: str, most_bytes: int) -> None:
    if len(members) > MOST_ENTRIES:
        raise BadFile(f"{shown} is an archive of {len(members):,} files, more than the {MOST_ENTRIES:,} that are accepted.")
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise BadFile(f"{shown} unpacks to {total / 1024**2:,.0f} MiB, more than the {most_bytes / 1024**2:,.0f} MiB that are accepted.")
    if total > max(_UNSUSPECTED, size * MOST_RATIO):
        raise BadFile(f"{shown} unpacks to {total // max(1, size):,} times its size, more than the {MOST_RATIO} times that are accepted.")


def _count(member: zipfile.ZipInfo, raw: BinaryIO, shown: str, look: Look | None) -> None:
    """Errors: `BadFile` when it is not what the directory says; `zlib.error`."""
    if member.flag_bits & 1:
        raise BadFile(f"{shown} is encrypted. Save it without a password.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadFile(f"{shown} is compressed in a way that workbooks are not ('{member.filename}').")
    raw.seek(member.header_offset)
    header = raw.read(_HEADER)
    if len(header) < _HEADER or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"'{member.filename}' is missing")
    raw.seek(member.header_offset + _HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"))
    count, check_sum = 0, 0
    for piece in _pieces(member, raw):
        count += len(piece)
        if count > member.file_size:
            raise BadFile(f"{shown} is not what it claims: '{member.filename}' unpacks to more than the size that the archive tells.")
        check_sum = zlib.crc32(piece, check_sum)
        if look is not None:
            look(member.filename, piece)
    if count != member.file_size or check_sum != member.CRC:
        raise zipfile.BadZipFile(f"'{member.filename}' is not what was packed")


def _pieces(member: zipfile.ZipInfo, raw: BinaryIO) -> Iterator[bytes]:
    """What the member unpacks to, never more than a chunk at once, to the very end of its stream."""
    inflate = zlib.decompressobj(-15) if member.compress_type == zipfile.ZIP_DEFLATED else None
    left = member.compress_size
    while left > 0:
        packed = raw.read(min(_CHUNK, left))
        left -= len(packed)
        if not packed:
            raise EOFError(f"'{member.filename}' ends early")
        if inflate is None:
            yield packed
            continue
        while packed or not inflate.eof:
            piece = inflate.decompress(packed, _CHUNK)
            packed = inflate.unconsumed_tail
            if not piece and not packed:
                break
            yield piece
