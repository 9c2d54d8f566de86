"""What a `results.json`, and the files beside it, must hold for a page to be drawn of them.

A key may be missing where it has a default here. Keys that the page does not show are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

SMALLEST = 1e-9
"""What bits per byte and accuracies are at least, where they are not 0."""


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


class _Pair(_Form):
    before: float = 0
    after: float = 0


def _divisible(value: float) -> float:
    if 0 < abs(value) < SMALLEST:
        raise ValueError(f"should be 0 or at least {SMALLEST:g}")
    return value


_Divisor = Annotated[float, AfterValidator(_divisible)]
"""A number in percent of which others are said."""


class _Measured(_Form):
    """A number after training, and its change where a base was measured too."""

    after: _Divisor
    before: _Divisor = 0
    delta: float = 0
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Of one document alone there is none."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if "before" in self.model_fields_set and "delta" not in self.model_fields_set:
            raise ValueError("'before' without 'delta'")
        return self


class _InRole(_Form):
    role: Literal["learn", "retain", "observe"]


class _Language(_InRole):
    bytes: float
    bits_per_byte: _Measured
    perplexity: _Pair = _Pair()


class _OfTask(_InRole):
    chance: float
    accuracy: _Measured


class _Task(_Form):
    languages: dict[str, _OfTask] = {}
    learning: float = 0
    forgetting: float = 0


class _Windows(_Form):
    max_length: int
    stride: int
    bos: bool


class _Sample(_Form):
    language: str
    prompt: str
    text: str = ""
    before: str = ""
    after: str = ""


class _Compared(_Form):
    base: str
    languages: dict[str, _Language]


class _Point(_Form):
    scales: Annotated[dict[str, float], Field(min_length=1)]
    learning: float
    forgetting: float
    at_most: float


class _Groups(_Form):
    first: int
    last: int


class _Limit(_Form):
    """What `max_forgetting` looked at; every point has a factor for the same layer groups."""

    limit: float
    layers: _Groups
    chosen: _Point
    points: list[_Point]

    @model_validator(mode="after")
    def _same_groups(self) -> Self:
        if any(point.scales.keys() != self.chosen.scales.keys() for point in self.points):
            raise ValueError("'points' with factors of other layer groups than 'chosen'")
        return self


class _Fertility(_Form):
    """What a tokenizer makes of a language; `cost` where there is English to compare with."""

    tokens_per_word: float
    bytes_per_token: float
    byte_share: float
    unknown_share: float
    cost: float | None = None


class _Grown(_Form):
    """The tokenizer of the base, and the run's own where its vocabulary grew; each by language."""

    before: dict[str, _Fertility] = {}
    after: dict[str, _Fertility] | None = None


class _StageResult(_Form):
    """The model after one of several stages: bits per byte of each language."""

    name: str
    languages: dict[str, _Divisor]
    learning: float | None = None
    forgetting: float | None = None


class _Match(_Form):
    """A document that shares text with what is measured: where it stands, how it does, and the passage."""

    place: str
    kind: str
    source: str
    passage: str


class _Overlap(_Form):
    """Of a corpus entry: how many documents share text with what is measured, and so did not train."""

    stage: str = ""
    language: str
    documents: int
    left_out: int
    kinds: dict[str, int] = {}
    sources: dict[str, int] = {}
    first: _Match | None = None


class Results(_Form):
    """`results.json`."""

    base: str | None = None
    model: str = ""
    measured: _Windows
    languages: dict[str, _Language]
    tasks: dict[str, _Task] | None = None
    samples: list[_Sample] | None = None
    instruct: _Compared | None = None
    max_forgetting: _Limit | None = None
    fertility: _Grown | None = None
    stages: list[_StageResult] | None = None
    overlap: list[_Overlap] | None = None
    learning: float = 0
    forgetting: float = 0


class _Method(_Form):
    name: str = ""


class _Part(_Form):
    part: str
    group: str
    weights: int
    in_full: int
    in_adapters: int


class _Weights(_Form):
    base: dict[str, int]
    trained: dict[str, int]


class _Corpus(_Form):
    language: str
    documents: int
    tokens: int
    share: float
    kept_out: int


class _Export(_Form):
    dtype: str
    form: str = "plain"
    merge_difference: float | None = None
    bits_per_byte_unrounded: dict[str, float] = {}


class _Trained(_Form):
    """What trained, how, and on what."""

    method: _Method = _Method()
    penalties: dict[str, dict[str, Any]] = {}
    replay: dict[str, Any] = {}
    early_stopping: dict[str, Any] = {}
    merge: list[dict[str, Any]] = []
    weights: _Weights = _Weights(base={}, trained={})
    stack: list[_Part] | None = None
    corpus: list[_Corpus] = []
    tokens: int = 0
    steps: int | None = None


class _StageTrained(_Trained):
    name: str


class _Vocabulary(_Form):
    """New words: how many, what their rows began as, the first id, and what tokenizer and model have in all."""

    new_tokens: int
    init: str = ""
    first: int | None = None
    tokens: int | None = None
    rows: int | None = None


class Origin(_Trained):
    """`lingraft.json`; a run of several stages says of each what a run of one says of itself."""

    stages: list[_StageTrained] = []
    vocabulary: _Vocabulary | None = None
    export: _Export = _Export(dtype="")
    versions: dict[str, str] = {}
    plan: str = ""


class _Log(_Form):
    """What was said while it trained."""

    steps: int | None = None
    best_step: int | None = None
    seconds: float | None = None
    gates: dict[str, Annotated[list[float], Field(min_length=1)]] = {}
    log: list[dict[str, float]] | None = None


class _StageLog(_Log):
    name: str
    kind: str = ""


class Training(_Log):
    """`training.json`."""

    stages: list[_StageLog] = []


class Fertilities(_Form):
    """What `lingraft tokenizer fertility --out` writes: by model, then by language."""

    models: Annotated[dict[str, dict[str, _Fertility]], Field(min_length=1)]


def problem(form: type[Results | Origin | Training | Fertilities], value: Mapping[str, Any]) -> str | None:
    """The first place where a value is not of a form, with what is wrong there."""
    try:
        form.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None
