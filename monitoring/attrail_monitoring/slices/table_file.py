"""A csv or parquet file as a table of images: as written, with pictures that lie in the table kept apart."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import EmbeddedPicture
from attrail_explainers.files.plain_file import require_plain

PICTURES = ("image", "mask")
WRITTEN = (*PICTURES, "label")  # columns that are names: never missing values because of how they are spelled
NAMES = (*WRITTEN, "labels")  # of which a cell of the last may hold several
AT_ONCE = 64  # rows of embedded pictures in memory


@dataclass(frozen=True, eq=False)
class FileRows:
    """``rows`` as written; ``embedded``: columns of pictures that lie in the table; ``left_out``: others with bytes.

    ``label_names`` are the class names that Hugging Face's datasets write beside whole-number labels.
    """

    rows: pd.DataFrame
    embedded: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


def read_table_file(name: str, source: Path) -> FileRows:
    """The file's rows without the bytes of pictures; SliceError when it is missing or no table."""
    if not source.exists():
        raise SliceError(f"slice {name!r}: source {source} does not exist")
    if source.suffix not in (".csv", ".parquet"):
        raise SliceError(f"slice {name!r}: source {source} must be a .csv or .parquet file or a folder")
    try:
        require_plain(source)
        return FileRows(_read_csv(source)) if source.suffix == ".csv" else _read_parquet(source)
    except (ValueError, OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise SliceError(f"slice {name!r}: source {source} cannot be read as a table: {reason}") from error


def unpack(name: str, source: Path, column: str, rows: Iterable[int]) -> list[EmbeddedPicture | None]:
    """The pictures of some rows of a column, by their numbers from 1; None where a row has no bytes.

    They are copied, some at a time, to a file without a name that ends with the last of them: a parquet file gives its
    rows in order only, and a slice may be larger than the memory. Raises SliceError when the disk is full.
    """
    numbers = list(rows)
    found: dict[int, EmbeddedPicture | None] = dict.fromkeys(numbers)
    file: BinaryIO = tempfile.TemporaryFile(prefix="attrail-")  # noqa: SIM115 - the pictures keep it open
    try:
        for row, content in enumerate(islice(_contents(source, column), max(numbers)), start=1):
            if row in found:
                where = f"in row {row} of {source}"
                found[row] = None if content is None else EmbeddedPicture(where, file, file.tell(), file.write(content))
        file.flush()
    except (OSError, pa.ArrowException) as error:
        raise SliceError(f"slice {name!r}: the pictures in {source} cannot be unpacked: {error}") from error
    return [found[row] for row in numbers]


def _read_csv(source: Path) -> pd.DataFrame:
    """A class may be called None, NA or null; other columns keep pandas' types, for queries."""
    rows = pd.read_csv(source)
    if not isinstance(rows.index, pd.RangeIndex):
        raise ValueError("its rows have more cells than its first line has names; quote cells that have commas in them")
    names = [each for each in NAMES if each in rows]
    if names:
        rows[names] = pd.read_csv(source, dtype="str", keep_default_na=False, na_values=[""], usecols=names)[names]
    return rows


def _read_parquet(source: Path) -> FileRows:
    schema = pq.read_schema(source)
    _require_readable(schema)
    held = [field.name for field in schema if _holds_bytes(field.type)]
    embedded = [each for each in held if each in PICTURES]
    rows = pd.read_parquet(source, columns=[each for each in schema.names if each not in held])
    for column in embedded:
        rows[column] = _paths(source, column)
    left_out = tuple(f"column {each} (bytes)" for each in held if each not in embedded)
    return FileRows(rows, tuple(embedded), left_out, _label_names(schema))


def _require_readable(schema: pa.Schema) -> None:
    """Raise ValueError for images that are neither paths nor pictures, or labels that are neither names nor numbers."""
    for name, wanted in (("image", "paths or pictures"), ("mask", "paths or pictures"), ("label", "names or numbers")):
        kind = schema.field(name).type if name in schema.names else pa.null()
        inner = kind if name == "label" or not pa.types.is_struct(kind) else _field(kind, "bytes")
        if inner is None or pa.types.is_nested(inner) or (name == "label" and _holds_bytes(kind)):
            raise ValueError(f"its column {name} holds values of type {kind}, {wanted} are expected")


def _paths(source: Path, column: str) -> list[str | None]:
    """What every row says that its picture is called, None where it does not; read without the pictures' bytes."""
    with pq.ParquetFile(source) as file:
        found = file.read(columns=[f"{column}.path"])
        structs = found[column].to_pylist() if found.num_columns else [None] * file.metadata.num_rows
        return [struct["path"] if struct else None for struct in structs]


def _field(kind: pa.DataType, name: str) -> pa.DataType | None:
    """The type of a struct's field, None where there is none."""
    place = kind.get_field_index(name) if pa.types.is_struct(kind) else -1
    return kind.field(place).type if place >= 0 else None


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column's values are bytes, or have bytes in them."""
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    inner = [kind.field(place).type for place in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return any(test(kind) for test in tests) or any(_holds_bytes(each) for each in inner)


def _contents(source: Path, column: str) -> Iterator[bytes | None]:
    """The bytes of every row's picture: the column itself, or the field ``bytes`` of it."""
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(AT_ONCE, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield value.get("bytes") if isinstance(value, dict) else value


def _label_names(schema: pa.Schema) -> tuple[str, ...]:
    """The names of a ClassLabel column in the description that Hugging Face's datasets write into the file."""
    try:
        features: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(str(each) for each in features["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return ()
