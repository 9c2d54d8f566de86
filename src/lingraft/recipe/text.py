"""Languages, corpora, validation and evaluation in a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, create_model, model_validator

from lingraft.corpus.read import Split, check_split, find_files
from lingraft.corpus.sources import Source
from lingraft.corpus.sources.entry import entry_fields, select_source
from lingraft.corpus.sources.files import FilePatterns
from lingraft.errors import CorpusError
from lingraft.evaluation import NUM_CONVERSATIONS, NUM_SAMPLES, NUM_SEQUENCES
from lingraft.evaluation.questions import GivenTask
from lingraft.languages import BETWEEN, CHAT, Role
from lingraft.recipe.section import Section
from lingraft.recipe.types import BY_CODE, Count, LanguageCode, Name, RetainedName, Share

ByLanguage = Annotated[dict[str, FilePatterns], BY_CODE]


class Languages(Section):
    """Languages by role: learned, retained, or only observed."""

    learn: list[LanguageCode] = Field(min_length=1)
    retain: list[RetainedName] = []
    """`chat` stands for what an instruct base asks and answers itself (`evaluation.chat`)."""
    observe: list[LanguageCode] = []

    @property
    def retained(self) -> list[str]:
        """Retained languages, without `chat`."""
        return [code for code in self.retain if code != CHAT]

    @property
    def chat(self) -> bool:
        """Whether `chat` is retained."""
        return CHAT in self.retain

    @property
    def trained(self) -> list[str]:
        """Languages whose text may train."""
        return [*self.learn, *self.retained]

    @property
    def roles(self) -> dict[str, Role]:
        return {
            **dict.fromkeys(self.learn, "learn"),
            **dict.fromkeys(self.retained, "retain"),
            **dict.fromkeys(self.observe, "observe"),
        }


class _TextLanguages(Section):
    """The first keys of a corpus entry: its language, or those of its pairs."""

    language: LanguageCode | None = None
    parallel: Annotated[dict[str, Name], Field(min_length=2, max_length=2), BY_CODE] | None = None
    """Of pairs: two languages, and the field of a record that holds the text in each."""

    @property
    def languages(self) -> list[str]:
        """The language of the entry, or both languages of aligned pairs."""
        return list(self.parallel) if self.parallel else [str(self.language)]

    @property
    def title(self) -> str:
        """The languages as messages and records show them."""
        return BETWEEN.join(self.languages)


if TYPE_CHECKING:
    _SourceKeys = _TextLanguages
else:
    _SourceKeys = create_model("_SourceKeys", __base__=_TextLanguages, **entry_fields())


class CorpusEntry(_SourceKeys):
    """Text to train on: one of `SOURCES`, with a budget or a share of all tokens.

    The text is in one language, or aligned pairs in two: each pair is a document in both orders.
    """

    tokens: Count | None = None
    share: Share | None = None
    max_epochs: Count = 1
    license: Name | None = None
    """Of the text, for the model card: an SPDX name, or words."""

    @model_validator(mode="after")
    def _check(self) -> CorpusEntry:
        if (self.language is None) == (self.parallel is None):
            given = "neither" if self.language is None else "both"
            raise ValueError(f"give either 'language' or, for pairs, 'parallel' ({given} are given)")
        if self.parallel and len(set(self.parallel.values())) == 1:
            raise ValueError("'parallel' names the same field for both languages; each has a field of its own")
        if self.tokens is not None and self.share is not None:
            raise ValueError("give either 'tokens' (a budget) or 'share' (of all tokens)")
        with _as_value_error():
            self.source.check()
        return self

    @property
    def source(self) -> Source:
        """Where the text comes from. Each call gives a new one, which looks up its files once."""
        return select_source(dict(self), tuple((self.parallel or {}).values()))


class Instructions(Section):
    """Conversations: records of one of the forms in `corpus.instruction_formats`."""

    language: LanguageCode
    files: FilePatterns


class Validation(Section):
    """The share of a learned language's documents that is held out."""

    share: Share = 0.05
    max_tokens: Count = 1_000_000
    blocks: Count | None = None
    """Blocks per language that each evaluation during training looks at; not said, as many as keep all of them within a
    tenth of the tokens that train, 2 to 64 (`training/schedule.py`). Of instructions, conversations."""
    selection_share: Share | None = None
    """The share of the text to measure that is the selection split, for early stopping and scale selection.

    By default a half, where a selection split is needed.
    """


class Document(Section):
    """The tokens before and after each document of text, in training and in measuring.

    A token that is not named stands nowhere: `{}` is no token at all.
    """

    bos: str | None = None
    eos: str | None = None


class ParallelFiles(Section):
    """Files with sentences that say the same in two languages."""

    parallel: Annotated[dict[str, Name], Field(min_length=2, max_length=2), BY_CODE]
    """Both languages, and the field of a record that holds the sentence in each."""
    files: FilePatterns

    def learned(self, languages: Languages) -> str | None:
        """The learned language, whose alignment with the other one is measured; of two learned ones the second."""
        return next((code for code in reversed(self.parallel) if code in languages.learn), None)


class Evaluation(Section):
    """What is measured before and after. Measured text never trains, even if it is in the corpus."""

    text: ByLanguage = {}
    self_generated: LanguageCode | None = None
    """A language that is measured on text that the base generates, where there is none of it: the base's main one."""
    text_field: str = "text"
    split: Split | None = None
    """As of a corpus, of all of `text` that is plain."""
    tasks: dict[Name, GivenTask] = {}
    """Your own questions: by task, files by language, or these as `files` beside how they are asked."""
    suites: list[Name] = []
    """Suites of tasks of lm-evaluation-harness: ours by name, your own by path, or single tasks that end with their
    language, such as `xcopa_sw`."""
    datasets: Name | None = None
    """A folder with the data sets of the suites, by their names on the hub; not said, they come from the hub."""
    limit: Count | None = None
    """Questions of each task of a suite in each language: the first so many; not said, all."""
    pairs: list[ParallelFiles] = []
    """Sentences in two languages, whose alignment is measured."""
    num_samples: Annotated[int, Field(ge=0)] = NUM_SAMPLES
    """Continuations per language that are shown side by side."""
    num_sequences: Annotated[int, Field(ge=0)] = NUM_SEQUENCES
    """Sequences of words per language that stand twice in a text: in-context copying of the second."""
    num_conversations: Annotated[int, Field(ge=2)] = NUM_CONVERSATIONS
    """Of `chat`: conversations of the base, on which it is measured."""

    @property
    def given(self) -> list[str]:
        """Languages that are measured on text of their own, which is not held out of a corpus."""
        return [*self.text, *([self.self_generated] if self.self_generated else [])]

    @model_validator(mode="after")
    def _one_text(self) -> Evaluation:
        if self.self_generated in self.text:
            raise ValueError(f"'self_generated' names {self.self_generated}, of which there is 'text'; give either")
        return self

    @model_validator(mode="after")
    def _split_is_of_plain_text(self) -> Evaluation:
        with _as_value_error():
            check_split(self.split, find_files(*(pattern for patterns in self.text.values() for pattern in patterns)))
        return self


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise a `CorpusError` as a ValueError, which pydantic turns into a problem of the recipe."""
    try:
        yield
    except CorpusError as error:
        raise ValueError(str(error)) from None
