"""What can be measured before a run: the base, its tokenizer on each language, the amount of text, alignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex
from tokenizers import Tokenizer

from lingraft.checkpoints.document_marks import document_marks
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import (
    TOKENIZER_ONLY,
    WEIGHTS,
    context_length,
    empty_model,
    find_model,
    read_config,
    read_tokenizer,
)
from lingraft.corpus.sources import Source
from lingraft.diagnosis.alignment import alignment_of
from lingraft.diagnosis.base import Settings
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.chat_turns import why_no_chat
from lingraft.evaluation.measure import document_tokenizer, measuring_device, model_to_measure
from lingraft.layer_groups import depth, text_config
from lingraft.vocabulary.fertility import Fertility, fertility
from lingraft.vocabulary.model import read_backend

_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*")
TextPart = tuple[Source, int]
"""A source of text, and which of the texts of its rows is of the language."""
MEASURED_DOCUMENTS, MEASURED_CHARACTERS, MEASURED_LENGTH = 8, 2000, 512
"""Of each language on which the base's bits per byte are measured, and the window in tokens."""
LARGEST_ON_CPU = 1_000_000_000
"""Parameters of a base that is still run on a CPU to be advised about."""
SEEN = 100
"""Times that a word is seen at least for a token of its own to be learned: gains flatten past 100 snippets
(arXiv 2505.20133)."""

ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood. Everyone is entitled to all the rights and freedoms "
    "set forth in this Declaration, without distinction of any kind, such as race, colour, sex, language, religion, "
    "political or other opinion, national or social origin, property, birth or other status."
)
"""Beside which the tokenizer's cost is told where no English text is given: the Universal Declaration of Human
Rights, Articles 1 and 2."""


@dataclass(frozen=True)
class TextFacts:
    """A language's text, as the base sees it."""

    bytes: int
    """Of all files; estimated where the sample does not reach the end."""
    counts: Fertility
    """Of the sample."""
    split_words: int
    """Words that the tokenizer splits and that all of the text has `SEEN` times, about."""
    bits_per_byte: float | None = None
    """Of the base; None where it cannot be run here."""

    @property
    def tokens(self) -> int:
        return round(self.bytes / self.counts.bytes_per_token)


