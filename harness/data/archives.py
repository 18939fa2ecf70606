"""The bytes of a data file, whatever it is wrapped in: plain, gzip, zip, tar, or a tar inside one of them.

What a wrapping is decides the content, not the name. Everything is streamed: no member is held in memory or on disk.
"""

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from harness.errors import DataError

AGAIN = "download or export it again"

DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)
"""What the standard library raises for a file that is damaged, cut short or of another format."""

_BOM = b"\xef\xbb\xbf"
_WRAPPERS = (".tar", ".tgz", ".tar.gz", ".gz")
_DEEPEST = 4
_PEEK = 1024


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever the standard library says of an unreadable file becomes one DataError line."""
    try:
        yield
    except DAMAGED as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException) -> DataError:
    """The error for a file that cannot be read, with the first line of the reason."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(f"{path} cannot be read, it is damaged, cut short or of another format ({reason[:200]}): {AGAIN}")


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins like this is an HTML page, such as an error or a login page."""
    start = head.removeprefix(_BOM).lstrip()[:64].lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<!-- <!doctype", b"<?xml"))


@contextmanager
def open_data(path: Path, members: tuple[str, ...] = ()) -> Iterator[IO[bytes]]:
    """The innermost bytes of `path`, without a byte order mark; of an archive, the member of one of these file names.

    Raises DataError, also while the bytes are read inside the block, for a file that is damaged, empty or a web page
    and for an archive without such a member.
    """
    with damage(path), ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        for _ in range(_DEEPEST):
            head = _read_fully(stream, _PEEK)
            if stream.seekable() and head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                stream.seek(0)
                stream = _zip_member(stack, path, stream, members)
                continue
            stream = io.BufferedReader(_Rejoined(head, stream), 1 << 20)
            if head.startswith(b"\x1f\x8b"):
                stream = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=stream)), 1 << 20)
            elif head[257:262] == b"ustar":
                stream = _tar_member(stack, path, stream, members)
            else:
                if not head.strip():
                    raise DataError(f"{path} is empty: {AGAIN}")
                if is_web_page(head):
                    raise DataError(f"{path} is a web page, not data: {AGAIN}, the address may have moved")
                if head.startswith(_BOM):
                    stream.read(len(_BOM))
                yield stream
                return
        raise DataError(f"{path} is an archive inside an archive, {_DEEPEST} deep: unpack it")


def check_intact(path: Path) -> None:
    """Read a file to its end, through all wrappings and checksums. Raises DataError for a damaged one."""
    with damage(path):
        with path.open("rb") as file:
            head = file.read(_PEEK)
        if not head:
            raise DataError(f"{path} is empty: {AGAIN}")
        if is_web_page(head):
            raise DataError(f"{path} is a web page, not data: {AGAIN}, the address may have moved")
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            if bad is not None:
                raise DataError(f"{path} is damaged in {bad}: {AGAIN}")
        elif head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as stream:
                while stream.read(1 << 20):
                    pass
        elif head[257:262] == b"ustar":
            with tarfile.open(path) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    while content is not None and content.read(1 << 20):
                        pass


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes have been read already, whole again."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if self._head:
            part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            part = self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def _read_fully(stream: IO[bytes], count: int) -> bytes:
    """The next `count` bytes, fewer only at the end."""
    parts = b""
    while len(parts) < count and (more := stream.read(count - len(parts))):
        parts += more
    return parts


def _zip_member(stack: ExitStack, path: Path, stream: IO[bytes], members: tuple[str, ...]) -> IO[bytes]:
    archive = stack.enter_context(zipfile.ZipFile(stream))
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    chosen = _choose(names, members)
    if chosen is None:
        raise _no_member(path, members, names)
    if archive.getinfo(chosen).flag_bits & 1:
        raise DataError(f"{path} is locked by a password: unpack it")
    return stack.enter_context(archive.open(chosen))


def _tar_member(stack: ExitStack, path: Path, stream: IO[bytes], members: tuple[str, ...]) -> IO[bytes]:
    archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
    names = []
    for member in archive:
        if not member.isfile():
            continue
        names.append(member.name)
        if _choose([member.name], members):
            content = archive.extractfile(member)
            assert content is not None, "it is a file"
            # What a tar that is streamed gives cannot say whether it can be wound back: it cannot.
            return io.BufferedReader(_Rejoined(b"", stack.enter_context(content)), 1 << 20)
    raise _no_member(path, members, names)


def _choose(names: list[str], members: tuple[str, ...]) -> str | None:
    """The first name that is one of the members in some folder, else the first that is itself a wrapping."""
    for name in names:
        if name.rsplit("/", 1)[-1] in members:
            return name
    return next((name for name in names if name.lower().endswith(_WRAPPERS) and "__MACOSX" not in name), None)


def _no_member(path: Path, members: tuple[str, ...], names: list[str]) -> DataError:
    inside = ", ".join(repr(name)[1:-1][:80] for name in names[:8]) or "nothing"
    return DataError(f"{path} holds no {' or '.join(members) or 'data file'} but {inside}: {AGAIN}")
