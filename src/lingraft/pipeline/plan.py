"""The plan of a run: what trains, on how many tokens, in how many steps, and whether it fits in memory.

Shapes come from the meta device, so a model of any size is planned on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from lingraft.checkpoints.document_marks import plain_marks
from lingraft.checkpoints.read import (
    CONFIG_ONLY,
    TOKENIZER_ONLY,
    WEIGHTS,
    empty_model,
    find_model,
    read_config,
    read_tokenizer,
    stored_dtype,
)
from lingraft.corpus.instructions import read_conversations
from lingraft.corpus.read import DroppedText, find_files
from lingraft.corpus.tokenize import BETWEEN, encode
from lingraft.errors import UserError
from lingraft.layer_groups import LayerGroup, LayerRange, depth
from lingraft.methods.new_rows import train_new_rows
from lingraft.methods.parameter_counts import Part, by_group, stack
from lingraft.nn.chunked_cross_entropy import LOGITS_PER_CHUNK
from lingraft.recipe import CorpusEntry, Recipe, Stage
from lingraft.training.arguments import missing_here, mixed_precision
from lingraft.training.schedule import num_evaluations, num_steps, sequences_per_step, validation_blocks
from lingraft.vocabulary.resize_embeddings import padded

OPTIMIZER_BYTES = {"adafactor": 0, "sgd": 0, "lion": 4, "8bit": 2}
"""Bytes of state per trained weight by a part of the optimizer's name; AdamW's two moments are 8, of which Muon has
one for matrices."""
BYTES_PER_LOGIT = 16
"""A chunk of logits in bf16 or float32, its float32 copy, log-probabilities and gradients."""
ACTIVATION_BYTES = 34
"""Activations per token, layer and hidden unit in bf16, without attention maps (arXiv 2205.05198 §4.1)."""


@dataclass(frozen=True)
class Plan:
    stack: list[Part]
    """What trains in each part of the model."""
    layers: LayerRange
    tokens: dict[int, int | None]
    """Estimated training tokens per corpus entry; `None` where the source's size is not known."""
    tokens_per_step: int
    steps: int | None
    memory: dict[str, int]
    """Bytes by part on this machine: weights, gradients, optimizer, logits, activations; penalties, averages."""
    memory_mixed: dict[str, int]
    """The same in mixed precision, as on a GPU that has bf16."""
    written: int | None
    """Tokens that the base is to write; `None` without replay of that kind, or where the text's size is not known."""
    device: str
    device_bytes: int

    @property
    def adapter_weights(self) -> int:
        return sum(part.in_adapters for part in self.stack)

    @property
    def full_weights(self) -> int:
        return sum(part.in_full for part in self.stack)

    @property
    def fits(self) -> bool:
        return sum(self.memory.values()) <= self.device_bytes


def whole_plan(recipe: Recipe, with_memory_left: bool = True) -> str:
    """Return the text of the plan of a resolved recipe, stage by stage; see `plan_text`."""
    first = next(iter(recipe.stages))
    texts = []
    for name, stage in recipe.stages.items():
        text = plan_text(recipe, stage, make_plan(recipe, stage, handed_over=name != first), with_memory_left)
        texts.append(text if recipe.is_short else f"stage {name}\n\n{text}")
    return "\n\n".join([*texts, _documents(recipe)])


def _documents(recipe: Recipe) -> str:
    """Say what stands around a document, and whether a plain `tokenizer(text)` gives the same beginning."""
    try:
        plain = plain_marks(read_tokenizer(find_model(recipe.base, TOKENIZER_ONLY)))
    except UserError:  # a config without a tokenizer can be planned all the same
        return f"documents  {recipe.marks}"
    if plain.bos == recipe.marks.bos:
        return f"documents  {recipe.marks}"
    adds = f"adds {plain.bos}" if plain.bos else "adds nothing"
    return (
        f"documents  {recipe.marks}\n"
        f"  tokenizer(text) {adds} before a text; text that is generated as it is measured begins with "
        f"{recipe.marks.bos or 'nothing'}"
    )


