"""A byte-pair tokenizer that can be extended: its pre-tokens, its encoding, and the bytes of its tokens.

Two families are in use. Byte-level tokenizers (GPT-2, Llama 3, Qwen) map every byte to a letter and merge letters.
SentencePiece tokenizers (Llama 2, Gemma) merge characters, with `▁` for a space, and encode an unknown character as
byte-fallback tokens, `<0xD8>`, which are never merged. Both can encode any text, but for control characters and bytes
that no text has: some tokenizers lack them (SmolLM2), and pre-tokens with them teach no new token.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Split

from lingraft.errors import ModelError
from lingraft.vocabulary.bpe_training import Pair, Word

SPACE = "▁"
_LETTERS = r"\p{L}\p{M}\p{Cf}"
_RUNS = Split(
    Regex(rf"{SPACE}*[{_LETTERS}]+|{SPACE}*\p{{N}}|{SPACE}*[^{_LETTERS}\p{{N}}{SPACE}]+|{SPACE}+"), "isolated"
)
"""Splits as SentencePiece does: before spaces, between letters and other signs, each digit alone."""
_NAMED_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def _byte_letters() -> dict[str, int]:
    """Letter -> byte, as in GPT-2: a printable byte is its own letter."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_LETTERS = _byte_letters()
FALLBACK = {f"<0x{byte:02X}>": byte for byte in range(256)}
RARE_BYTES = frozenset(
    [byte for byte in range(0x20) if byte not in b"\t\n\r"] + [0x7F, 0xC0, 0xC1, 0xF1, 0xF2] + [*range(0xF4, 0x100)]
)
"""Bytes of control characters, of planes of Unicode that have no assigned character, and of no character at all."""


class BPE:
    """A tokenizer and its parts.

    Raises:
        ModelError: it is no byte-pair encoding, or cannot encode every text; says why it cannot be extended.
    """

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self.tokenizer = tokenizer
        self.spec: dict[str, Any] = json.loads(tokenizer.to_str())
        self.byte_level = is_byte_level(self.spec)
        _check(self.spec, self.byte_level, name)
        self._missing = _missing_bytes(self.spec, self.byte_level)

    @cached_property
    def strings(self) -> list[str]:
        """The token of each id; "" where an id has none."""
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        strings = [""] * (max(ids.values()) + 1)
        for string, token in ids.items():
            strings[token] = string
        return strings

    @cached_property
    def _merges_alone(self) -> Tokenizer:
        alone: dict[str, Any] = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "added_tokens": []}
        model = self.spec["model"] | {"dropout": None}
        return Tokenizer.from_str(json.dumps(self.spec | alone | {"truncation": None, "padding": None, "model": model}))

    def cut(self, words: Iterable[str]) -> list[Word]:
        """The token ids of each pre-token, as `words` gives them."""
        return [encoding.ids for encoding in self._merges_alone.encode_batch(list(words), add_special_tokens=False)]

    def words(self, texts: Iterable[str]) -> Counter[str]:
        """The pre-tokens of texts, in the letters of the model, with their counts.

        Added tokens are matched before a text is split, so no pre-token contains one.
        """
        normalizer, splitter = self.tokenizer.normalizer, self.tokenizer.pre_tokenizer
        counts: Counter[str] = Counter()
        for text in texts:
            normal = normalizer.normalize_str(text) if normalizer else text
            for part in self._between_added(normal):
                pieces = [piece for piece, _ in splitter.pre_tokenize_str(part)] if splitter else [part]
                if not self.byte_level:
                    pieces = [run for piece in pieces for run, _ in _RUNS.pre_tokenize_str(piece)]
                if self._missing:  # whose bytes the tokenizer drops
                    pieces = [piece for piece in pieces if self._missing.isdisjoint(self.bytes_of(piece))]
                counts.update(pieces)
        return counts

    def _between_added(self, text: str) -> list[str]:
        return [part for part in self._added.split(text) if part] if self._added else [text]

    @cached_property
    def _added(self) -> re.Pattern[str] | None:
        """Matches added tokens that are not special; text that spells a special token is text, also in training."""
        words = [re.escape(added["content"]) for added in self.spec["added_tokens"] if not added["special"]]
        return re.compile("|".join(sorted(words, key=len, reverse=True))) if words else None

    def bytes_of(self, string: str) -> bytes:
        """The bytes of a token, or of a pre-token."""
        if self.byte_level:
            return bytes(BYTE_LETTERS[letter] for letter in string)
        return bytes([FALLBACK[string]]) if string in FALLBACK else string.replace(SPACE, " ").encode()

    def surface(self, string: str) -> str:
        """The text of a token; an incomplete character is U+FFFD, a special token its own name."""
        special = self.byte_level and any(letter not in BYTE_LETTERS for letter in string)
        return string if special else self.bytes_of(string).decode(errors="replace")

    def may_be_token(self, string: str) -> bool:
        """Whether a string may be a new token: whole characters, or the first bytes of one character."""
        if not self.byte_level:
            return not _NAMED_BYTE.search(string)
        return is_whole(self.bytes_of(string)) or begins_character(self.bytes_of(string))

    def extended(self, strings: Sequence[str], merges: Sequence[Pair]) -> BPE:
        """Append tokens and merges; the ids of old tokens stay."""
        all_strings = [*self.strings, *strings]
        # Added tokens that the model does not know take the ids after its own, which would now be others.
        added = {added["content"]: added["id"] for added in self.spec["added_tokens"]}
        new = {string: len(self.strings) + i for i, string in enumerate(strings)}
        model = self.spec["model"] | {
            "vocab": self.spec["model"]["vocab"] | added | new,
            "merges": self.spec["model"]["merges"] + [[all_strings[one], all_strings[two]] for one, two in merges],
        }
        return BPE(Tokenizer.from_str(json.dumps(self.spec | {"model": model})), "the extended tokenizer")


