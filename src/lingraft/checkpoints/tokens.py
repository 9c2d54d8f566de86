"""The tokens of a model, and which of them need a row in the embeddings: all that encoding a text can give.

Encoding never gives a special token for text that spells one: that is encoded as text (`corpus.tokenize.encode`).
So a tokenizer may have special tokens without a row, as in Gemma 3 1B (262,145 tokens, 262,144 rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoints.read import num_rows, read_tokenizer, reading
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_FAST = "tokenizer.json"
_LEGACY = "added_tokens.json"
_WRITTEN = ("bos_token", "eos_token", "unk_token")
"""Special tokens that encoding adds or falls back to."""

TokenIds = Mapping[str, int]


@dataclass(frozen=True)
class Tokens:
    """The vocabulary of a tokenizer."""

    ids: TokenIds
    """Token -> id, added tokens too."""
    special: frozenset[str]
    """Tokens that encoding a text never gives."""

    def rowless(self, rows: int) -> Sequence[str]:
        """Tokens whose id is not below `rows`, sorted by id."""
        return sorted((token for token, id_ in self.ids.items() if id_ >= rows), key=lambda token: self.ids[token])

    def check(self, name: str | Path, rows: int) -> None:
        """Refuse a tokenizer that turns text into ids without a row.

        Raises:
            ModelError: names how many there are, and the first.
        """
        ordinary = [token for token in self.rowless(rows) if token not in self.special]
        if ordinary:
            raise ModelError(
                f"{name}: its tokenizer has ids up to {max(self.ids.values()):,}, its embeddings have {rows:,} rows: "
                f"{len(ordinary):,} tokens that text becomes have none, the first is {ordinary[0]!r} "
                f"({self.ids[ordinary[0]]:,}); tokenizer and weights belong to different models, fetch both again"
            )


def read_tokens(folder: Path) -> Tokens:
    """The tokens of a folder; from `tokenizer.json` where that is complete, without importing transformers.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    if not (folder / _FAST).is_file() or (folder / _LEGACY).is_file():
        return tokens_of(read_tokenizer(folder))
    from tokenizers import Tokenizer

    with reading(f"{folder / _FAST}: the tokenizer cannot be read"):
        return _tokens_of_fast(Tokenizer.from_file(str(folder / _FAST)))


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The tokens of a loaded tokenizer; BOS, EOS and UNK do not count as special, since encoding may give them."""
    written = {str(getattr(tokenizer, name)) for name in _WRITTEN if getattr(tokenizer, name, None) is not None}
    if tokenizer.is_fast:
        backend: Any = tokenizer.backend_tokenizer
        tokens = _tokens_of_fast(backend)
    else:
        added = tokenizer.added_tokens_decoder.values()
        tokens = Tokens(tokenizer.get_vocab(), frozenset(str(token) for token in added if token.special))
    return Tokens(tokens.ids, tokens.special - written)


def check_tokens(folder: Path) -> None:
    """Refuse a model whose tokenizer turns text into ids without a row; the config gives the number of rows.

    Raises:
        ModelError: as `Tokens.check`, or the tokenizer cannot be read.
    """
    tokens_of(read_tokenizer(folder)).check(folder, num_rows(folder))


def _tokens_of_fast(tokenizer: Tokenizer) -> Tokens:
    added = tokenizer.get_added_tokens_decoder().values()
    own = tokenizer.get_vocab(with_added_tokens=False)
    # Merges may give a special token that is in the vocabulary too.
    special = frozenset(token.content for token in added if token.special and token.content not in own)
    return Tokens(tokenizer.get_vocab(with_added_tokens=True), special)
