"""What sources of records share: the fields with the text, and how plain text is cut."""

from __future__ import annotations

from lingraft.corpus.plain_text import Split
from lingraft.corpus.read import check_split
from lingraft.corpus.sources.base import Source
from lingraft.errors import CorpusError


class RecordSource(Source):
    """A source of records, whose text stands in fields, or of plain text."""

    text_field: str = "text"
    split: Split | None = None
    """What one document of plain text (.txt) is; by default the lines between blank lines."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a record that hold its text."""
        return self.pair or (self.text_field,)

    def check(self) -> None:
        if self.pair and self.text_field != "text":
            raise CorpusError("'text_field' is of text in one language; 'parallel' names the fields; remove it")
        check_split(self.split, self.paths)
