"""Bits per byte of documents under a language model.

    bits per byte = sum of -log2 p(token | context) / UTF-8 bytes of the text

A loss per token cannot be compared between tokenizers; the bytes of a text stay the same.

A document is `[BOS] + tokens`. It is scored in windows of `max_length` that step by half a
window: the first scores all its tokens, each later one the second half, with the first half as
context. So every token is scored once, with at least `max_length / 2` tokens before it from the
second window on.

Without a BOS the first token of a document has nothing before it and is not scored; its bytes count.

    learning   = mean over learned languages of  1 - after / before
    forgetting = mean over retained languages of  after / before - 1
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lingraft.cache import fingerprint
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import CorpusError
from lingraft.evaluation.paired_changes import learned_and_forgotten, mean_change
from lingraft.evaluation.suite import Progress, Roles, Suite
from lingraft.nn.chunked_cross_entropy import token_losses
from lingraft.schema import Change, Counts, LanguageResult, Pair

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

TOKENS_PER_BATCH = 8192


@dataclass(frozen=True)
class DocumentScores:
    """Scores of documents, one entry each, all of shape (documents,)."""

    nats: npt.NDArray[np.float64]
    num_bytes: npt.NDArray[np.int64]
    num_tokens: npt.NDArray[np.int64]  # scored tokens

    @property
    def bits_per_byte(self) -> float:
        return float(self.nats.sum() / math.log(2) / self.num_bytes.sum())

    @property
    def perplexity(self) -> float:
        """Perplexity per token; comparable only between models with the same vocabulary."""
        return float(np.exp(self.nats.sum() / self.num_tokens.sum()))


class Window(NamedTuple):
    """Tokens `start` to `end` of a document (with its BOS); those from `scored` on are scored here."""

    document: int
    start: int
    end: int
    scored: int


def windows(lengths: Sequence[int], max_length: int) -> list[Window]:
    """The windows over documents of `lengths` tokens, BOS counted."""
    stride = max_length // 2
    result = []
    for document, length in enumerate(lengths):
        start, scored = 0, 1
        while scored < length:
            end = min(start + max_length, length)
            result.append(Window(document, start, end, scored))
            scored = end
            start += stride
    return result


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    tokenizer: DocumentTokenizer,
    documents: Sequence[str],
    max_length: int,
    progress: Callable[[float], None] = lambda share: None,
) -> DocumentScores:
    """Score documents; logits are computed in chunks, however long a document is.

    `progress` is called with the finished share.
    """
    model.eval()
    ids = [tokenizer.bos_ids + row for row in tokenizer.encode(documents)]
    nats = np.zeros(len(documents))
    todo = sorted(windows([len(row) for row in ids], max_length), key=lambda w: w.start - w.end)
    batch_size = max(1, TOKENS_PER_BATCH // max_length)
    for first in range(0, len(todo), batch_size):
        batch = todo[first : first + batch_size]
        losses = sequence_nll(
            model, [ids[w.document][w.start : w.end] for w in batch], [w.scored - w.start for w in batch]
        )
        for window, loss in zip(batch, losses, strict=True):
            nats[window.document] += loss
        progress((first + len(batch)) / len(todo))
    return DocumentScores(
        nats=nats,
        num_bytes=np.array([len(text.encode()) for text in documents], dtype=np.int64),
        num_tokens=np.array([max(len(row) - 1, 0) for row in ids], dtype=np.int64),
    )


class Scored(NamedTuple):
    """Rows of tokens, and the position of each from which its tokens are scored."""

    rows: Sequence[Sequence[int]]
    starts: Sequence[int]

    @classmethod
    def whole(cls, rows: Sequence[Sequence[int]]) -> Scored:
        """Rows of which every token but the first is scored."""
        return cls(rows, [1] * len(rows))

    def nats(self, model: PreTrainedModel) -> list[float]:
        """-ln p of each row, in batches of about `TOKENS_PER_BATCH`."""
        size = max(1, TOKENS_PER_BATCH // max(map(len, self.rows)))
        parts = [slice(first, first + size) for first in range(0, len(self.rows), size)]
        return [nats for part in parts for nats in sequence_nll(model, self.rows[part], self.starts[part])]


def sequence_nll(model: PreTrainedModel, rows: Sequence[Sequence[int]], scored: Sequence[int]) -> list[float]:
    """Sum of -ln p over the tokens of each row from position `scored` on."""
    input_ids, hidden = hidden_states(model, rows)
    mask = torch.zeros(input_ids.shape, dtype=torch.bool)  # (B, T), tokens to score
    for i, row in enumerate(rows):
        mask[i, scored[i] : len(row)] = True
    mask = mask.to(model.device)
    predicts, targets = hidden[:, :-1][mask[:, 1:]], input_ids[:, 1:][mask[:, 1:]]  # (N, D), (N,)
    losses = token_losses(model, predicts, targets).cpu().double()
    return [float(part.sum()) for part in losses.split(mask.sum(1).tolist())]


def hidden_states(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of tokens (B, T), padded to the right, and what the decoder gives for them (B, T, D)."""
    input_ids = padded(rows).to(model.device)
    return input_ids, model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of tokens (B, T), padded to the right, where a causal decoder sees no padding and needs no mask."""
    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor(row)
    return input_ids


@dataclass(frozen=True)
class BitsPerByte(Suite[DocumentScores]):
    """The suite of bits per byte: documents by language."""

    texts: Mapping[str, Sequence[str]]
    name = "text"

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: fingerprint(list(documents)) for code, documents in self.texts.items()}

    def measure(
        self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int
    ) -> dict[str, DocumentScores]:
        measured = {}
        for code, documents in self.texts.items():
            measured[code] = score(model, tokenizer, documents, max_length, Progress(code))
            if not measured[code].num_tokens.any():
                raise CorpusError(f"{code}: no token of the text can be scored; give longer documents")
            logger.info("%s: %.4f bits per byte", code, measured[code].bits_per_byte)
        return measured

    def to_json(self, measured: Mapping[str, DocumentScores]) -> dict[str, Any]:
        return {
            code: {
                "nats": scores.nats.tolist(),
                "bytes": scores.num_bytes.tolist(),
                "tokens": scores.num_tokens.tolist(),
            }
            for code, scores in measured.items()
        }

    def from_json(self, stored: Any) -> dict[str, DocumentScores]:
        return {
            code: DocumentScores(
                np.array(scores["nats"], dtype=np.float64),
                np.array(scores["bytes"], dtype=np.int64),
                np.array(scores["tokens"], dtype=np.int64),
            )
            for code, scores in stored.items()
        }

    def compare(
        self, after: Mapping[str, DocumentScores], before: Mapping[str, DocumentScores] | None, roles: Roles
    ) -> dict[str, Any]:
        languages = {
            code: _result(code, scores, before[code] if before else None, roles) for code, scores in after.items()
        }
        return {"languages": languages, **(summarize(after, before, roles) if before else {})}


def bits_change(after: DocumentScores, before: DocumentScores | None) -> Change:
    """Bits per byte, and their change with its interval where the same documents were scored before."""
    if before is None:
        return Change(after=after.bits_per_byte)
    change = (after.nats - before.nats) / math.log(2)
    return mean_change(before.bits_per_byte, after.bits_per_byte, change, before.num_bytes)


def _result(code: str, after: DocumentScores, before: DocumentScores | None, roles: Roles) -> LanguageResult:
    role, num_bytes, tokens = roles.get(code, "observe"), int(after.num_bytes.sum()), int(after.num_tokens.sum())
    if before is None:
        return LanguageResult(
            role=role,
            bytes=num_bytes,
            tokens=Counts(after=tokens),
            bits_per_byte=bits_change(after, None),
            perplexity=Pair(after=after.perplexity),
        )
    return LanguageResult(
        role=role,
        bytes=num_bytes,
        tokens=Counts(before=int(before.num_tokens.sum()), after=tokens),
        bits_per_byte=bits_change(after, before),
        perplexity=Pair(before=before.perplexity, after=after.perplexity),
    )


def summarize(
    after: Mapping[str, DocumentScores], before: Mapping[str, DocumentScores], roles: Roles
) -> dict[str, float]:
    """Learning and forgetting, where languages have these roles."""
    gains = {code: 1 - scores.bits_per_byte / before[code].bits_per_byte for code, scores in after.items()}
    return learned_and_forgotten(gains, roles)
