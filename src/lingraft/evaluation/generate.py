"""Generate text with a model, beside its base: the function behind `lingraft generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.document_marks import document_marks, marks_like
from lingraft.checkpoints.read import find_model
from lingraft.errors import UserError
from lingraft.evaluation.chat_turns import context_of, prompt_of, turns_of
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.nn.generate import AT_TEMPERATURE_1, GREEDILY, continued

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer


def generate_texts(
    model: Path | str,
    prompts: str | Sequence[str],
    against: Path | str | None = None,
    chat: bool = False,
    max_tokens: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[dict[str, str]]:
    """As `lingraft.generate`."""
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    if not asked or any(not prompt.strip() for prompt in asked):
        raise UserError("there is no prompt; give a text, or - to read prompts from standard input, a line each")
    if max_tokens < 1:
        raise UserError(f"--max-tokens {max_tokens}: at least 1")
    if not 0 <= temperature <= 10:
        raise UserError(f"--temperature {temperature:g}: allowed are 0 (the likeliest token) to 10")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: allowed are 0 to {2**32 - 1}")
    how = {**AT_TEMPERATURE_1, "temperature": temperature} if temperature else GREEDILY
    folders = {
        when: find_model(str(name)) for when, name in (("before", against), ("after", model)) if name is not None
    }
    for folder in folders.values():
        check_model(folder)
    of_base = document_marks(next(iter(folders.values())))  # a graft may have got another chat template
    written: dict[str, list[str]] = {}
    for when, folder in folders.items():
        loaded, tokenizer = model_to_measure(folder), document_tokenizer(folder, marks_like(of_base, folder))
        loaded.eval()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            written[when] = [_continuation(loaded, tokenizer, prompt, chat, max_tokens, how) for prompt in asked]
    return [{"prompt": prompt, **{when: texts[i] for when, texts in written.items()}} for i, prompt in enumerate(asked)]


def _continuation(
    model: PreTrainedModel,
    tokenizer: DocumentTokenizer,
    prompt: str,
    chat: bool,
    max_tokens: int,
    how: dict[str, Any],
) -> str:
    """The answer to a message in the chat template, or how a document goes on."""
    if chat:
        turns = turns_of(model, tokenizer.tokenizer)
        row, ends = prompt_of(tokenizer.tokenizer, turns, prompt), turns.ends
    else:
        (ids,) = tokenizer.encode([prompt])
        row, ends = tokenizer.bos_ids + ids, tokenizer.eos_ids or tokenizer.bos_ids
    room = context_of(model) - len(row)
    if not row or room < 1:
        raise UserError(
            f"the prompt {prompt[:40]!r}{'…' if len(prompt) > 40 else ''} has {len(row)} tokens; the model takes "
            f"1 to {context_of(model) - 1}"
        )
    (made,) = continued(model, [row], ends, min(max_tokens, room), how)
    return str(tokenizer.tokenizer.decode(made, skip_special_tokens=True)).strip()
