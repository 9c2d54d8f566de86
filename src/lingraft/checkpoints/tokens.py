"""The tokens of a model, and which of them text can become: those need a row in the embeddings.

A special token is never found in text: it is text there, cut like any other (`corpus.tokenize.encode`). So a
tokenizer may have special tokens beyond the rows, as that of Gemma 3 1B has (262,145 tokens, 262,144 rows).
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
"""Special tokens that a text does become: its marks, and what stands for the rest."""

TokenIds = Mapping[str, int]


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer knows."""

    ids: TokenIds
    """Token -> id, added tokens too."""
    special: frozenset[str]
    """Those that no text becomes."""

    def rowless(self, rows: int) -> Sequence[str]:
        """Tokens beyond so many rows, by id."""
        return sorted((token for token, id_ in self.ids.items() if id_ >= rows), key=lambda token: self.ids[token])

    def check(self, name: str | Path, rows: int) -> None:
        """Refuse a tokenizer that turns text into ids without a row.

        Raises:
            ModelError: how many there are, and which is the first.
        """
        ordinary = [token for token in self.rowless(rows) if token not in self.special]
        if ordinary:
            raise ModelError(
                f"{name}: its tokenizer has ids up to {max(self.ids.values()):,}, its embeddings have {rows:,} rows: "
                f"{len(ordinary):,} tokens that text becomes have none, the first is {ordinary[0]!r} "
                f"({self.ids[ordinary[0]]:,}); tokenizer and weights belong to different models, fetch both again"
            )


def read_tokens(folder: Path) -> Tokens:
    """The tokens of a folder; of `tokenizer.json` alone where that says all, without importing transformers.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    if not (folder / _FAST).is_file() or (folder / _LEGACY).is_file():
        return tokens_of(read_tokenizer(folder))
    from tokenizers import Tokenizer

    with reading(f"{folder / _FAST}: the tokenizer cannot be read"):
        return _tokens_of_fast(Tokenizer.from_file(str(folder / _FAST)))


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """As `read_tokens`; the marks that a text gets are no special tokens here."""
    written = {str(getattr(tokenizer, name)) for name in _WRITTEN if getattr(tokenizer, name, None) is not None}
    if tokenizer.is_fast:
        backend: Any = tokenizer.backend_tokenizer
        tokens = _tokens_of_fast(backend)
    else:
        added = tokenizer.added_tokens_decoder.values()
        tokens = Tokens(tokenizer.get_vocab(), frozenset(str(token) for token in added if token.special))
    return Tokens(tokens.ids, tokens.special - written)


def check_tokens(folder: Path) -> None:
    """Refuse a model whose tokenizer turns text into ids without a row, by what its config says of the rows.

    Raises:
        ModelError: as `Tokens.check`, or the tokenizer cannot be read.
    """
    tokens_of(read_tokenizer(folder)).check(folder, num_rows(folder))


def _tokens_of_fast(tokenizer: Tokenizer) -> Tokens:
    added = tokenizer.get_added_tokens_decoder().values()
    own = tokenizer.get_vocab(with_added_tokens=False)
    # One that the model has too may come out of its merges.
    special = frozenset(token.content for token in added if token.special and token.content not in own)
    return Tokens(tokenizer.get_vocab(with_added_tokens=True), special)
