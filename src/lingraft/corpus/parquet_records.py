"""Records out of Parquet, a row each."""

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
            there = file.schema_arrow.names
            names = there if fields is None else _columns(there, fields)
            if missing := [name for name in names if name not in there]:
                place = f"{path}, with the fields {', '.join(there)}"
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


def _columns(there: Sequence[str], fields: Sequence[str]) -> list[str]:
    """The columns in which fields lie: `outer.inner` in `outer`, unless there is one of the whole name."""
    return list(dict.fromkeys(field if field in there else field.partition(".")[0] for field in fields))


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """Each row, or `None` where text in it is not UTF-8: one such row does not cost the others."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
