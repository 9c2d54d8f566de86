"""The tokens before and after a document: those of the model's pretraining, not those of a turn in a chat.

An instruct tokenizer's BOS and EOS often mark a turn: `<|im_start|>` and `<|im_end|>`, `<|eot_id|>`. A document that
trains between them is one more turn, and unlearns where answers end. So a mark that the chat template writes around
messages is replaced with the mark of the pretraining, where the vocabulary has one.

- SmolLM2 (`<|endoftext|>` is both), its Instruct, Qwen 2.5 and its Instruct (both without a BOS of pretraining):
  `<|endoftext|>` before each document
- Llama 3 Instruct: `<|begin_of_text|>` before, `<|end_of_text|>` after
- Gemma 3 it: `<bos>` before, `<eos>` after; Mistral: `<s>` before, `</s>` after
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.checkpoints.chat_template import ids_in, rendered
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.read import TOKENIZER_ONLY, read_tokenizer
from lingraft.errors import ModelError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_GENERATION = "generation_config.json"

ENDS_OF_TEXT = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "<EOS_TOKEN>",
)
"""Tokens that end a document in the pretraining of published models, for tokenizers whose EOS marks a turn."""

MARKS_ONLY = (*TOKENIZER_ONLY, "*.jinja", _GENERATION)
"""Patterns of the files that the marks are decided from."""


@dataclass(frozen=True)
class DocumentMarks:
    """The token before a document and the token after it; `None` for no token.

    A model with one token alone has it between documents: it is the token before each.
    """

    bos: str | None
    eos: str | None

    def __str__(self) -> str:
        before = f"{self.bos} before each" if self.bos else "nothing before"
        return f"{before}, {self.eos} after it" if self.eos else f"{before}, nothing after it"


def document_marks(folder: Path) -> DocumentMarks:
    """Decide on the marks of a model's pretraining, from its tokenizer, chat template and generation config.

    - BOS is the tokenizer's, unless the template writes it more than once for a question and its answer.
    - EOS is the tokenizer's, unless the template writes it after an answer: then it is a token of `ENDS_OF_TEXT` in the
      vocabulary, at first one at which generation stops; if there is none, it stays.
    - Without a BOS, or where both are the same token, that token stands between documents.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    tokenizer = read_tokenizer(folder)
    try:
        before, answered = rendered(tokenizer)
    except ModelError as error:
        logger.warning("%s; documents have the BOS and EOS of the tokenizer", error)
        before, answered = "", ""
    bos, eos = _text(tokenizer.bos_token), _text(tokenizer.eos_token)
    if bos and (before + answered).count(bos) > 1:
        bos = None
    if eos and eos in answered and eos not in ENDS_OF_TEXT:
        eos = _end_of_text(tokenizer, folder, eos)
    return DocumentMarks(eos, None) if bos in (None, eos) else DocumentMarks(bos, eos)


def marks_like(marks: DocumentMarks, folder: Path) -> DocumentMarks:
    """The same marks for another model, or its own where its tokenizer does not have them.

    Raises:
        ModelError: its tokenizer cannot be read.
    """
    vocabulary = read_tokenizer(folder).get_vocab()
    has_both = all(token is None or token in vocabulary for token in (marks.bos, marks.eos))
    return marks if has_both else document_marks(folder)


def check_marks(tokenizer: PreTrainedTokenizerBase, marks: DocumentMarks) -> None:
    """Refuse a mark that is no token of the tokenizer.

    Raises:
        ModelError: names the mark and the nearest special token.
    """
    vocabulary = tokenizer.get_vocab()
    for name, token in (("bos", marks.bos), ("eos", marks.eos)):
        if token is not None and token not in vocabulary:
            special = sorted({str(token) for token in tokenizer.added_tokens_decoder.values()})
            raise ModelError(
                f"document.{name}: {token!r} is no token of the base{nearest(token, special)}; give one of its tokens, "
                "or null for none"
            )


def plain_marks(tokenizer: PreTrainedTokenizerBase) -> DocumentMarks:
    """What `tokenizer(text)` puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    before, after = whole[:at], whole[at + len(bare) :]
    return DocumentMarks(*("".join(tokenizer.convert_ids_to_tokens(ids)) or None for ids in (before, after)))


def _end_of_text(tokenizer: PreTrainedTokenizerBase, folder: Path, eos: str) -> str:
    vocabulary = tokenizer.get_vocab()
    known = [token for token in ENDS_OF_TEXT if token in vocabulary and token != eos]
    stops = _stops(folder)
    return min(known, key=lambda token: vocabulary[token] not in stops, default=eos)


def _stops(folder: Path) -> list[int]:
    """Ids of the tokens at which generation stops, by the generation config."""
    path = folder / _GENERATION
    return ids_in(read_object(path).get("eos_token_id")) if path.is_file() else []


def _text(token: object) -> str | None:
    return None if token is None else str(token)
