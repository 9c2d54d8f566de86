"""The JSON files of a run, as models: `results.json`, `lingraft.json`, `training.json`, and fertility files.

What writes a file builds its model, and what draws a file reads it into the same model. A key with a default may be
missing in a file, since files of `lingraft evaluate` and of runs of other kinds have fewer; only keys that were set
are written. Keys that are not known here are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lingraft.languages import Role

SCHEMA = 1
"""`schema` of the files that this version writes and reads."""
SMALLEST = 1e-9
"""What bits per byte and accuracies are at least, where they are not 0."""


class Record(BaseModel):
    """A mapping in a file."""

    model_config = ConfigDict(strict=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The keys that were set, as JSON has them."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class Counts(Record):
    """A number before and after; `before` where a base was measured."""

    before: int = 0
    after: int = 0


class Pair(Record):
    """A number before and after; `before` where a base was measured."""

    before: float = 0
    after: float = 0


def _divisible(value: float) -> float:
    if 0 < abs(value) < SMALLEST:
        raise ValueError(f"should be 0 or at least {SMALLEST:g}")
    return value


Divisor = Annotated[float, AfterValidator(_divisible)]
"""A number to divide by: 0, or not too close to 0."""


class Change(Record):
    """A number of the model, and its change where a base was measured too."""

    before: Divisor = 0
    after: Divisor
    delta: float = 0
    """after - before."""
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """95 % interval of `delta`, by a paired bootstrap; of one document or question there is none."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if "before" in self.model_fields_set and "delta" not in self.model_fields_set:
            raise ValueError("'before' without 'delta'")
        return self


class LanguageResult(Record):
    """Text of one language under the model."""

    role: Role
    bytes: float
    """UTF-8 bytes of the text."""
    tokens: Counts = Counts()
    """Tokens that were scored, of each model's own tokenizer."""
    bits_per_byte: Change
    perplexity: Pair = Pair()
    """Per token; comparable only where the tokenizers are the same."""


class TaskLanguage(Record):
    """Questions of one task in one language."""

    role: Role
    questions: int = 0
    chance: float
    """The accuracy of guessing."""
    accuracy: Change


class TaskResult(Record):
    """One task; learning and forgetting in points of accuracy."""

    metric: str = "accuracy"
    languages: dict[str, TaskLanguage] = {}
    learning: float = 0
    forgetting: float = 0


class Windows(Record):
    """How text was read: windows of `max_length` tokens that step by `stride`, with a BOS or without."""

    max_length: int
    stride: int
    bos: bool
    before: str | None = None
    """The token before each document."""
    plain: str | None = None
    """What `tokenizer(text)` puts before a text."""


class Sample(Record):
    """A prompt from the measured text, how the text goes on, and how the models do."""

    language: str
    prompt: str
    text: str = ""
    before: str = ""
    after: str = ""


class InstructResult(Record):
    """The result against the instruct model that the language was added to."""

    base: str
    languages: dict[str, LanguageResult]
    tasks: dict[str, TaskResult] = {}
    samples: list[Sample] = []
    learning: float = 0
    forgetting: float = 0


class ScaleCandidate(Record):
    """Scales of the layer groups, and what they learn and forget on the selection split."""

    scales: Annotated[dict[str, float], Field(min_length=1)]
    learning: float
    forgetting: float
    at_most: float
    """The 97.5 % quantile of forgetting, by a bootstrap over blocks."""


class Groups(Record):
    """The first and last layers, as counts."""

    first: int
    last: int


class SelectedScales(Record):
    """What `max_forgetting` found; every candidate has a scale for the same layer groups."""

    limit: float
    layers: Groups
    chosen: ScaleCandidate
    points: list[ScaleCandidate]

    @model_validator(mode="after")
    def _same_groups(self) -> Self:
        if any(point.scales.keys() != self.chosen.scales.keys() for point in self.points):
            raise ValueError("'points' with factors of other layer groups than 'chosen'")
        return self


class Fertility(Record):
    """Fertility of a tokenizer in a language; `cost` where English was measured too."""

    words: int = 0
    """Counted at white space."""
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    byte_tokens: int = 0
    """Tokens that are single bytes of letters."""
    unknown: int = 0
    tokens_per_word: float
    bytes_per_token: float
    byte_share: float
    """The share of byte-fallback tokens: a single byte of a multi-byte character."""
    unknown_share: float
    cost: float | None = None
    """Tokens per character, relative to English."""


class FertilityChange(Record):
    """The tokenizer of the base, and the run's own where its vocabulary grew; each by language."""

    before: dict[str, Fertility] = {}
    after: dict[str, Fertility] | None = None


class StageMeasured(Record):
    """The model after a stage: bits per byte of each language, learning and forgetting from the base on."""

    name: str
    languages: dict[str, Divisor]
    learning: float | None = None
    forgetting: float | None = None