def single_bytes(tokenizer: Tokenizer) -> set[int]:
    """Ids of the tokens that are one byte of a multi-byte character, for any tokenizer."""
    bytes_of = BYTE_LETTERS if is_byte_level(json.loads(tokenizer.to_str())) else FALLBACK
    return {token for string, token in tokenizer.get_vocab().items() if bytes_of.get(string, 0) >= 0x80}


def is_whole(raw: bytes) -> bool:
    """Whether bytes are whole characters."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def begins_character(raw: bytes) -> bool:
    """Whether bytes are the beginning of one character."""
    return raw[0] >= 0xC0 and all(0x80 <= byte < 0xC0 for byte in raw[1:])


def is_byte_level(spec: Mapping[str, Any]) -> bool:
    """Whether a tokenizer, given as the content of its file, maps bytes to letters."""
    return "ByteLevel" in set(_kinds(spec.get("pre_tokenizer")))


def _kinds(part: Mapping[str, Any] | None) -> Iterator[str]:
    """The types of a pre-tokenizer and of its parts."""
    if part:
        yield part["type"]
        for inner in part.get("pretokenizers", []):
            yield from _kinds(inner)


def _missing_bytes(spec: Mapping[str, Any], byte_level: bool) -> frozenset[int]:
    """Bytes for which a tokenizer has no token."""
    vocabulary = spec["model"]["vocab"]
    letters = BYTE_LETTERS if byte_level else FALLBACK
    return frozenset(byte for letter, byte in letters.items() if letter not in vocabulary)


def _check(spec: Mapping[str, Any], byte_level: bool, name: str) -> None:
    model = spec["model"]
    if model["type"] == "Unigram":
        raise ModelError(
            f"{name}: its tokenizer is a Unigram model, which cuts each word by the scores of all its pieces: a new "
            "piece would change how old text is cut, and its score could only be guessed; only byte-pair encodings "
            "(BPE) can be continued"
        )
    if model["type"] != "BPE":
        raise ModelError(
            f"{name}: its tokenizer is a {model['type']} model; only byte-pair encodings (BPE) can be continued"
        )
    if not byte_level and not model.get("byte_fallback"):
        raise ModelError(
            f"{name}: its tokenizer neither encodes bytes nor falls back to them, so it cannot encode every text; "
            "byte-level encodings (GPT-2, Llama 3, Qwen) and SentencePiece's with byte fallback (Llama 2, Gemma) "
            "can be continued"
        )
    missing = _missing_bytes(spec, byte_level)
    if missing - RARE_BYTES:
        raise ModelError(
            f"{name}: its tokenizer lacks {len(missing)} of the 256 bytes, so it drops text that it does not know; "
            "new tokens would be learned from what is left"
        )
    marks = [key for key in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    if marks:
        raise ModelError(f"{name}: its tokenizer marks words with '{model[marks[0]]}' ({marks[0]}); not supported")
    alone = [added["content"] for added in spec["added_tokens"] if added["single_word"]]
    if alone:
        raise ModelError(
            f"{name}: its added token '{alone[0]}' stands for whole words only (single_word), which it would not "
            "after the vocabulary grew; not supported"
        )
