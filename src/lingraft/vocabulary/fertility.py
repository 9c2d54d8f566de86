"""Fertility of a tokenizer: tokens per word of a language, and the share of byte-fallback tokens."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokenizers import Tokenizer

from lingraft.corpus.text_parts import batches, text_parts
from lingraft.errors import CorpusError
from lingraft.vocabulary.bpe import single_bytes

logger = logging.getLogger(__name__)

ENGLISH = "eng_Latn"
MANY_BYTES, HIGH_COST, MANY_UNKNOWN = 0.1, 2.0, 0.01
"""Limits from which a language is over-segmented: a tenth of its tokens are bytes, or twice the cost of English."""
_DOCUMENTS = 256


@dataclass(frozen=True)
class Fertility:
    """Counts over the texts of a language."""

    words: int
    """Parts between white space; few and long in scripts without spaces."""
    characters: int
    bytes: int
    tokens: int
    byte_tokens: int
    """Byte-fallback tokens: a single byte of a multi-byte character."""
    unknown: int
    """Unknown tokens, for text that the tokenizer cannot encode."""

    @property
    def tokens_per_word(self) -> float:
        return self.tokens / self.words

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens

    @property
    def byte_share(self) -> float:
        """Share of byte-fallback tokens."""
        return self.byte_tokens / self.tokens

    @property
    def unknown_share(self) -> float:
        return self.unknown / self.tokens

    def cost(self, english: Fertility) -> float:
        """Tokens per character, relative to English."""
        return (self.tokens / self.characters) / (english.tokens / english.characters)

    def record(self, english: Fertility | None) -> dict[str, Any]:
        """Counts and ratios; `cost` only where there is English to compare with."""
        names = ("tokens_per_word", "bytes_per_token", "byte_share", "unknown_share")
        ratios = {name: getattr(self, name) for name in names}
        return {**asdict(self), **ratios, **({"cost": self.cost(english)} if english else {})}


def fertility(tokenizer: Tokenizer, texts: Iterable[str]) -> Fertility:
    """Count words, characters, bytes and tokens of texts, without special tokens.

    Raises:
        CorpusError: the texts give no token.
    """
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.encode_special_tokens = True  # text that looks like one is text, as in training
    tokenizer.no_truncation()
    tokenizer.no_padding()
    single, unknown_token = single_bytes(tokenizer), _unknown(tokenizer)
    words = characters = num_bytes = tokens = byte_tokens = unknown = 0
    for some in batches((part for text in texts for part in text_parts(text)), len, _DOCUMENTS):
        for text, encoding in zip(some, tokenizer.encode_batch(some, add_special_tokens=False), strict=True):
            words += len(text.split())
            characters += len(text)
            num_bytes += len(text.encode())
            tokens += len(encoding.ids)
            byte_tokens += sum(token in single for token in encoding.ids)
            unknown += sum(token == unknown_token for token in encoding.ids)
    if not tokens:
        raise CorpusError("the tokenizer drops all of this text: there is no token in it")
    return Fertility(words, characters, num_bytes, tokens, byte_tokens, unknown)


def warn_of_over_segmentation(model: str, code: str, counts: Fertility, languages: Mapping[str, Fertility]) -> None:
    """Warn where a tokenizer over-segments a language, as for Urdu on Llama 3.1 (arXiv 2509.11414 §4.1)."""
    signs, english = [], languages.get(ENGLISH)
    if counts.unknown_share >= MANY_UNKNOWN:
        logger.warning(
            "%s cannot encode %s: %.0f %% of its tokens are unknown", model, code, 100 * counts.unknown_share
        )
    if counts.byte_share >= MANY_BYTES:
        signs.append(f"{counts.byte_share:.0%} of its tokens are byte-fallback tokens")
    if english and counts.cost(english) >= HIGH_COST:
        signs.append(f"a character costs {counts.cost(english):.1f} times what it costs in English")
    if signs:
        logger.warning(
            "%s over-segments %s: %s; 'lingraft tokenizer extend' adds tokens for it", model, code, " and ".join(signs)
        )


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The id of the unknown token."""
    model = json.loads(tokenizer.to_str())["model"]
    of_unigram: int | None = model.get("unk_id")
    return of_unigram if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
