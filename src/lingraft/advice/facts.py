"""What can be measured before a run: the base, its tokenizer on each language, the amount of text, alignment."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from lingraft.corpus.formats import text_bytes
from lingraft.corpus.read import DroppedText, find_files, read_documents
from lingraft.diagnosis.alignment import alignment_of
from lingraft.diagnosis.base import Settings
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.chat_turns import why_no_chat
from lingraft.evaluation.measure import document_tokenizer, measuring_device, model_to_measure
from lingraft.languages import parse_language
from lingraft.layer_groups import depth, text_config
from lingraft.vocabulary.fertility import Fertility, fertility
from lingraft.vocabulary.model import read_backend

logger = logging.getLogger(__name__)

SAMPLE_BYTES = 5_000_000
"""Of each language that are read: the first of its files."""
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
    is_instruct: bool
    learn: Mapping[str, TextFacts | None]
    """Learned language -> its text; None where none was given."""
    retain: Mapping[str, TextFacts | None]
    english: Fertility | None
    """Of the text given for English, else of `ENGLISH`; None without a tokenizer."""
    pairs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Two languages -> alignment by layer."""
    proposed: Mapping[str, int] | None = None
    """Layer groups that alignment proposes."""

    @property
    def depth(self) -> int | None:
        return depth(self.config) if self.config else None

    @property
    def script(self) -> str:
        """The script of the first learned language."""
        return parse_language(next(iter(self.learn))).script

    def lines(self) -> Iterator[str]:
        """The facts as text."""
        name = public_name(self.base)
        if self.config is None:
            yield f"{name}: could not be looked up from here"
        else:
            size = f", {self.parameters / 1e6:,.1f} M parameters" if self.parameters else ""
            kind = "an instruct model" if self.is_instruct else "no chat template"
            yield f"{name}: {text_config(self.config).model_type}, {self.depth} layers{size}, {kind}"
        for role, texts in (("learn", self.learn), ("retain", self.retain)):
            for code, text in texts.items():
                yield f"{code} ({role}): {self._of_text(text)}"
        for title, scores in self.pairs.items():
            layer = max(range(len(scores)), key=lambda i: scores[i])
            yield f"{title}: at most {scores[layer]:.0%} of sentence pairs are aligned, after layer {layer}"

    def _of_text(self, text: TextFacts | None) -> str:
        if text is None:
            return "no text was given"
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
    learn: Mapping[str, Sequence[str]],
    retain: Mapping[str, Sequence[str]],
    pairs: Mapping[str, str] | None = None,
    text_field: str = "text",
) -> Facts:
    """Measure what can be measured from here: texts are files or patterns by language, none where they are empty."""
    folder = _folder(base) if config is not None else None
    tokenizer = read_backend(folder) if folder else None
    parameters = sum(weight.numel() for weight in empty_model(config).parameters()) if config else None
    samples = {
        code: _sample(find_files(*files), text_field)
        for code, files in {**learn, **retain}.items()
        if files and tokenizer
    }
    bits = _bits(folder, parameters, {code: documents for code, (documents, _) in samples.items()}) if folder else {}
    found: dict[str, TextFacts] = {}
    for code, (documents, size) in samples.items():
        assert tokenizer is not None
        counts = fertility(tokenizer, documents)
        found[code] = TextFacts(size, counts, _split_words(tokenizer, documents, size / counts.bytes), bits.get(code))
    english = found["eng_Latn"].counts if "eng_Latn" in found else None
    scores, proposed = _alignment(base, pairs) if pairs else ({}, None)
    return Facts(
        base,
        config,
        parameters,
        folder is not None and why_no_chat(read_tokenizer(folder)) is None,
        {code: found.get(code) for code in learn},
        {code: found.get(code) for code in retain},
        english or (fertility(tokenizer, [ENGLISH]) if tokenizer else None),
        scores,
        proposed,
    )


def _folder(base: str) -> Path:
    return find_model(base, (*TOKENIZER_ONLY, "*.jinja"))


def _sample(files: Sequence[Path], text_field: str) -> tuple[list[str], int]:
    """The first documents of files, and the bytes of all."""
    documents, size = list[str](), 0
    for text in read_documents(files, text_field, DroppedText()):
        documents.append(text)
        size += len(text.encode())
        if size >= SAMPLE_BYTES:
            return documents, max(size, sum(text_bytes(path) for path in files))
    return documents, size


def _split_words(tokenizer: Tokenizer, documents: Sequence[str], scale: float) -> int:
    """Words that become several tokens, and that `scale` times these documents have `SEEN` times."""
    words = Counter(word for text in documents for word in text.split() if word.isalpha())
    often = [f" {word}" for word, count in words.items() if count * scale >= SEEN]
    encoded = tokenizer.encode_batch(often, add_special_tokens=False)
    return sum(len(encoding.ids) > 1 for encoding in encoded)


def _bits(folder: Path, parameters: int | None, samples: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Bits per byte of the base on some documents; none where its weights are not here, or too many for here."""
    has_weights = any(folder.glob(WEIGHTS))
    if not samples or not has_weights or (measuring_device() == "cpu" and (parameters or 0) > LARGEST_ON_CPU):
        return {}
    texts = {
        code: [text[:MEASURED_CHARACTERS] for text in documents[:MEASURED_DOCUMENTS]]
        for code, documents in samples.items()
    }
    model, marks = model_to_measure(folder), document_marks(folder)
    length = min(MEASURED_LENGTH, context_length(read_config(folder)))
    measured = BitsPerByte(texts).measure(model, document_tokenizer(folder, marks), length)
    return {code: of.bits_per_byte for code, of in measured.items()}


def _alignment(base: str, pairs: Mapping[str, str]) -> tuple[dict[str, list[float]], dict[str, int] | None]:
    (found,) = alignment_of(find_model(base), Settings(pairs=pairs))["models"].values()
    return found["scores"], found["proposed"]
