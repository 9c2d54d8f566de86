"""Text that the base writes itself, to be replayed in training (arXiv 2605.26097)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from lingraft.artefacts import read_json, stage_fingerprint, write_json
from lingraft.checkpoints.read import model_fingerprint, read_tokenizer
from lingraft.corpus.pack import SCHEMA
from lingraft.corpus.read import write_texts
from lingraft.corpus.tokenize import bos_ids
from lingraft.errors import ModelError
from lingraft.evaluation.measure import measuring_device, model_to_measure
from lingraft.recipe import Recipe
from lingraft.stages import one_after_another
from lingraft.token_loss import best_tokens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SELF_WRITTEN = "self-written"
"""Stands for a language where tokens are told apart by theirs."""

PART = 256
"""Blocks in an artefact; a killed run writes the part again that it was at."""

TAUGHT_SCHEMA = SCHEMA.append(pa.field("teacher_tokens", pa.list_(pa.int32()))).append(
    pa.field("teacher_log_probs", pa.list_(pa.float16()))
)


def write_replay(recipe: Recipe, base: Path, blocks: Path, work: Path) -> list[Path]:
    """Folders with `blocks.arrow`, sampled from the base, and `text.jsonl`, to be read; none without replay.

    Raises:
        ModelError: the base's tokenizer has no token to begin with.
    """
    if recipe.replay is None:
        return []
    share = recipe.written_share
    count = max(1, round(_tokens_of_text(blocks) * share / (1 - share) / recipe.length))
    writer = _Writer(recipe, base, count)
    sizes = [min(PART, count - first) for first in range(0, count, PART)]
    return [writer.part(work / SELF_WRITTEN / f"part-{i}", i, size) for i, size in enumerate(sizes)]


def written_share(blocks: Path, written: Sequence[Path]) -> float:
    """The share of all tokens that train which the base wrote, as it came out."""
    tokens = _tokens(written)
    return tokens / (tokens + _tokens_of_text(blocks))


def written_record(blocks: Path, written: Sequence[Path]) -> dict[str, Any] | None:
    """What `lingraft.json` says of it: tokens, their share, and what stands for the parts."""
    if not written:
        return None
    marks = [stage_fingerprint(part) for part in written]
    return {"tokens": _tokens(written), "share": written_share(blocks, written), "fingerprints": marks}


def _tokens(written: Sequence[Path]) -> int:
    return sum(int(read_json(part / "written.json")["tokens"]) for part in written)


def _tokens_of_text(blocks: Path) -> int:
    return sum(entry["tokens"] for entry in read_json(blocks / "mix.json")["entries"])


class _Writer:
    """The base, loaded when the first part is to be written."""

    def __init__(self, recipe: Recipe, base: Path, count: int) -> None:
        assert recipe.replay is not None
        self.recipe, self.base, self.replay, self.left = recipe, base, recipe.replay, count
        self.mark = model_fingerprint(base)
        self.written, self.started = 0, time.monotonic()
        self._model: PreTrainedModel | None = None

    def part(self, path: Path, number: int, size: int) -> Path:
        inputs = {
            "base": self.mark,
            "blocks": size,
            "max_length": self.recipe.length,
            "replay": self.replay.model_dump(include={"loss", "top_k", "batch"}),
            "seed": [self.recipe.seed, number],
            "device": measuring_device(),
        }

        def make(folder: Path) -> None:
            tokenizer = read_tokenizer(self.base)
            rows = []
            schema = TAUGHT_SCHEMA if self.replay.loss == "kl" else SCHEMA
            with (
                torch.random.fork_rng(),
                pa.OSFile(str(folder / "blocks.arrow"), "wb") as file,
                pa.ipc.new_stream(file, schema) as table,
            ):
                torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, number]).generate_state(1)[0]))
                for first in range(0, size, self.replay.batch):
                    ids = sample(self.model, tokenizer, min(self.replay.batch, size - first), self.recipe.length)
                    rows += ids.tolist()
                    table.write_batch(self._batch(ids, schema))
                    self._say(len(ids))
            write_texts(folder / "text.jsonl", tokenizer.batch_decode(rows, skip_special_tokens=True))
            write_json(folder / "written.json", {"blocks": size, "tokens": size * self.recipe.length})

        left = self.left
        one_after_another(path, inputs, make)
        self.left = left - size  # also where the part was kept
        return path

    @property
    def model(self) -> PreTrainedModel:
        if self._model is None:
            self._model = model_to_measure(self.base).eval()
        return self._model

    def _batch(self, ids: Tensor, schema: pa.Schema) -> pa.RecordBatch:
        """(B, T) blocks as rows of the table; for kl with the base's distribution at each token but the last."""
        languages = np.full(ids.shape[1], len(self.recipe.languages.roles), dtype=np.int8)
        columns = [list(ids.cpu().numpy().astype(np.int32)), [languages] * len(ids)]
        if self.replay.loss == "kl":
            assert self.replay.top_k is not None
            tokens, log_probs = _distribution(self.model, ids, self.replay.top_k)
            columns += [list(tokens.numpy().astype(np.int32)), list(log_probs.numpy().astype(np.float16))]
        return pa.record_batch(columns, schema=schema)

    def _say(self, blocks: int) -> None:
        self.written += blocks
        self.left -= blocks
        seconds = (time.monotonic() - self.started) / self.written * self.left
        shown = f", {seconds / 60:.0f} min left" if seconds >= 90 else ""
        logger.info("the base has written %d blocks, %d are left%s", self.written, self.left, shown)


@torch.inference_mode()
def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, length: int) -> Tensor:
    """(count, length) tokens drawn from the model at temperature 1, each row from BOS on, past the ends of documents.

    Where a tokenizer has no BOS, EOS stands at the beginning: in training, it is what the next document follows.

    Raises:
        ModelError: it has neither.
    """
    from transformers import GenerationConfig

    start = bos_ids(tokenizer) or ([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])
    if not start:
        raise ModelError(
            "replay.self: the base's tokenizer has neither BOS nor EOS, so there is no token to write from"
        )
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length - 1, pad_token_id=start[0]
    )
    model.generation_config = GenerationConfig()  # what the model's own says of temperature and EOS is not ours
    given = torch.full((count, 1), start[0], device=model.device)
    written: Tensor = model.generate(given, attention_mask=torch.ones_like(given), generation_config=settings)  # type: ignore[operator]
    return written


@torch.inference_mode()
def _distribution(model: PreTrainedModel, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The likeliest next tokens after each but the last, and their ln p: (B, (T - 1) * count) each."""
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
    count = min(count, model.config.get_text_config().vocab_size)
    best = best_tokens(model, hidden.flatten(0, 1), count)
    tokens, log_probs = (of.cpu().view(len(ids), -1) for of in best)
    return tokens, log_probs