def make_plan(recipe: Recipe, stage: Stage, handed_over: bool = False) -> Plan:
    """Make the plan of a stage from the base's config and a sample of local text.

    `handed_over`: an earlier stage leaves the model that it starts from, in float32.
    """
    folder = find_model(recipe.base, CONFIG_ONLY)
    config = read_config(folder)
    first_new = _grow(config, recipe.vocabulary.new_tokens, folder) if recipe.vocabulary else None
    model = empty_model(config)
    base = {name: parameter.numel() for name, parameter in model.named_parameters()}
    adapted = stage.method.apply(model)
    layers = stage.method.layers(depth(adapted.plain.config))
    if first_new is not None and not stage.instructions:
        adapted = train_new_rows(adapted, first_new)
    sequences = sequences_per_step(stage.training)
    written: int | None = None
    num_rows: int | None
    if stage.instructions:
        tokens, num_rows = _instructions(stage, folder)
    else:
        tokens = _tokens(recipe, stage, folder)
        known = [count for count in tokens.values() if count is not None]
        all_known = len(known) == len(tokens)
        share = stage.self_generated_share
        written = round(sum(known) * share / (1 - share)) if share and all_known else None
        num_rows = ceil((sum(known) + (written or 0)) / recipe.length) if all_known else None
    has_end = num_rows is not None or stage.training.get("max_steps", -1) > 0
    steps = num_steps(stage.training, num_rows or 1) if has_end else None
    device, device_bytes = _device()
    mixed = mixed_precision(stage.training)
    memory, memory_mixed = (
        _memory(recipe, stage, config, adapted.model, 4 if handed_over else _frozen_bytes(folder, m), m)
        for m in (mixed, True)
    )
    return Plan(
        stack(base, adapted, layers),
        layers,
        tokens,
        sequences * recipe.length,
        steps,
        memory,
        memory_mixed,
        written,
        device,
        device_bytes,
    )


def _grow(config: Any, added: int, folder: Path) -> int:
    """Add rows for new tokens to a config in place; rows of padding are used first. Returns the first new id."""
    text = config.get_text_config()
    try:
        tokens = len(read_tokenizer(folder))
    except UserError:  # a config without a tokenizer can be planned all the same
        tokens = text.vocab_size
    text.vocab_size = padded(tokens + added, text.vocab_size)
    return tokens


def _layers(group: LayerGroup, layers: LayerRange) -> str:
    spans = {
        LayerGroup.FIRST: (0, layers.first),
        LayerGroup.MIDDLE: (layers.first, layers.depth - layers.last),
        LayerGroup.LAST: (layers.depth - layers.last, layers.depth),
    }
    start, end = spans.get(group, (0, 0))
    return f"{start}–{end - 1}" if end - start > 1 else str(start) if end > start else ""


def _tokens(recipe: Recipe, stage: Stage, folder: Path) -> dict[int, int | None]:
    """Estimate the tokens per entry: budgets, then files less held-out text, then shares."""
    counts: dict[int, int | None] = {}
    for i, entry in enumerate(stage.corpus):
        if entry.share is None:
            available = _available_tokens(entry, folder)
            if available is not None and entry.language in recipe.languages.learn:
                available -= min(int(available * recipe.validation.share), recipe.validation.max_tokens)
            limits = [x for x in (entry.tokens, available and available * entry.max_epochs) if x is not None]
            counts[i] = min(limits) if limits else None
    known = [count for count in counts.values() if count is not None]
    shares = sum(e.share or 0 for e in stage.corpus) + stage.self_generated_share
    total = sum(known) / (1 - shares) if len(known) == len(counts) else None
    for i, entry in enumerate(stage.corpus):
        if entry.share is not None:
            counts[i] = None if total is None else round(entry.share * total)
    return dict(sorted(counts.items()))


def _instructions(stage: Stage, folder: Path) -> tuple[dict[int, int | None], int]:
    """Count the tokens of each entry of instructions, and the answers; each answer is one row."""
    tokenizer, answers = read_tokenizer(folder), 0
    counts: dict[int, int | None] = {}
    for i, entry in enumerate(stage.instructions or []):
        read = list(read_conversations(find_files(*entry.files), DroppedText()))
        counts[i] = sum(len(ids) for conversation in read for ids in encode(tokenizer, conversation.texts))
        answers += sum(len(conversation.examples) for conversation in read)
    return counts, answers


def _available_tokens(entry: CorpusEntry, folder: Path) -> int | None:
    """Tokens that the source of an entry holds, estimated from samples; `None` where they would need a download."""
    if (samples := entry.source.samples()) is None:
        return None
    try:
        tokenizer = read_tokenizer(folder)
    except UserError:  # a config without a tokenizer can be planned all the same
        return None
    total = 0.0
    for sample in samples:
        documents = [text for texts in sample.texts for text in _as_documents(texts)]
        total += sum(len(ids) + 2 for ids in encode(tokenizer, documents)) * sample.scale
    return int(total)


def _as_documents(texts: Sequence[str]) -> list[str]:
    """Return a text, or both orders of a pair."""
    return [BETWEEN.join(texts), BETWEEN.join(reversed(texts))] if len(texts) > 1 else list(texts)


def _frozen_bytes(folder: Path, mixed: bool) -> int:
    """Return the bytes of a frozen parameter: in mixed precision those of its file, or of bf16."""
    if not mixed:
        return 4
    has_weights = any(folder.glob(WEIGHTS))
    return stored_dtype(folder).itemsize if has_weights else 2


