"""The two ways that raw rows are written: delimited text, and one JSON object or Python literal in a line.

Both are parsed by pyarrow in blocks, so that memory holds three columns of the file and never the file.
"""

import ast
import csv
import io
import json
import warnings
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from harness.data.archives import AGAIN, open_data
from harness.data.rows import Gather, Place, RawRows
from harness.errors import DataError

BLOCK_BYTES = 1 << 22
"""Bytes that pyarrow parses at once; larger blocks are no faster and hold more memory."""

_LONGEST_LINE = 1 << 24
"""Bytes of the longest line that is read."""

_LINES_AT_ONCE = 50_000
_JSON_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}

Choose = Callable[[list[str]], tuple[str, str, str]]
"""From the names that a file has, those of user, item and time; raises DataError where one is missing."""


def read_lines(
    path: Path, members: tuple[str, ...], *, delimiter: str, fields: int, user: int, item: int, time: int
) -> RawRows:
    """Rows of a file without header and without quotes: `fields` in every line, user, item and time at these places."""
    gather = Gather(path, _line_of(path, members))
    with open_data(path, members) as stream:
        try:
            for batch in _text_batches(stream, delimiter, fields, (user, item, time)):
                gather.add(*batch)
        except pa.ArrowInvalid as error:
            line = _odd_line(path, members, delimiter, fields)
            raise line or _unparsed(path, error) from error
    return gather.rows()


def read_headed(path: Path, choose: Choose, *, per_second: int = 1, nameless_users: bool = False) -> RawRows:
    """Rows of delimited text with a header, from which `choose` names the user, item and time columns.

    The delimiter is the one of comma, tab and semicolon that the header has most of; double quotes may enclose fields.
    """
    header, delimiter = first_fields(path)
    places = [header.index(name) for name in choose(header)]
    place = _line_of_quoted(path, delimiter)
    gather = Gather(path, place, per_second=per_second, nameless_users=nameless_users)
    with open_data(path) as stream:
        counted = _Counted(stream)
        try:
            for batch in _text_batches(
                io.BufferedReader(counted, 1 << 20), delimiter, len(header), places, header=True
            ):
                gather.add(*batch)
        except pa.ArrowInvalid as error:
            raise _unparsed(path, error) from error
    if counted.lines != gather.seen + 1:
        _check_quotes(path, delimiter, gather.seen)
    return gather.rows()


def first_fields(path: Path) -> tuple[list[str], str]:
    """The fields of the first line, and the delimiter that they are parted by."""
    with open_data(path) as stream, _fields_of_any_length():
        line = stream.readline(_LONGEST_LINE).decode("utf-8").rstrip("\r\n")
        delimiter = max(",\t;", key=line.count)
        try:
            return next(csv.reader([line], delimiter=delimiter), []), delimiter
        except csv.Error as error:
            raise _unparsed(path, error) from error