class Match(Record):
    """A document that shares text with measured text: its place, the kind of overlap, and the passage."""

    place: str
    kind: str
    source: str
    passage: str


class Overlap(Record):
    """Overlap of a corpus entry: documents that share text with measured text, which did not train."""

    stage: str = ""
    language: str
    documents: int
    left_out: int
    kinds: dict[str, int] = {}
    sources: dict[str, int] = {}
    first: Match | None = None


class Results(Record):
    """`results.json`."""

    schema_: int = Field(SCHEMA, alias="schema")
    base: str | None = None
    """The name of the base; None where a model was measured alone."""
    model: str = ""
    measured: Windows
    languages: dict[str, LanguageResult]
    tasks: dict[str, TaskResult] | None = None
    samples: list[Sample] | None = None
    learning: float = 0
    """mean over learned languages of 1 - after / before, of bits per byte."""
    forgetting: float = 0
    """mean over retained languages of after / before - 1, of bits per byte."""
    fertility: FertilityChange | None = None
    overlap: list[Overlap] | None = None
    stages: list[StageMeasured] | None = None
    instruct: InstructResult | None = None
    max_forgetting: SelectedScales | None = None


class MethodSettings(Record):
    """The name of a method, and whatever its settings are."""

    model_config = ConfigDict(strict=True, extra="allow")

    name: str = ""


class LayerParameters(Record):
    """A part of the model, from the embeddings up to the head: its parameters, and those that trained."""

    part: str
    group: str
    weights: int
    in_full: int
    in_adapters: int


class ParameterCounts(Record):
    """Parameters by layer group."""

    base: dict[str, int]
    trained: dict[str, int]


class CorpusRecord(Record):
    """What trained of one entry of a corpus, or of instructions."""

    language: str
    documents: int
    tokens: int
    share: float
    kept_out: int
    fingerprint: Any = None
    left_out: dict[str, int] = {}


class ExportRecord(Record):
    """The form and dtype of the exported model, and its difference from the trained model."""

    dtype: str
    form: str = "plain"
    merge_difference: float | None = None
    logits_difference: float | None = None
    bits_per_byte_unrounded: dict[str, float] = {}


class Trained(Record):
    """What trained, how, and on what."""

    method: MethodSettings = MethodSettings()
    penalties: dict[str, dict[str, Any]] = {}
    replay: dict[str, Any] = {}
    early_stopping: dict[str, Any] = {}
    merge_steps: list[dict[str, Any]] = []
    weights: ParameterCounts = ParameterCounts(base={}, trained={})
    stack: list[LayerParameters] | None = None
    trainable: list[str] = []
    corpus: list[CorpusRecord] = []
    tokens: int = 0
    self_generated: dict[str, Any] = {}
    steps: int | None = None


class StageTrained(Trained):
    """A stage by its name."""

    name: str


class VocabularyRecord(Record):
    """New tokens: how many, what their rows began as, the first id, and what tokenizer and model have in all."""

    new_tokens: int
    init: str = ""
    max_bytes: int = 0
    first: int | None = None
    tokens: int | None = None
    rows: int | None = None
    fingerprint: str = ""


class ModelReference(Record):
    """A model by its name and content."""

    name: str
    fingerprint: str


class Origin(Trained):
    """`lingraft.json`; in a run of several stages, `stages` holds these keys per stage."""

    versions: dict[str, str] = {}
    plan: str = ""
    base: ModelReference | None = None
    """The model to subtract from this one for a task vector."""
    trained_from: ModelReference | None = None
    """After an `instruct` merge step: the base that was trained."""
    vocabulary: VocabularyRecord | None = None
    stages: list[StageTrained] = []
    export: ExportRecord = ExportRecord(dtype="")


class TrainingLog(Record):
    """The log of one training."""

    steps: int | None = None
    best_step: int | None = None
    seconds: float | None = None
    trainable: list[str] = []
    stack: list[LayerParameters] = []
    merge_difference: float | None = None
    gates: dict[str, Annotated[list[float], Field(min_length=1)]] = {}
    log: list[dict[str, float]] | None = None


class StageLog(TrainingLog):
    """The log of a stage by its name."""

    name: str
    kind: str = ""


class Training(TrainingLog):
    """`training.json`."""

    stages: list[StageLog] = []


class Fertilities(Record):
    """What `lingraft tokenizer fertility --out` writes: by model, then by language."""

    schema_: int = Field(SCHEMA, alias="schema")
    models: Annotated[dict[str, dict[str, Fertility]], Field(min_length=1)]


def problem(form: type[Record], value: Mapping[str, Any]) -> str | None:
    """The first place where a value is not of a form, with what is wrong there."""
    try:
        form.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None
