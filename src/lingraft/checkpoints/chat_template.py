"""The chat template, which renders a conversation as one text: from a file, from a model, or a plain one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateSyntaxError

from lingraft.cache import read_json, write_json, write_text
from lingraft.checkpoints.bounded import bounded
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.read import TOKENIZER_ONLY, find_folder, read_tokenizer
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if not loop.first %}{{ '\\n' }}{% endif %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] }}
    {%- if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\n<|assistant|>\\n' }}{% endif %}
"""
"""For a base without a template: each role on a line of its own, EOS after each answer."""


DAY = datetime(2026, 1, 1, tzinfo=UTC)
"""The date for templates that write one."""
_QUESTION, _ANSWER = "a question 7301", "an answer 7302"


def tokenizer_for_chat(model: Path, template: str | None) -> PreTrainedTokenizerBase:
    """A model's tokenizer with a chat template: from `template` (a file or another model), else the model's own.

    Raises:
        ModelError: no such template, or a tokenizer without EOS, so that an answer would have no end.
    """
    tokenizer = read_tokenizer(model)
    if template is not None:
        tokenizer.chat_template = _template_of(template)
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN
    if tokenizer.eos_token is None:
        raise ModelError(f"{model}: its tokenizer has no EOS, with which answers end; instructions cannot be learned")
    return tokenizer


def check_template(tokenizer: PreTrainedTokenizerBase, model: Path, rows: int | None = None) -> None:
    """Render one short conversation in a limited child process, before thousands are rendered in this one.

    `rows`: number of rows of the embeddings, where known; every token that the template writes needs one.

    Raises:
        ModelError: the template is not valid, does not end, or writes a special token without a row.
    """
    written = _probe(tokenizer)
    if written is None or rows is None:
        return
    ids = tokenizer(written, add_special_tokens=False, verbose=False).input_ids
    if beyond := [id_ for id_ in ids if id_ >= rows]:
        token = tokenizer.convert_ids_to_tokens(beyond[0])
        raise ModelError(
            f"{model}: its chat template writes {token!r} ({beyond[0]:,}), for which its embeddings, of {rows:,} rows, "
            "have none; give another chat_template"
        )


def _probe(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text that the template renders for a question and an answer; `None` where it does not accept them."""
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
    with_system = [{"role": "system", "content": "a"}, *conversation]

    def write() -> str:
        for messages in (conversation, with_system):  # some templates need the second, and others refuse it
            try:
                return json.dumps(render(tokenizer, messages))
            except (TemplateSyntaxError, MemoryError, RecursionError):
                raise
            except Exception:  # noqa: S112  (anybody's template; the next form, if there is one)
                continue
        return json.dumps(None)

    written: str | None = json.loads(bounded(write, "the chat template"))
    return written


class _FixedClock:
    """In the place of `datetime.datetime`."""

    @staticmethod
    def now() -> datetime:
        return DAY


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **settings: Any) -> str:
    """Render messages on a fixed day, for templates that write the date. Only for a child process (`bounded`)."""
    from transformers.utils import chat_template_utils

    setattr(chat_template_utils, "datetime", _FixedClock)  # noqa: B010  (of this child alone; transformers has no way)
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **settings))


def rendered(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the template writes for a question and its answer: up to the answer, and after it.

    Both are empty where there is no template, or it does not accept them.
    """
    if tokenizer.chat_template is None:
        return "", ""
    before, _, after = (_probe(tokenizer) or "").rpartition(_ANSWER)
    return before, after


def around_question(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """What the template writes before a user's first message, and between it and the answer; `None` without a template.

    Raises:
        ModelError: the template is not valid, or does not end.
    """
    if tokenizer.chat_template is None:
        return None

    def write() -> str:
        return json.dumps(render(tokenizer, [{"role": "user", "content": _QUESTION}], add_generation_prompt=True))

    before, _, between = json.loads(bounded(write, "the chat template")).rpartition(_QUESTION)
    return before, between


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the template writes after an answer; `None` where it writes none."""
    _, tail = rendered(tokenizer)
    ids = tokenizer(tail, add_special_tokens=False).input_ids if tail else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return next((int(i) for i in ids[:1] if i in special), None)


def set_chat_template(folder: Path, template: str) -> None:
    """Write a chat template into a tokenizer's folder, in place of the one that it had."""
    write_text(folder / "chat_template.jinja", template)
    config = folder / "tokenizer_config.json"
    settings = read_object(config) if config.is_file() else {}
    if settings.pop("chat_template", None) is not None:
        write_json(config, settings)


def ids_in(setting: Any) -> list[int]:
    """The token ids of a config's setting: one, several, or none."""
    return [] if setting is None else setting if isinstance(setting, list) else [setting]


def stop_at(folder: Path, token: int) -> None:
    """Add a token to the tokens at which generation stops."""
    path = folder / "generation_config.json"
    settings = read_object(path) if path.is_file() else _ends_of(read_json(folder / "config.json"))
    ends = ids_in(settings.get("eos_token_id"))
    if token not in ends:
        write_json(path, {**settings, "eos_token_id": [*ends, token] if ends else token})


def _ends_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens at which generation starts and stops, where the model's config names them."""
    settings = {**(config.get("text_config") or {}), **config}
    return {
        key: settings[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if settings.get(key) is not None
    }


def _template_of(name: str) -> str:
    if Path(name).is_file():
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"chat_template: {name} cannot be read: {error}") from None
    found = read_tokenizer(find_folder(name, (*TOKENIZER_ONLY, "*.jinja"))).chat_template
    found = found.get("default") if isinstance(found, dict) else found
    if not isinstance(found, str):
        raise ModelError(f"chat_template: {name} has no chat template; give a file (.jinja), or a model that has one")
    return found