def first_object(path: Path, members: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object in the first line of a file of objects. Raises DataError where there is none."""
    with open_data(path, members) as stream:
        return _object(path, *next(_lines(path, stream), (1, b"")))


def read_objects(
    path: Path,
    members: tuple[str, ...],
    choose: Choose,
    *,
    per_second: int = 1,
    nameless_users: bool = False,
) -> RawRows:
    """Rows of a file with one JSON object (or Python literal of a dict) in each line.

    `choose` names the user, item and time keys after those of the first line. Strict JSON is parsed by pyarrow; where
    that fails, and for literals, every line is read by itself, which either works or names the line.
    """
    first = first_object(path, members)
    keys = choose(list(first))
    kinds = [_JSON_TYPES.get(type(first[key])) for key in keys]
    rows = None
    if all(kinds) and not _is_literal(path, members):
        gather = Gather(path, lambda row: f"row {row + 1}", per_second=per_second, nameless_users=nameless_users)
        rows = _strict_objects(path, members, pa.schema(list(zip(keys, kinds, strict=True))), gather)
    if rows is not None:
        return rows
    numbers = array("q")
    gather = Gather(path, lambda row: f"line {numbers[row]}", per_second=per_second, nameless_users=nameless_users)
    with open_data(path, members) as stream:
        lines = _lines(path, stream)
        while some := list(islice(lines, _LINES_AT_ONCE)):
            objects = [_object(path, number, line) for number, line in some]
            numbers.extend(number for number, _ in some)
            user, item, time = (
                pa.array([
                    _text(path, number, found, key, of) for (number, _), found in zip(some, objects, strict=True)
                ])
                for key, of in zip(keys, (int, int, int | float), strict=True)
            )
            gather.add(user.cast(pa.large_string()), item.cast(pa.large_string()), time.cast(pa.large_string()))
    return gather.rows()


def _text_batches(
    stream: IO[bytes], delimiter: str, fields: int, places: tuple[int, ...] | list[int], *, header: bool = False
) -> Iterator[list[pa.Array]]:
    """The columns at these places as text, block by block; with a header come quotes and newlines inside them."""
    names = [str(place) for place in range(fields)]
    reader = pyarrow.csv.open_csv(
        stream,
        pyarrow.csv.ReadOptions(
            column_names=names, skip_rows=int(header), block_size=BLOCK_BYTES, use_threads=False, encoding="utf8"
        ),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if header else False,
            double_quote=header,
            newlines_in_values=header,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=[names[place] for place in dict.fromkeys(places)],
            strings_can_be_null=False,
        ),
    )
    for batch in reader:
        yield [batch.column(names[place]) for place in places]


def _strict_objects(path: Path, members: tuple[str, ...], schema: pa.Schema, gather: Gather) -> RawRows | None:
    """All rows by pyarrow's parser, or None for a file that is to be read line by line."""
    read = pyarrow.json.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with open_data(path, members) as stream:
        try:
            for batch in pyarrow.json.open_json(stream, read, parse):
                gather.add(*(batch.column(name) for name in schema.names))
        except (pa.ArrowException, DataError):
            return None
    return gather.rows()


def _is_literal(path: Path, members: tuple[str, ...]) -> bool:
    """Whether the first line is a Python literal rather than JSON."""
    with open_data(path, members) as stream:
        line = next(_lines(path, stream), (1, b""))[1]
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return True
        return False


def _lines(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number, from 1 on, and content of all lines but blank ones."""
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise DataError(f"{path}: line {number} is longer than {_LONGEST_LINE >> 20} MiB: {AGAIN}")
        if line.strip():
            yield number, line


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The JSON object or Python literal in a line."""
    found: object = None
    try:
        text = line.decode("utf-8")
        try:
            found = json.loads(text)
        except ValueError:
            with warnings.catch_warnings():
                # Texts in literals may hold backslashes that Python would warn about.
                warnings.simplefilter("ignore")
                found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{path}: line {number} is neither a JSON object nor a Python literal of one: "
            f"{line[:40]!r}: correct or remove it, or {AGAIN}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DataError(f"{path}: line {number} holds no object but {line[:40]!r}: correct or remove it, or {AGAIN}")
    return found


def _text(path: Path, number: int, found: dict[str, Any], key: str, of: Any) -> str | None:
    """A value as text, None for a missing one; raises DataError unless it is text or a number `of` this type."""
    value = found.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, of) and not isinstance(value, bool):
        return str(value)
    number_of = "a whole number" if of is int else "a number"
    raise DataError(f"{path}: line {number}: {key} is {str(value)[:40]}, not text or {number_of}: correct or remove it")


def _line_of(path: Path, members: tuple[str, ...]) -> Place:
    """The line of a row, in a file without header whose rows are the lines that are not blank."""

    def place(row: int) -> str:
        with open_data(path, members) as stream:
            number = next((number for number, _ in islice(_full_lines(stream), row, None)), row + 1)
        return f"line {number}"

    return place


def _line_of_quoted(path: Path, delimiter: str) -> Place:
    """The line of a row behind a header, where quoted fields may run over several lines."""

    def place(row: int) -> str:
        with _quoted_rows(path, delimiter) as rows:
            try:
                return f"line {next(islice(rows, row + 1, None), row + 2)}"
            except csv.Error:
                return f"row {row + 1}"

    return place


def _check_quotes(path: Path, delimiter: str, found: int) -> None:
    """Raise DataError unless a strict reading of the quotes gives as many rows as were found.

    For files with blank lines or with lines inside quotes: a quote that is never closed, or closed by one that was
    meant to open another field, would otherwise make rows vanish without a word.
    """
    with _quoted_rows(path, delimiter, strict=True) as rows:
        ends = array("q", [0])
        try:
            ends.extend(rows)
        except csv.Error as error:
            raise DataError(
                f"{path}: behind line {ends[-1]}: a double quote is not closed where its field ends ({error}): "
                f"correct it, or {AGAIN}"
            ) from error
    if len(ends) - 2 != found:
        raise DataError(
            f"{path} has {len(ends) - 2:,} rows with its double quotes read strictly, {found:,} otherwise: correct them"
        )


@contextmanager
def _quoted_rows(path: Path, delimiter: str, *, strict: bool = False) -> Iterator[Iterator[int]]:
    """The number of the last line of each row that is not blank, header included."""
    with open_data(path) as stream, _fields_of_any_length():
        text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=strict)
        yield (reader.line_num for fields in reader if fields)
        text.detach()


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the standard library's limit on the length of a field, which belongs to the process, for a while."""
    usual = csv.field_size_limit(_LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


class _Counted(io.RawIOBase):
    """A stream that counts the lines that go through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._ends = 0
        self._last = b"\n"

    @property
    def lines(self) -> int:
        """How many lines there were, the last one with or without its end."""
        return self._ends + (self._last != b"\n")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        part = self._stream.read(len(buffer))
        buffer[: len(part)] = part
        self._ends += part.count(b"\n")
        self._last = part[-1:] or self._last
        return len(part)


def _full_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and content of the lines that have any character."""
    for number, line in enumerate(stream, 1):
        content = line.rstrip(b"\r\n")
        if content:
            yield number, content


def _odd_line(path: Path, members: tuple[str, ...], delimiter: str, fields: int) -> DataError | None:
    """The error for the first line that has another number of fields or is not UTF-8; None where all are well."""
    with open_data(path, members) as stream:
        for number, line in _full_lines(stream):
            found = line.count(delimiter.encode()) + 1
            if found != fields:
                return DataError(
                    f"{path}: line {number} has {found} fields, not {fields}: {line[:40]!r}: "
                    f"correct or remove it, or {AGAIN}"
                )
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return DataError(f"{path}: line {number} is not UTF-8: {line[:40]!r}: correct it, or {AGAIN}")
    return None


def _unparsed(path: Path, error: Exception) -> DataError:
    """The error for text that cannot be parted into fields."""
    reason = " ".join(str(error).split())[:160]
    return DataError(f"{path} is damaged or of another format ({reason}): correct it, or {AGAIN}")