@dataclass(frozen=True)
class Facts:
    """All that rules may know."""

    base: str
    config: Any = field(repr=False)
    """None where the base cannot be looked up."""
    parameters: int | None
    no_chat: str | None
    """Why the base cannot chat; None where it can, or cannot be looked up."""
    learn: Mapping[str, TextFacts | str]
    """Learned language -> its text, or why nothing is known of it."""
    retain: Mapping[str, TextFacts | str]
    english: Fertility | None
    """Of the text given for English, else of `ENGLISH`; None without a tokenizer."""
    pairs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Two languages -> alignment by layer."""
    proposed: tuple[int, int] | None = None
    """First and last layers that alignment proposes."""
    why_no_pairs: str = ""
    """Why pairs that were given are not aligned."""

    @property
    def is_instruct(self) -> bool:
        return self.config is not None and self.no_chat is None

    @property
    def texts(self) -> dict[str, TextFacts]:
        """Learned languages whose text is known."""
        return {code: text for code, text in self.learn.items() if isinstance(text, TextFacts)}

    @property
    def depth(self) -> int | None:
        return depth(self.config) if self.config else None

    def lines(self) -> Iterator[str]:
        """The facts as text."""
        name = public_name(self.base)
        if self.config is None:
            yield f"{name}: could not be looked up from here"
        else:
            size = f", {self.parameters / 1e6:,.1f} M parameters" if self.parameters else ""
            kind = "an instruct model" if self.is_instruct else f"no chat ({self.no_chat})"
            yield f"{name}: {text_config(self.config).model_type}, {self.depth} layers{size}, {kind}"
        for role, texts in (("learn", self.learn), ("retain", self.retain)):
            for code, text in texts.items():
                yield f"{code} ({role}): {self._of_text(text)}"
        for title, scores in self.pairs.items():
            layer = max(range(len(scores)), key=lambda i: scores[i])
            where = f"after {layer} layers" if layer else "in the embeddings"
            yield f"{title}: at most {scores[layer]:.0%} of sentence pairs are aligned, {where}"
        if self.why_no_pairs:
            yield f"sentence pairs: {self.why_no_pairs}"

    def _of_text(self, text: TextFacts | str) -> str:
        if isinstance(text, str):
            return text
        counts = text.counts
        parts = [f"{text.bytes / 1e6:,.1f} MB, about {text.tokens:,} tokens"]
        parts.append(f"{counts.tokens_per_word:.2f} tokens a word, {counts.bytes_per_token:.2f} bytes a token")
        if self.english:
            parts.append(f"a character costs {counts.cost(self.english):.1f} times what it costs in English")
        parts.append(f"{counts.byte_share:.0%} byte-fallback tokens")
        if counts.unknown_share:
            parts.append(f"{counts.unknown_share:.1%} unknown tokens")
        if text.bits_per_byte is not None:
            parts.append(f"the base has {text.bits_per_byte:.2f} bits per byte of it")
        return "; ".join(parts)


def gather(
    base: str,
    config: Any,
    learn: Mapping[str, Sequence[TextPart]],
    retain: Mapping[str, Sequence[TextPart]],
    pairs: Mapping[str, str] | None = None,
) -> Facts:
    """Measure what can be measured from here; `config` is None where the base cannot be looked up."""
    folder = find_model(base, (*TOKENIZER_ONLY, "*.jinja")) if config is not None else None
    tokenizer = read_backend(folder) if folder else None
    parameters = sum(weight.numel() for weight in empty_model(config).parameters()) if config else None
    samples, unread = dict[str, tuple[list[str], int]](), dict[str, str]()
    for code, parts in {**learn, **retain}.items():
        sample = _sample(parts)
        if isinstance(sample, str):
            unread[code] = sample
        elif tokenizer is None:
            unread[code] = "its tokens are not known without the base"
        else:
            samples[code] = sample
    runs_here = folder is not None and _runs_here(folder, parameters)
    bits = _bits(folder, {code: of for code, (of, _) in samples.items()}) if folder and runs_here and samples else {}
    found: dict[str, TextFacts | str] = dict(unread)
    for code, (documents, size) in samples.items():
        assert tokenizer is not None
        counts = fertility(tokenizer, documents)
        found[code] = TextFacts(size, counts, split_words(tokenizer, documents, size / counts.bytes), bits.get(code))
    of_english = found.get("eng_Latn")
    english = of_english.counts if isinstance(of_english, TextFacts) else None
    scores, proposed = _alignment(base, pairs) if pairs and runs_here else ({}, None)
    return Facts(
        base,
        config,
        parameters,
        None if folder is None else why_no_chat(read_tokenizer(folder)),
        {code: found[code] for code in learn},
        {code: found[code] for code in retain},
        english or (fertility(tokenizer, [ENGLISH]) if tokenizer else None),
        scores,
        proposed,
        "the base cannot be run here" if pairs and not runs_here else "",
    )


def _sample(parts: Sequence[TextPart]) -> tuple[list[str], int] | str:
    """The first documents of each part, and the bytes of all; or why there are none."""
    if not parts:
        return "no text was given"
    documents, size = list[str](), 0.0
    for source, column in parts:
        samples = source.samples()
        if samples is None:
            return f"its text ({source.noun}) would have to be downloaded first"
        for sample in samples:
            texts = [row[column] for row in sample.texts]
            documents += texts
            size += sample.scale * sum(len(text.encode()) for text in texts)
    return documents, round(size)


def split_words(tokenizer: Tokenizer, documents: Sequence[str], scale: float) -> int:
    """Words that become several tokens within a text, and that `scale` times these documents have `SEEN` times."""
    words = Counter(word for text in documents for word in _WORD.findall(text))
    often = [word for word, count in words.items() if count * scale >= SEEN]
    once, twice = (
        tokenizer.encode_batch(texts, add_special_tokens=False) for texts in (often, [f"{w} {w}" for w in often])
    )
    return sum(len(two.ids) - len(one.ids) > 1 for one, two in zip(once, twice, strict=True))


def _runs_here(folder: Path, parameters: int | None) -> bool:
    """Whether the base's weights are here, and few enough for this machine."""
    is_small = measuring_device() != "cpu" or (parameters or 0) <= LARGEST_ON_CPU
    return is_small and any(folder.glob(WEIGHTS))


def _bits(folder: Path, samples: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Bits per byte of the base on some documents."""
    texts = {
        code: [text[:MEASURED_CHARACTERS] for text in documents[:MEASURED_DOCUMENTS]]
        for code, documents in samples.items()
    }
    model, marks = model_to_measure(folder), document_marks(folder)
    length = min(MEASURED_LENGTH, context_length(read_config(folder)))
    measured = BitsPerByte(texts).measure(model, document_tokenizer(folder, marks), length)
    return {code: of.bits_per_byte for code, of in measured.items()}


def _alignment(base: str, pairs: Mapping[str, str]) -> tuple[dict[str, list[float]], tuple[int, int] | None]:
    (found,) = alignment_of(find_model(base), Settings(pairs=pairs))["models"].values()
    proposed = found["proposed"]
    return found["scores"], (proposed["first"], proposed["last"]) if proposed else None
