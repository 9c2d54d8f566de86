"""Read records from Parquet, one a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.corpus.compression import unreadable
from lingraft.corpus.dropped import DroppedText

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, fields: Sequence[str] | None, dropped: DroppedText) -> Iterator[tuple[str, Any]]:
    """The rows of a file as records, with the columns that hold `fields`, or all.

    Raises:
        CorpusError: the file is cut or damaged, or may not be read.
    """
    from pyarrow import parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            present = file.schema_arrow.names
            names = present if fields is None else _columns(present, fields)
            if missing := [name for name in names if name not in present]:
                place = f"{path}, with the fields {', '.join(present)}"
                dropped.add(f"records without the field '{missing[0]}'", place, file.metadata.num_rows)
                return
            for batch in file.iter_batches(batch_size=256, columns=names):
                for record in _records(batch):
                    row += 1
                    if record is None:
                        dropped.add("records that are not UTF-8", f"{path}:row {row}")
                    else:
                        yield f"{path}:row {row}", record
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise unreadable(path, f"{path}:row {row + 1}", error) from None


def _columns(present: Sequence[str], fields: Sequence[str]) -> list[str]:
    """The columns that hold `fields`: `outer.inner` is in `outer`, unless a column has the whole name."""
    return list(dict.fromkeys(field if field in present else field.partition(".")[0] for field in fields))


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """Each row of a batch, or `None` for a row with text that is not UTF-8; the other rows are kept."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
