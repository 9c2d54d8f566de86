"""Stage of instructions: conversations read, parted into what trains and what is looked at meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.artefacts import file_fingerprint, write_json
from lingraft.checkpoints.chat_template import check_template, tokenizer_for_chat
from lingraft.checkpoints.read import num_rows, tokenizer_fingerprint
from lingraft.corpus.instruction_formats import ASSISTANT, FORMATS
from lingraft.corpus.instructions import Conversation, Example, read_conversations
from lingraft.corpus.mix import hold_out
from lingraft.corpus.overlap import SHORTEST_TURN, Index
from lingraft.corpus.read import DroppedText, find_files, write_records
from lingraft.corpus.tokenize import encode, text_digest
from lingraft.errors import CorpusError
from lingraft.recipe import Recipe
from lingraft.recipe.text import Instructions
from lingraft.stages import one_after_another
from lingraft.stages.held_out import heldout_fingerprint
from lingraft.stages.overlap import overlap_record, say_overlap
from lingraft.stages.text import left_out, schedule_inputs, write_heldout_blocks
from lingraft.training.schedule import MOST_BLOCKS, num_steps, validation_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def read_instructions(recipe: Recipe, model: Path, heldout: Path, work: Path) -> Path:
    """`training.jsonl` and `validation-<language>.jsonl`, an answer and its prompt a line; `mix.json`.

    Conversations that share text with what is measured never train.
    """
    entries, tokenizer = recipe.instructions or [], tokenizer_for_chat(model, recipe.chat_template)
    check_template(tokenizer, model, num_rows(model))
    inputs = {
        "files": {
            f"{i} {entry.language}": [file_fingerprint(file) for file in find_files(*entry.files)]
            for i, entry in enumerate(entries)
        },
        "forms": {" ".join(form.marks): sorted(form.fields) for form in FORMATS},
        "heldout": heldout_fingerprint(heldout),
        "tokenizer": tokenizer_fingerprint(model),
        "chat_template": tokenizer.chat_template,
        "validation": recipe.validation.model_dump(),
        **schedule_inputs(recipe),
        "max_length": recipe.max_length,
        "seed": recipe.seed,
    }

    def make(folder: Path) -> None:
        _write(recipe, entries, tokenizer, heldout, folder)
        write_heldout_blocks(recipe, model, heldout, folder, recipe.validation.blocks or MOST_BLOCKS)

    return one_after_another(work / "blocks", inputs, make)


def _write(
    recipe: Recipe, entries: list[Instructions], tokenizer: PreTrainedTokenizerBase, heldout: Path, folder: Path
) -> None:
    measured = Index.load(heldout)
    records: list[dict[str, Any]] = []
    given: dict[str, list[Conversation]] = {}
    for i, entry in enumerate(entries):
        dropped = DroppedText()
        read = list(_that_can_be_learned(tokenizer, entry, recipe.length, dropped))
        matches = list(measured.matches((of.texts for of in read), SHORTEST_TURN))
        kept = [of for of, match in zip(read, matches, strict=True) if not match]
        place = next((Path(of.place).name for of, match in zip(read, matches, strict=True) if match), "")
        overlap = overlap_record(filter(None, matches), len(read), place)
        say_overlap(f"instructions.{i} {entry.language}", "conversations", overlap)
        given.setdefault(entry.language, []).extend(kept)
        tokens = sum(len(ids) for of in kept for ids in encode(tokenizer, of.texts))
        counts = {"documents": len(kept), "tokens": tokens, "kept_out": len(read) - len(kept)}
        records.append({"language": entry.language, **counts, "left_out": dropped.counts, "overlap": overlap})
        logger.info(
            "instructions %s: %s conversations of %s tokens, %s kept out%s",
            *(entry.language, f"{len(kept):,}", f"{tokens:,}", f"{len(read) - len(kept):,}", left_out(dropped)),
        )
        if dropped.unused:
            fields = ", ".join(f"{name} ({count:,})" for name, count in dropped.unused.most_common())
            logger.warning(
                "instructions %s: fields that are not used, and in how many records: %s", entry.language, fields
            )
    parted = {language: _parted(of, recipe, language) for language, of in given.items()}
    write_records(folder / "training.jsonl", (example for trained, _ in parted.values() for example in trained))
    for language, (_, looked_at) in parted.items():
        write_records(folder / f"validation-{language}.jsonl", looked_at)
    total = sum(record["tokens"] for record in records)
    for record in records:
        record["share"] = record["tokens"] / total if total else 0.0
    write_json(folder / "mix.json", {"tokens": total, "entries": records})


def _that_can_be_learned(
    tokenizer: PreTrainedTokenizerBase, entry: Instructions, max_length: int, dropped: DroppedText
) -> list[Conversation]:
    """Conversations that the chat template writes, answers and all, within reach.

    Raises:
        CorpusError: there is none.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    special, learned = {*tokenizer.all_special_tokens, *added}, []
    for conversation in read_conversations(find_files(*entry.files), dropped):
        if any(token in text for token in special for text in conversation.texts):
            dropped.add("conversations with a special token in their text", conversation.place)
        elif reason := _cannot_be_learned(tokenizer, conversation, max_length):
            dropped.add(reason, conversation.place)
        else:
            learned.append(conversation)
    if not learned:
        raise CorpusError(f"instructions {entry.language}: no conversation can be learned: {dropped}")
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


def _parted(given: list[Conversation], recipe: Recipe, language: str) -> tuple[list[Example], list[Example]]:
    """What trains, and a few conversations, `validation.blocks` at most, that are looked at meanwhile."""
    steps = num_steps(recipe.training, len(given))
    looked_at_most = recipe.validation.blocks or validation_blocks(recipe.training, steps, 1)
    digests = np.array([text_digest("\n".join(of.texts)) for of in given], dtype=np.int64)
    sizes = np.ones(len(given), dtype=np.int64)
    try:
        held = hold_out(digests, sizes, recipe.validation.share, looked_at_most, recipe.seed)
    except CorpusError as error:
        raise CorpusError(f"instructions {language}: {error}") from None
    is_held = np.isin(digests, held).tolist()
    trained, looked_at = (
        [example for of, is_out in zip(given, is_held, strict=True) if is_out == wanted for example in of.examples]
        for wanted in (False, True)
    )
    return trained, looked_at
