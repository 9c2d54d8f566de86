"""The shape of a source of text: a strict config with keys of a corpus entry, and one verb, `rows(dropped)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from lingraft.corpus.dropped import DroppedText
from lingraft.errors import UserError

Row = tuple[str, tuple[str, ...]]
"""The place of a document, and its text; of an aligned pair, both texts."""


class Sample(NamedTuple):
    """The first rows of a part of a source, and how many times as much text the whole part holds."""

    texts: Sequence[tuple[str, ...]]
    scale: float


class Source(BaseModel, ABC):
    """Where the text of a corpus entry comes from.

    The fields of a subclass are keys of the entry. One of them is required: an entry that has it selects the source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    noun: ClassVar[str]
    """What messages call it."""
    path_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that hold paths or patterns. In a recipe's file these are relative to the file."""
    is_streamed: ClassVar[bool] = False
    """Whether reading stops where the budget of the entry is met."""

    pair: tuple[str, ...] = ()
    """Of aligned pairs: the two fields of a record. This comes from the key `parallel` of the entry."""

    @classmethod
    def entry_keys(cls) -> list[str]:
        """The keys of a corpus entry that this source reads."""
        return [name for name in cls.model_fields if name not in Source.model_fields]

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that change what is read, without paths: the content of files counts, and not where they lie."""
        return self.model_dump(mode="json", exclude=set(self.path_keys))

    @property
    def paths(self) -> list[Path]:
        """The local files that are read.

        Raises:
            CorpusError: a path or pattern matches no file, or a file that cannot be read.
        """
        return []

    def check(self) -> None:
        """Refuse keys that do not fit each other; reads no text.

        Raises:
            CorpusError: names the keys.
        """

    @abstractmethod
    def content(self, recorded: Any = None) -> Any:
        """A JSON value that changes when the text does. A step keeps it in the key of its artefact.

        `recorded`: the value when the text was last read. A source that is out of reach returns it.
        """

    @abstractmethod
    def rows(self, dropped: DroppedText) -> Iterator[Row]:
        """The documents, always in the same order; what cannot be used is counted in `dropped`.

        Raises:
            CorpusError: the source cannot be read, or has not one usable document.
        """

    def place(self, number: int) -> str:
        """Where usable document `number` (from 0) stands, as records and messages name it."""
        place, _ = next(islice(self.rows(DroppedText()), number, None))
        return Path(place).name

    def samples(self) -> Iterator[Sample] | None:
        """Samples from which the size of the source is estimated; None where that would need a download.

        Raises:
            CorpusError: as `rows`.
        """
        return None

    def warn(self, num_documents: int) -> None:
        """Log a warning where so many documents look like a mistake."""

    @property
    def cut_at_blank_lines(self) -> list[Path]:
        """Files of plain text that were cut into documents at blank lines."""
        return []


def found_by(find: Callable[[str], object]) -> AfterValidator:
    """A path or pattern for which `find` raises no error; an error becomes a problem of the key."""

    def validate(pattern: str) -> str:
        try:
            find(pattern)
        except UserError as error:
            raise ValueError(str(error)) from None
        return pattern

    return AfterValidator(validate)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


ONE_OR_MORE = BeforeValidator(_as_list, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)])
"""A single string is a list of one."""
