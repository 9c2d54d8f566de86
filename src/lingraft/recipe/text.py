"""Text in a recipe: which languages there are, what trains, what is held out, what is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lingraft.corpus.read import Split, check_split, find_files
from lingraft.errors import CorpusError
from lingraft.evaluation import NUM_SAMPLES
from lingraft.languages import BETWEEN, Role
from lingraft.recipe.section import Section
from lingraft.recipe.types import BY_CODE, Count, FilePatterns, LanguageCode, Name, Share

ByLanguage = Annotated[dict[str, FilePatterns], BY_CODE]


class Languages(Section):
    """Which languages are learned, which are to be kept, which are only watched."""

    learn: list[LanguageCode] = Field(min_length=1)
    retain: list[LanguageCode] = []
    observe: list[LanguageCode] = []

    @property
    def trained(self) -> list[str]:
        """Languages whose text may train."""
        return [*self.learn, *self.retain]

    @property
    def roles(self) -> dict[str, Role]:
        return {
            **dict.fromkeys(self.learn, "learn"),
            **dict.fromkeys(self.retain, "retain"),
            **dict.fromkeys(self.observe, "observe"),
        }


class CorpusEntry(Section):
    """Text to train on: files or a hub dataset, with a budget or a share of all tokens.

    Of one language, or aligned pairs in two: each pair is a document in both orders.
    """

    language: LanguageCode | None = None
    parallel: Annotated[dict[str, Name], Field(min_length=2, max_length=2), BY_CODE] | None = None
    """Of pairs: two languages, and the field of a record that holds the text in each."""
    files: FilePatterns | None = None
    hub: str | None = None
    subset: str | None = None
    text_field: str = "text"
    split: Split | None = None
    """What one document of plain text (.txt) is; by default the lines between blank lines."""
    tokens: Count | None = None
    share: Share | None = None
    max_epochs: Count = 1

    @model_validator(mode="after")
    def _one_source(self) -> CorpusEntry:
        if (self.language is None) == (self.parallel is None):
            given = "neither" if self.language is None else "both"
            raise ValueError(f"give either 'language' or, for pairs, 'parallel' ({given} are given)")
        if self.parallel and len(set(self.parallel.values())) == 1:
            raise ValueError("'parallel' names the same field for both languages; each has a field of its own")
        if self.parallel and self.text_field != "text":
            raise ValueError("'text_field' is of text in one language; 'parallel' names the fields; remove it")
        if (self.files is None) == (self.hub is None):
            given = "neither" if self.files is None else "both"
            raise ValueError(f"give either 'files' or 'hub' ({given} are given)")
        if self.subset is not None and self.hub is None:
            raise ValueError("'subset' is of a hub dataset; give 'hub' too, or remove it")
        if self.tokens is not None and self.share is not None:
            raise ValueError("give either 'tokens' (a budget) or 'share' (of all tokens)")
        _check_split(self.split, self.files or [])
        return self

    @property
    def languages(self) -> list[str]:
        """One, or the two of pairs."""
        return list(self.parallel) if self.parallel else [str(self.language)]

    @property
    def fields(self) -> list[str]:
        """The fields of a record that hold its text, in the order of `languages`."""
        return list(self.parallel.values()) if self.parallel else [self.text_field]

    @property
    def title(self) -> str:
        """The language, or both, as messages and records say it."""
        return BETWEEN.join(self.languages)


class Instructions(Section):
    """Conversations: records of one of the forms in `corpus.instruction_formats`."""

    language: LanguageCode
    files: FilePatterns


class Validation(Section):
    """The part of a learned language's documents that never trains."""

    share: Share = 0.05
    max_tokens: Count = 1_000_000
    blocks: Count | None = None
    """Blocks per language that each evaluation during training looks at; not said, as many as keep all of them within a
    tenth of the tokens that train, 2 to 64 (`training/schedule.py`). Of instructions, conversations."""
    selection_share: Share | None = None
    """The share of the text to measure that is the selection split, for early stopping and scale selection.

    By default a half, where a selection split is needed.
    """


class Evaluation(Section):
    """What is measured before and after: text, which never trains even where it stands in the corpus, and tasks."""

    text: ByLanguage = {}
    text_field: str = "text"
    split: Split | None = None
    """As of a corpus, of all of `text` that is plain."""
    tasks: dict[Name, ByLanguage] = {}
    """Files of questions with options, by task and language."""
    num_samples: Annotated[int, Field(ge=0)] = NUM_SAMPLES
    """Continuations per language that are shown side by side."""

    @model_validator(mode="after")
    def _split_is_of_plain_text(self) -> Evaluation:
        _check_split(self.split, [pattern for patterns in self.text.values() for pattern in patterns])
        return self


def _check_split(split: Split | None, patterns: list[str]) -> None:
    """In a ValueError, as pydantic takes it."""
    try:
        check_split(split, find_files(*patterns))
    except CorpusError as error:
        raise ValueError(str(error)) from None