def _memory(
    recipe: Recipe, stage: Stage, config: Any, model: nn.Module, frozen_bytes: int, mixed: bool
) -> dict[str, int]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    text = config.get_text_config()
    tokens = int(stage.training["per_device_train_batch_size"]) * recipe.length
    optimizer = str(stage.training.get("optim", "adamw_torch"))
    state = next((size for part, size in OPTIMIZER_BYTES.items() if part in optimizer), 8)
    width = ACTIVATION_BYTES * (1 if mixed else 2)
    layers = text.num_hidden_layers
    activations = tokens * text.hidden_size * (4 * layers + width if _checkpoints(stage) else width * layers)
    penalties = sum(penalty.memory(model) for penalty in stage.penalties.given.values())
    return {
        "weights": frozen * frozen_bytes + trained * 4,
        "gradients": trained * 4,
        "optimizer": trained * state,
        "logits": min(tokens * text.vocab_size, LOGITS_PER_CHUNK) * BYTES_PER_LOGIT,
        "activations": int(activations),
        **({"penalties": penalties} if penalties else {}),
        **({"averages": trained * 4} if stage.averaging and stage.averaging.ema else {}),
    }


def _checkpoints(stage: Stage) -> bool:
    """Whether activations are recomputed in the backward pass."""
    return bool(stage.training.get("gradient_checkpointing") or stage.training.get("activation_checkpointing"))


def _device() -> tuple[str, int]:
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, int(properties.total_memory)
    return "CPU", int(psutil.virtual_memory().available)


def _validation(recipe: Recipe, stage: Stage, plan: Plan) -> str:
    """Describe the cost of validation during training."""
    if plan.steps is None:
        return "not known before the text is read"
    looks, num_languages = num_evaluations(stage.training, plan.steps), len(recipe.languages.roles)
    blocks = recipe.validation.blocks or validation_blocks(stage.training, plan.steps, num_languages)
    tokens = looks * num_languages * blocks * recipe.length
    share = tokens / (plan.steps * plan.tokens_per_step)
    return (
        f"{looks} times {blocks} blocks of {num_languages} languages: at most {tokens:,} tokens, {share:.0%} of those "
        "that train (validation.blocks, training.eval_steps)"
    )


def plan_text(recipe: Recipe, stage: Stage, plan: Plan, with_memory_left: bool = True) -> str:
    """Return the text of a plan, with the memory that this machine has left, and whether it suffices."""
    lines = [
        "what trains",
        f"  {'layer group':12} {'layers':8} {'parameters':>16} {'full-rank':>16} {'in adapters':>14}",
    ]
    for group, sums in by_group(plan.stack).items():
        span = _layers(group, plan.layers)
        lines.append(f"  {group:12} {span:8} {sums.weights:>16,} {sums.in_full:>16,} {sums.in_adapters:>14,}")
    base = sum(part.weights for part in plan.stack)
    lines.append(f"  {'all':12} {'':8} {base:>16,} {plan.full_weights:>16,} {plan.adapter_weights:>14,}")
    lines += ["", "text (estimated tokens)"]
    titles = [f"instructions.{i} {entry.language}" for i, entry in enumerate(stage.instructions or [])]
    titles = titles or [f"corpus.{i} {entry.title}" for i, entry in enumerate(stage.corpus)]
    for i, count in plan.tokens.items():
        shown = f"{count:,}" if count is not None else "not known before it is read"
        lines.append(f"  {titles[i]}  {shown}")
    if recipe.vocabulary:
        lines.append(
            f"  files are counted in tokens of the base; {recipe.vocabulary.new_tokens:,} new ones make fewer of them"
        )
    if stage.replay:
        shown = f"{plan.written:,}" if plan.written is not None else "not known before the text is read"
        lines.append(f"  self-generated  {shown}")
    steps = f"{plan.steps:,}" if plan.steps is not None else "not known before the text is read"
    lines += ["", f"steps  {steps}, of {plan.tokens_per_step:,} tokens each"]
    if not stage.instructions:
        lines.append(f"validation  {_validation(recipe, stage, plan)}")
    lines += ["", "memory for training (logits at their peak; activations are an estimate)"]
    lines.append(f"  {'':12} {'here':>10}     {'GPU, bf16':>10}")
    for part, size in plan.memory.items():
        lines.append(f"  {part:12} {size / 2**30:10.2f} GiB {plan.memory_mixed[part] / 2**30:10.2f} GiB")
    total, total_mixed = sum(plan.memory.values()) / 2**30, sum(plan.memory_mixed.values()) / 2**30
    lines.append(f"  {'all':12} {total:10.2f} GiB {total_mixed:10.2f} GiB")
    if not with_memory_left:
        return "\n".join(lines)
    advice = "lower the batch or max_length" + ("" if _checkpoints(stage) else ", or set gradient_checkpointing")
    verdict = "fits" if plan.fits else f"does not fit: {advice}"
    lines.append(f"  here: {plan.device}, {plan.device_bytes / 2**30:.2f} GiB: {verdict}")
    lines += [f"  here: training.{name}: {problem}" for name, problem in missing_here(stage.training).items()]
    return "\n".join(lines)
