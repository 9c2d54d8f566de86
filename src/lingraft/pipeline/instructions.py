"""The step that reads instructions and splits them into training and validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.cache import files_fingerprint, read_json, write_json
from lingraft.checkpoints.chat_template import tokenizer_for_chat
from lingraft.corpus.instruction_formats import ASSISTANT, FORMATS
from lingraft.corpus.instructions import Conversation, Example, read_conversations
from lingraft.corpus.mix import hold_out
from lingraft.corpus.overlap import SHORTEST_TURN
from lingraft.corpus.read import DroppedText, read_records, write_records
from lingraft.corpus.tokenize import encode, text_digest
from lingraft.errors import CorpusError
from lingraft.pipeline.decontaminate import log_overlap, overlap_record
from lingraft.pipeline.documents import left_out
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import ChatTokenizer, Files
from lingraft.recipe.text import Validation
from lingraft.training.schedule import num_steps, validation_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversations:
    """Files with conversations in one language."""

    language: str
    files: Files

    @property
    def fingerprint(self) -> list[Any]:
        forms = {" ".join(form.required): sorted(form.fields) for form in FORMATS}
        return [self.language, self.files.fingerprint, forms]


class InstructionData(Artefact):
    """Instructions to train on: `training.jsonl`; `validation-<language>.jsonl`; `mix.json`."""

    @property
    def fingerprint(self) -> str:
        """Changes only when the instructions that train or validate change."""
        return files_fingerprint(sorted(self.folder.glob("*.jsonl")))

    def examples(self, name: str = "training") -> list[dict[str, Any]]:
        """Return the training examples, or those of `validation-<language>`."""
        return [record for _, record in read_records([self.folder / f"{name}.jsonl"])]

    @property
    def mix(self) -> dict[str, Any]:
        """`tokens`; `entries`, one for each of the recipe."""
        mix: dict[str, Any] = read_json(self.folder / "mix.json")
        return mix


@step(InstructionData)
def read_instructions(
    folder: Path,
    sources: Sequence[Conversations],
    tokenizer: ChatTokenizer,
    split: Split,
    validation: Validation,
    schedule: Mapping[str, Any],
    max_length: int,
    seed: int,
) -> None:
    """`training.jsonl` and `validation-<language>.jsonl`, an answer and its prompt a line.

    Conversations that share text with what is measured never train.
    """
    loaded, measured = tokenizer_for_chat(tokenizer.folder, tokenizer.template), split.index
    records: list[dict[str, Any]] = []
    given: dict[str, list[Conversation]] = {}
    for i, source in enumerate(sources):
        dropped = DroppedText()
        read = list(_that_can_be_learned(loaded, source, max_length, dropped))
        matches = list(measured.matches((conversation.texts for conversation in read), SHORTEST_TURN))
        kept = [conversation for conversation, match in zip(read, matches, strict=True) if not match]
        place = next(
            (Path(conversation.place).name for conversation, match in zip(read, matches, strict=True) if match), ""
        )
        overlap = overlap_record(filter(None, matches), len(read), place)
        log_overlap(f"instructions.{i} {source.language}", "conversations", overlap)
        given.setdefault(source.language, []).extend(kept)
        tokens = sum(len(ids) for conversation in kept for ids in encode(loaded, conversation.texts))
        counts = {"documents": len(kept), "tokens": tokens, "kept_out": len(read) - len(kept)}
        records.append({"language": source.language, **counts, "left_out": dropped.counts, "overlap": overlap})
        logger.info(
            "instructions %s: %s conversations of %s tokens, %s kept out%s",
            *(source.language, f"{len(kept):,}", f"{tokens:,}", f"{len(read) - len(kept):,}", left_out(dropped)),
        )
        if dropped.unused:
            fields = ", ".join(f"{name} ({count:,})" for name, count in dropped.unused.most_common())
            logger.warning(
                "instructions %s: fields that are not used, and in how many records: %s", source.language, fields
            )
    parted = {
        language: _parted(conversations, language, validation, schedule, seed)
        for language, conversations in given.items()
    }
    write_records(folder / "training.jsonl", (example for trained, _ in parted.values() for example in trained))
    for language, (_, validated) in parted.items():
        write_records(folder / f"validation-{language}.jsonl", validated)
    total = sum(record["tokens"] for record in records)
    for record in records:
        record["share"] = record["tokens"] / total if total else 0.0
    write_json(folder / "mix.json", {"tokens": total, "entries": records})


def _that_can_be_learned(
    tokenizer: PreTrainedTokenizerBase, source: Conversations, max_length: int, dropped: DroppedText
) -> list[Conversation]:
    """Keep conversations that the chat template renders with their answers within `max_length` tokens.

    Raises:
        CorpusError: there is none.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    special, learned = {*tokenizer.all_special_tokens, *added}, []
    for conversation in read_conversations(source.files.paths, dropped):
        if any(token in text for token in special for text in conversation.texts):
            dropped.add("conversations with a special token in their text", conversation.place)
        elif reason := _cannot_be_learned(tokenizer, conversation, max_length):
            dropped.add(reason, conversation.place)
        else:
            learned.append(conversation)
    if not learned:
        raise CorpusError(f"instructions {source.language}: no conversation can be learned: {dropped}")
    return learned


def _cannot_be_learned(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, max_length: int) -> str | None:
    for example in conversation.examples:
        prompt, answer = example["prompt"], example["completion"]
        try:
            asked = str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
            whole = str(tokenizer.apply_chat_template(prompt + answer, tokenize=False))
        except Exception as error:  # whatever a template of the user's does
            return f"conversations that the chat template refuses ({error})"
        begins = next((i for i, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), len(asked))
        if answer[0]["content"].strip() not in whole[begins:]:
            return "conversations whose answers the chat template does not write"
        for message in prompt:  # of earlier answers a template may leave thoughts out
            if message["role"] != ASSISTANT and message["content"].strip() not in asked:
                return f"conversations whose {message['role']} turns the chat template does not write"
        ids = tokenizer(whole[:begins], add_special_tokens=False, verbose=False).input_ids
        if len(ids) >= max_length:
            return f"conversations with an answer that begins after {max_length} tokens (max_length)"
    return None


def _parted(
    given: list[Conversation], language: str, validation: Validation, schedule: Mapping[str, Any], seed: int
) -> tuple[list[Example], list[Example]]:
    """Split conversations into training and at most `validation.blocks` for validation."""
    most = validation.blocks or validation_blocks(schedule, num_steps(schedule, len(given)), 1)
    digests = np.array([text_digest("\n".join(conversation.texts)) for conversation in given], dtype=np.int64)
    sizes = np.ones(len(given), dtype=np.int64)
    try:
        held = hold_out(digests, sizes, validation.share, most, seed)
    except CorpusError as error:
        raise CorpusError(f"instructions {language}: {error}") from None
    is_held = np.isin(digests, held).tolist()
    trained, validated = (
        [
            example
            for conversation, is_out in zip(given, is_held, strict=True)
            if is_out == wanted
            for example in conversation.examples
        ]
        for wanted in (False, True)
    )
    return trained, validated
