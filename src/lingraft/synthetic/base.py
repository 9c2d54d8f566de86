"""The testbed's base: a small Llama, trained on the old languages and never on the new one.

It is trained once for a world and cached. Reading comprehension needs a copying circuit over two
layers, which has to form in minutes on two cores: hence Muon on the hidden matrices, embeddings
with a larger initial scale than usual, and zero-initialized projections into the residual stream.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lingraft.cache import cached, file_fingerprint, fingerprint, is_cached
from lingraft.corpus.read import read_texts
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.disk import locked
from lingraft.output_paths import folder_target
from lingraft.synthetic.files import OLD, training_file
from lingraft.synthetic.muon import Muon

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

SHAPE: dict[str, Any] = {
    "vocab_size": 800,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "max_position_embeddings": 128,
}
"""Config of a Llama with an untied head: 0.7 M parameters."""
SPECIAL_TOKENS = ("<bos>", "<eos>")


class Training(NamedTuple):
    """How the base is trained; rates are peak learning rates."""

    steps: int = 700
    batch: int = 8  # blocks of `max_position_embeddings` tokens
    muon_rate: float = 0.02
    embeddings_rate: float = 0.01
    head_rate: float = 0.005
    embeddings_scale: float = 0.25  # standard deviation at the start
    clip: float = 1.0  # norm of the gradients
    warmup: float = 0.02  # share of the steps
    decay: float = 0.5  # share of the steps, at the end


TRAINING = Training()


def trained_base(files: Path, cache: Path, seed: int) -> Path:
    """The folder of the base for a testbed's files, trained on first use.

    It lies in `cache`, under a name with the fingerprint of its inputs.

    Raises:
        OutputError: another process is training it.
    """
    inputs = {
        "text": [file_fingerprint(training_file(files, code)) for code in OLD],
        "shape": SHAPE,
        "training": TRAINING._asdict(),
        "seed": seed,
        "code": code_fingerprint(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    base = cache / f"testbed-{fingerprint(inputs)}"
    if is_cached(base, inputs):
        return base
    with locked(cache, "another process trains a testbed's base; wait for it, then start the same command again"):
        return cached(base, inputs, lambda folder: _make(files, folder, seed))


def code_fingerprint() -> str:
    """Fingerprint of the code that makes the testbed."""
    return fingerprint([file_fingerprint(path) for path in sorted(Path(__file__).parent.glob("*.py"))])


def cache_folder() -> Path:
    """The cache folder: `LINGRAFT_CACHE`, or a folder in the user's cache.

    Raises:
        OutputError: it cannot be written.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("LINGRAFT_CACHE") or Path(home) / "lingraft").expanduser()
    return folder_target(folder)


def _make(files: Path, folder: Path, seed: int) -> None:
    texts = [text for code in OLD for text in read_texts(training_file(files, code))]
    tokenizer = _train_tokenizer(texts)
    torch.manual_seed(seed)
    model = _new_model(tokenizer)
    _train(model, _blocks(tokenizer, texts, seed))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train byte-level BPE, as in Llama 3 and Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"],
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    bos, eos = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos)


def _new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **marks, tie_word_embeddings=False))
    nn.init.normal_(model.model.embed_tokens.weight, std=TRAINING.embeddings_scale)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
            nn.init.zeros_(parameter)
    return model


def _blocks(tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> Iterator[Tensor]:
    """Batches (B, T) of documents in a random order, packed end to end, repeated without end."""
    order = np.random.default_rng(seed).permutation(len(texts))
    documents = DocumentTokenizer(tokenizer, *SPECIAL_TOKENS)
    rows = documents.encode_documents([texts[i] for i in order])
    stream = torch.tensor([token for row in rows for token in row])
    length = SHAPE["max_position_embeddings"]
    blocks = stream[: len(stream) // length * length].view(-1, length)
    batches = blocks[: len(blocks) // TRAINING.batch * TRAINING.batch].split(TRAINING.batch)
    assert batches, "there is less text than one batch"
    return cycle(batches)


def _train(model: LlamaForCausalLM, batches: Iterator[Tensor]) -> None:
    """Train with linear warm-up, a constant rate, and linear decay to nearly zero."""
    steps, started = TRAINING.steps, time.monotonic()
    optimizers = _optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, _rate) for optimizer in optimizers]
    model.train()
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        loss: Any = model(input_ids=batch, labels=batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), TRAINING.clip)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if step % 50 == 0 or step == 1:
            left = (time.monotonic() - started) / step * (steps - step)
            logger.info("testbed base: step %d/%d  loss %.3f  %.0f s left", step, steps, loss.item(), left)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    hidden: list[nn.Parameter] = []
    head: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        own = hidden if name.endswith("_proj.weight") else head if name == "lm_head.weight" else others
        own.append(parameter)
    groups = [{"params": others, "lr": TRAINING.embeddings_rate}, {"params": head, "lr": TRAINING.head_rate}]
    return [
        Muon(hidden, lr=TRAINING.muon_rate),
        torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int) -> float:
    """The share of the learning rate at a step, counted from 0."""
    done = (step + 1) / TRAINING.steps
    return min(1.0, done / TRAINING.warmup, max(0.0, 1 - done) / TRAINING.decay + 1 / TRAINING.steps)
