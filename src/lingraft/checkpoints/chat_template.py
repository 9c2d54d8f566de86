"""The template that writes a conversation as one text: a file's, a model's, or a plain one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
"""For a base that has none: roles in words on lines of their own, EOS after each answer."""


def tokenizer_for_chat(model: Path, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model with a chat template: that of `template`, a file or another model, else its own.

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


def _template_of(name: str) -> str:
    if Path(name).is_file():
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"chat_template: {name} cannot be read: {error}") from None
    found = read_tokenizer(find_folder(name, (*TOKENIZER_ONLY, "*.jinja"))).chat_template
    if not isinstance(found, str):
        raise ModelError(f"chat_template: {name} has no chat template; give a file (.jinja), or a model that has one")
    return found
