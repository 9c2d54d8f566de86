"""Steps that sample text from the base, which is replayed in training (arXiv 2605.26097)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.checkpoints.read import read_tokenizer
from lingraft.corpus.pack import SCHEMA
from lingraft.corpus.read import write_texts
from lingraft.corpus.sample import sample
from lingraft.corpus.tokenize import open_table
from lingraft.evaluation.chat import sample_conversations
from lingraft.evaluation.measure import document_tokenizer, measuring_device, model_to_measure
from lingraft.nn.chunked_cross_entropy import top_k_log_probs
from lingraft.nn.generate import drawn_by
from lingraft.pipeline.chat import GeneratedChat
from lingraft.pipeline.decontaminate import overlap_record
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.text import TrainingData
from lingraft.pipeline.values import ChatFiles, Model
from lingraft.recipe import Recipe
from lingraft.recipe.stage import ReplaySource
from lingraft.schema import MUCH_OVERLAP

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

SELF_GENERATED = "self-generated"
"""Stands for a language where tokens are told apart by theirs."""

PART = 256
"""Blocks in an artefact; a killed run generates the part again that it was at."""

DISTILLED = SCHEMA.append(pa.field("teacher_tokens", pa.list_(pa.int32()))).append(
    pa.field("teacher_log_probs", pa.list_(pa.float16()))
)


class GeneratedText(Artefact):
    """A part of the text that the base generated: `blocks.arrow`; `text.jsonl`, to be read."""

    @property
    def blocks(self) -> Dataset:
        return open_table(self.folder / "blocks.arrow")

    @property
    def tokens(self) -> int:
        return int(read_json(self.folder / "self_generated.json")["tokens"])


class _Progress:
    """A log line for each batch of blocks."""

    def __init__(self, count: int) -> None:
        self.left, self.done, self.started = count, 0, time.monotonic()

    def add(self, blocks: int) -> None:
        self.done += blocks
        self.left -= blocks
        seconds = (time.monotonic() - self.started) / self.done * self.left
        shown = f", {seconds / 60:.0f} min left" if seconds >= 90 else ""
        logger.info("the base has generated %d blocks, %d are left%s", self.done, self.left, shown)


def generate_replay(
    recipe: Recipe, name: str, base: Model, data: TrainingData, chat: GeneratedChat | None, work: Path
) -> list[GeneratedText]:
    """Sample text from the base until it is `replay.self_generated` of all tokens; return nothing without replay.

    Questions of `chat`, which are measured, are not replayed.

    Raises:
        ModelError: the base has no token to begin with, or writes no conversations.
    """
    replay, max_length = recipe.stages[name].replay, recipe.length
    if replay is None:
        return []
    share, language = replay.self_generated, len(recipe.languages.trained)
    count = max(1, round(data.tokens_of_text * share / (1 - share) / max_length))
    progress, parts = _Progress(count), []
    for number, (source, size) in enumerate(_parts(count, replay.sources)):
        left = progress.left
        parts.append(
            generate_part(
                work / SELF_GENERATED / f"part-{number}",
                *(base, recipe.marks, source, size, max_length, language, replay.loss, replay.top_k, replay.batch_size),
                seed=[recipe.seed, number],
                measured=chat if source == "chat" else None,
                chat_files=ChatFiles(base.folder) if source == "chat" else None,
                device=measuring_device(),
                progress=progress,
            )
        )
        progress.left = left - size  # also where the part was kept
    _loaded.cache_clear()
    return parts


def _parts(count: int, sources: Mapping[ReplaySource, float]) -> Iterator[tuple[ReplaySource, int]]:
    """Yield the source and the number of blocks of each part; the last source has what rounding leaves."""
    left = count
    for source, share in sources.items():
        of_source = left if source == list(sources)[-1] else min(left, round(count * share))
        left -= of_source
        yield from ((source, min(PART, of_source - first)) for first in range(0, of_source, PART))


class GeneratedOverlap(Artefact):
    """The documents of self-generated text that share text with what is measured."""

    @property
    def record(self) -> dict[str, Any]:
        """As in `schema.Overlap`."""
        record: dict[str, Any] = read_json(self.folder / "overlap.json")
        return record


def generated_overlap(
    work: Path, generated: Sequence[GeneratedText], base: Model, split: Split
) -> GeneratedOverlap | None:
    """Find the documents of self-generated text that share text with what is measured; None without such text."""
    return find_overlap(work / f"{SELF_GENERATED}-overlap", list(generated), base, split) if generated else None


@step(GeneratedOverlap)
def find_overlap(folder: Path, parts: Sequence[GeneratedText], base: Model, split: Split) -> None:
    """`overlap.json`; such documents train, since a base generates by heart what stands in many texts."""
    tokenizer = read_tokenizer(base.folder)
    places, texts = list[str](), list[str]()
    for number, part in enumerate(parts):
        for row, ids in enumerate(part.blocks["input_ids"]):
            pieces = _between_marks(ids, set(tokenizer.all_special_ids))
            texts += tokenizer.batch_decode(pieces)
            places += [f"{SELF_GENERATED}, part {number}, block {row}"] * len(pieces)
    matches = list(split.index.matches([text] for text in texts))
    found = [match for match in matches if match]
    first = next((place for place, match in zip(places, matches, strict=True) if match), "")
    record = overlap_record(found, len(texts), first)
    if len(found) > MUCH_OVERLAP * len(texts):
        logger.warning(
            "%s: %d of %d documents share a passage with what is measured, and train; first: '%s', as in %s",
            *(SELF_GENERATED, len(found), len(texts), found[0].passage, found[0].source),
        )
    write_json(folder / "overlap.json", {**record, "left_out": 0, "trained": len(found)})


def _between_marks(ids: Sequence[int], marks: set[int]) -> list[list[int]]:
    """The documents or turns of a block, which special tokens part."""
    groups = groupby(ids, key=lambda token: token in marks)
    return [list(tokens) for is_mark, tokens in groups if not is_mark]


def generated_share(data: TrainingData, generated: Sequence[GeneratedText]) -> float:
    """Return the actual share of self-generated tokens among all that train."""
    tokens = sum(part.tokens for part in generated)
    return tokens / (tokens + data.tokens_of_text)


def generated_record(data: TrainingData, generated: Sequence[GeneratedText]) -> dict[str, Any] | None:
    """Record the tokens, their share and the fingerprints of the parts."""
    if not generated:
        return None
    fingerprints = [part.fingerprint for part in generated]
    tokens = sum(part.tokens for part in generated)
    return {"tokens": tokens, "share": generated_share(data, generated), "fingerprints": fingerprints}


@step(GeneratedText, unkeyed=("progress",))
def generate_part(
    folder: Path,
    base: Model,
    marks: DocumentMarks,
    source: ReplaySource,
    blocks: int,
    max_length: int,
    language: int,
    loss: Literal["kl", "ce"],
    top_k: int | None,
    batch: int,
    seed: Sequence[int],
    measured: GeneratedChat | None,
    chat_files: ChatFiles | None,
    device: str,
    progress: _Progress,
) -> None:
    """Sample blocks of documents or of conversations from the base at temperature 1, all of this language number.

    With `loss` kl, each token but the last has the base's `top_k` likeliest next tokens beside it.
    """
    tokenizer, model = document_tokenizer(base.folder, marks), _loaded(base.folder)
    if source == "document":
        sample_blocks = partial(sample, model, tokenizer)
    else:
        without = [exchange.question for exchange in measured.exchanges] if measured else []
        sample_blocks = partial(sample_conversations, model, tokenizer.tokenizer, without=without)
    rows: list[list[int]] = []
    schema = DISTILLED if loss == "kl" else SCHEMA
    with (
        drawn_by(seed),
        pa.OSFile(str(folder / "blocks.arrow"), "wb") as file,
        pa.ipc.new_stream(file, schema) as table,
    ):
        for first in range(0, blocks, batch):
            ids = sample_blocks(min(batch, blocks - first), max_length)
            rows += ids.tolist()
            languages = np.full(ids.shape[1], language, dtype=np.int8)
            columns: list[Any] = [list(ids.cpu().numpy().astype(np.int32)), [languages] * len(ids)]
            if loss == "kl":
                assert top_k is not None
                tokens, log_probs = _distribution(model, ids, top_k)
                columns += [list(tokens.numpy().astype(np.int32)), list(log_probs.numpy().astype(np.float16))]
            table.write_batch(pa.record_batch(columns, schema=schema))
            progress.add(len(ids))
    write_texts(folder / "text.jsonl", tokenizer.tokenizer.batch_decode(rows, skip_special_tokens=True))
    write_json(folder / "self_generated.json", {"blocks": blocks, "tokens": blocks * max_length})


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> PreTrainedModel:
    """Load the base for the first part; later parts share it."""
    model = model_to_measure(folder)
    model.eval()
    return model


@torch.inference_mode()
def _distribution(model: PreTrainedModel, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the most likely next tokens and their ln p: (B, (T - 1) * count) each."""
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
    count = min(count, model.config.get_text_config().vocab_size)
    best = top_k_log_probs(model, hidden.flatten(0, 1), count)
    tokens, log_probs = (tensor.cpu().view(len(ids), -1) for tensor in best)
    return tokens, log_probs
