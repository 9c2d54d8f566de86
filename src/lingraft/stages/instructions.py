"""Stage of instructions: conversations read, parted into what trains and what is looked at meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from lingraft.artefacts import file_fingerprint, read_json, stage_fingerprint, write_json
from lingraft.checkpoints.chat_template import tokenizer_for_chat
from lingraft.checkpoints.read import tokenizer_fingerprint
from lingraft.corpus.instructions import Conversation, Example, read_conversations
from lingraft.corpus.mix import hold_out
from lingraft.corpus.read import DroppedText, find_files, write_records
from lingraft.corpus.tokenize import encode, text_digest
from lingraft.errors import CorpusError
from lingraft.recipe import Recipe
from lingraft.recipe.text import Instructions
from lingraft.stages import one_after_another
from lingraft.stages.text import left_out, write_heldout_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SEPARATOR = "\n"


def read_instructions(recipe: Recipe, model: Path, heldout: Path, work: Path) -> Path:
    """`training.jsonl` and `validation-<language>.jsonl`, an answer and its prompt a line; `mix.json`.

    Conversations in which a text is measured, or held out, never train.
    """
    entries = recipe.instructions or []
    inputs = {
        "files": {
            f"{i} {entry.language}": [file_fingerprint(file) for file in find_files(*entry.files)]
            for i, entry in enumerate(entries)
        },
        "heldout": stage_fingerprint(heldout),
        "tokenizer": tokenizer_fingerprint(model),
        "chat_template": tokenizer_for_chat(model, recipe.chat_template).chat_template,
        "validation": recipe.validation.model_dump(),
        "max_length": recipe.max_length,
        "seed": recipe.seed,
    }
    return one_after_another(work / "blocks", inputs, lambda folder: _write(recipe, entries, model, heldout, folder))


def _write(recipe: Recipe, entries: list[Instructions], model: Path, heldout: Path, folder: Path) -> None:
    never, tokenizer = set(read_json(heldout / "never.json")), tokenizer_for_chat(model, recipe.chat_template)
    training: list[Example] = []
    validation: dict[str, list[Example]] = {}
    records: list[dict[str, Any]] = []
    for entry in entries:
        dropped = DroppedText()
        read = list(_that_can_be_written(tokenizer, read_conversations(find_files(*entry.files), dropped), dropped))
        given = [of for of in read if not any(text_digest(text) in never for text in of.texts)]
        trained, looked_at = _parted(given, recipe, entry.language)
        training += [example for of in trained for example in of.examples]
        validation.setdefault(entry.language, []).extend(example for of in looked_at for example in of.examples)
        tokens = sum(len(ids) for of in trained for ids in encode(tokenizer, of.texts))
        kept_out = len(read) - len(trained)
        records.append(
            {"language": entry.language, "documents": len(trained), "tokens": tokens, "kept_out": kept_out}
            | {"left_out": dropped.counts}
        )
        logger.info(
            "instructions %s: %s conversations of %s tokens train, %s kept out%s",
            *(entry.language, f"{len(trained):,}", f"{tokens:,}", f"{kept_out:,}", left_out(dropped)),
        )
    write_records(folder / "training.jsonl", training)
    for language, examples in validation.items():
        write_records(folder / f"validation-{language}.jsonl", examples)
    write_heldout_blocks(recipe, model, heldout, folder)
    total = sum(record["tokens"] for record in records)
    for record in records:
        record["share"] = record["tokens"] / total if total else 0.0
    write_json(folder / "mix.json", {"tokens": total, "entries": records})


def _that_can_be_written(
    tokenizer: PreTrainedTokenizerBase, conversations: Iterable[Conversation], dropped: DroppedText
) -> Iterator[Conversation]:
    """Those that the chat template takes; some refuse a role, or two messages of one side in turn."""
    for conversation in conversations:
        try:
            tokenizer.apply_chat_template(conversation.messages, tokenize=False)
        except TemplateError as error:
            dropped.add(f"conversations that the chat template refuses ({error})", conversation.place)
        else:
            yield conversation


def _parted(given: list[Conversation], recipe: Recipe, language: str) -> tuple[list[Conversation], list[Conversation]]:
    """What trains, and a few conversations, `validation.blocks` at most, that are looked at meanwhile."""
    digests = np.array([text_digest(SEPARATOR.join(of.texts)) for of in given], dtype=np.int64)
    try:
        held = hold_out(
            digests, np.ones(len(given), dtype=np.int64), recipe.validation.share, recipe.validation.blocks, recipe.seed
        )
    except CorpusError as error:
        raise CorpusError(f"instructions {language}: {error}") from None
    is_held = np.isin(digests, held).tolist()
    return [of for of, is_out in zip(given, is_held, strict=True) if not is_out], [
        of for of, is_out in zip(given, is_held, strict=True) if is_out
    ]
