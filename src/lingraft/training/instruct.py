"""Instruction tuning on trl's SFTTrainer, with the model's chat template and a loss on the answers alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from lingraft.checkpoints.chat_template import end_of_turn
from lingraft.errors import TrainingError
from lingraft.nn.chunked_cross_entropy import IGNORED
from lingraft.training.graft_arguments import GraftArguments
from lingraft.training.graft_trainer import AfterStep, GraftTrainer, TrainingOutcome
from lingraft.training.progress import ProgressLog

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.methods import Adaptation
    from lingraft.penalties import PenaltyTerm

logger = logging.getLogger(__name__)

Examples = Sequence[Mapping[str, Any]]
"""Examples with `prompt` and `completion`, each a list of messages."""


@dataclass
class _Arguments(GraftArguments, SFTConfig):  # type: ignore[misc]  # trl is not typed
    """Those of both trainers."""


def instruct(
    adaptation: Adaptation,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    validation: Mapping[str, Examples],
    arguments: GraftArguments,
    max_length: int,
    penalties: Sequence[PenaltyTerm] = (),
) -> TrainingOutcome:
    """Train on answers to prompts; evaluates on `validation` by language.

    The tokenizer's chat template renders each example, which is truncated to `max_length` tokens. Only the tokens of
    the answer have a loss, up to the token that ends it.

    Raises:
        TrainingError: no answer begins within `max_length` tokens, or the loss is no longer a number.
    """
    plain, folder = adaptation.plain, Path(str(arguments.output_dir))
    settings: dict[str, Any] = arguments.to_dict()  # type: ignore[no-untyped-call]
    settings |= {"completion_only_loss": True, "max_length": max_length, "shuffle_dataset": False, "hub_token": None}
    config = _Arguments(**settings)
    config._n_gpu, config.has_muon = arguments._n_gpu, arguments.has_muon
    with _quietly():
        trainer = InstructTrainer(
            model=adaptation.model,
            args=config,
            train_dataset=Dataset.from_list(list(examples)),
            eval_dataset={code: Dataset.from_list(list(conversations)) for code, conversations in validation.items()},
            data_collator=DataCollatorForLanguageModeling(pad_token_id=0),  # padding is masked, so any id works
            processing_class=tokenizer,
            callbacks=[ProgressLog(folder / "log.jsonl", len(validation))],
        )
    trainer.penalties = penalties
    if adaptation.after_step is not None:
        trainer.add_callback(AfterStep(adaptation.after_step))
    log_answers(trainer.train_dataset, len(examples), max_length, _ends(plain, tokenizer))
    try:
        return trainer.run()
    finally:  # trl replaces the model's forward; restore it, the model is merged next
        plain.__dict__.pop("forward", None)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide trl's progress bars, one for each pass over each set, and its FutureWarnings."""
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if not were_disabled:
            enable_progress_bars()


class InstructTrainer(GraftTrainer, SFTTrainer):  # type: ignore[misc]  # trl is not typed
    """trl's trainer with exact resuming and penalties; writes no model cards."""

    def progress(self) -> dict[str, Any]:
        """As `GraftTrainer.progress`, with trl's metrics, which are the same in all processes."""
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        return {**super().progress(), "metrics": metrics, "tokens": self._total_train_tokens}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """As `GraftTrainer.restore`, with trl's metrics."""
        super().restore(progress)
        self._metrics["train"].update(progress["metrics"])
        self._total_train_tokens = progress["tokens"]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Writes no card: a checkpoint is not published."""


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokens at which generation stops."""
    generation = getattr(model, "generation_config", None)
    of_model = getattr(generation, "eos_token_id", None) or tokenizer.eos_token_id
    return {*(of_model if isinstance(of_model, list) else [of_model]), end_of_turn(tokenizer)}


def log_answers(rows: Dataset, given: int, max_length: int, ends: set[int]) -> None:
    if not len(rows):
        raise TrainingError(f"no answer begins within {max_length} tokens; raise max_length, or give shorter prompts")
    labels = rows["labels"][:]
    num_learned = sum(label != IGNORED for row in labels for label in row)
    logger.info("%s answers, %s tokens with a loss", f"{len(labels):,}", f"{num_learned:,}")
    full = sum(len(row) == max_length for row in labels)
    if full or len(labels) < given:
        shown = (full, max_length, given - len(labels))
        logger.warning("%d examples fill %d tokens and may be cut; %d were left out, no answer begins so early", *shown)
    if not any(ends.intersection(row) for row in labels):
        logger.warning("no answer ends with a token at which generation stops: the chat template does not write it")
