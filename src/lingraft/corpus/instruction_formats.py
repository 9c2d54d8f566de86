"""Read the common formats of instruction data: the turns of a conversation, and which answers are learned.

| format | fields | learned |
|---|---|---|
| `messages` (OpenAI, trl) | `messages`: `role`, `content`; `system` beside it | answers, but those of `weight` 0 |
| `conversations` (ShareGPT) | `conversations`: `from`, `value`; `system` beside it | the same |
| `instruction` (Alpaca) | `instruction`, `input`, `output`; `system`, `history` | all answers, as in LLaMA-Factory |
| `prompt` (trl, OpenAI) | `prompt`, `completion`: texts, or messages each | those of `completion` |

A field that a format defines is used, or its record is refused with the name of the field. `None` and empty values
count as a missing field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")

_ROLE_OF = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "bot", "model"), ASSISTANT),
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")

_SYSTEM_FIELDS = ("system", "system_prompt")
_REFUSED = {
    **dict.fromkeys(("tools", "functions", "tool_choice"), "tools"),
    **dict.fromkeys(("images", "image", "videos", "video", "audios", "audio"), "images and sound"),
    **dict.fromkeys(("chosen", "rejected", "kto_tag", "label"), "preferences"),
    "chat_template_kwargs": "settings of a chat template",
}
"""Fields whose records are refused, with what they hold."""
_REFUSED_IN_MESSAGES = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), "tools"),
    **dict.fromkeys(("images", "image", "videos", "video", "audios", "audio"), "images and sound"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "thoughts"),
    **dict.fromkeys(("train_detail", "training_detail"), "parts of an answer"),
    "refusal": "refusals",
    "name": "names of those who speak",
}
_LEARNED_IF = ("weight", "loss_weight", "train", "training")
"""Fields that say whether a message is learned: 0 and 1 (OpenAI), true and false (axolotl, LLaMA-Factory)."""


_MESSAGE_FIELDS = frozenset({"role", "from", "content", "value", *_LEARNED_IF})


class UnusableRecordError(ValueError):
    """A record that cannot be used. The message is the reason, as `DroppedText` counts it."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str
    is_learned: bool
    parts: tuple[str, ...] = ()
    """The texts that `content` was joined from, if there are several."""


@dataclass(frozen=True)
class InstructionFormat:
    """A format of records: how it is recognized and read."""

    required: tuple[str, ...]
    """Fields by which the format is recognized: a record has them all, not empty."""
    fields: frozenset[str]
    """All fields that are used."""
    read: Callable[[Mapping[str, Any]], list[Turn]]


def read_turns(record: Any) -> tuple[list[Turn], list[str]]:
    """The turns of a record, and the names of its fields that are not used.

    Raises:
        UnusableRecordError: the record is no conversation, or has a field that cannot be learned; names the field.
    """
    if not isinstance(record, dict):
        raise UnusableRecordError("lines that are not a JSON object")
    given = _not_empty(record)
    for name, meaning in _REFUSED.items():
        if name in given and (name != "label" or isinstance(given[name], bool)):  # trl's; others name a class so
            raise UnusableRecordError(f"records with '{name}': {meaning} are not learned")
    found = next((form for form in FORMATS if _has_all(record, form.required)), None)
    if found is None:
        raise UnusableRecordError(f"records in none of the forms {WANTED}")
    return _with_system(found.read(record), given), _unused(given, found)


def _has_all(record: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(record.get(name) not in (None, []) for name in names)


def _not_empty(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if value is not None and not (isinstance(value, str | list | dict) and not value)
    }


def _unused(given: Mapping[str, Any], form: InstructionFormat) -> list[str]:
    """The fields of a record, and of its messages, that are not read."""
    messages = [
        (name, message) for name in form.required if isinstance(given.get(name), list) for message in given[name]
    ]
    return [name for name in given if name not in form.fields] + [
        f"{name}.{key}" for name, message in messages for key in _not_empty(message) if key not in _MESSAGE_FIELDS
    ]


def _with_system(turns: list[Turn], record: Mapping[str, Any]) -> list[Turn]:
    """The turns, after the system message that stands in a field of its own."""
    for name in _SYSTEM_FIELDS:
        if name in record:
            text = _text(record[name], f"records whose '{name}' is not text")
            if not turns or turns[0].role != SYSTEM:
                turns = [Turn(SYSTEM, text, False), *turns]
            elif turns[0].content != text:
                raise UnusableRecordError(f"records with '{name}' and another system turn")
    return turns


def _text(value: Any, reason: str) -> str:
    if not isinstance(value, str):
        raise UnusableRecordError(reason)
    return value


def _messages_of(field: str) -> Callable[[Mapping[str, Any]], list[Turn]]:
    return lambda record: _turns(record[field], field)


def _turns(messages: Any, field: str) -> list[Turn]:
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise UnusableRecordError(f"records whose '{field}' is not a list")
    return [_turn(message, field) for message in messages]


def _turn(message: Any, field: str) -> Turn:
    if not isinstance(message, dict):
        raise UnusableRecordError(f"records whose '{field}' are not all objects")
    given = _not_empty(message)
    for name, meaning in _REFUSED_IN_MESSAGES.items():
        if name in given:
            raise UnusableRecordError(f"messages with '{name}': {meaning} are not learned")
    role = _role(given.get("role", given.get("from")))
    content = message.get("content") if message.get("content") is not None else message.get("value")
    return Turn(role, _content(content), _is_learned(given, role))


def _role(name: Any) -> str:
    name = name.lower() if isinstance(name, str) else name
    if name in _TOOL_ROLES:
        raise UnusableRecordError(f"messages whose 'role' is {name}: tools are not learned")
    if not isinstance(name, str) or name not in _ROLE_OF:
        raise UnusableRecordError(f"messages whose 'role' is none of {', '.join(_ROLE_OF)}")
    return _ROLE_OF[name]


def _content(content: Any) -> str:
    """A text, or the text parts of a list of parts."""
    if not isinstance(content, list):
        return _text(content, "messages without a text as 'content'")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise UnusableRecordError(
                f"messages with a part of type {str(kind)[:40]!r} in 'content': only text is learned"
            )
        texts.append(_text(part.get("text", part.get("value")), "messages with a text part without 'text'"))
    return "".join(texts)


def _is_learned(message: Mapping[str, Any], role: str) -> bool:
    weights = {name: message[name] for name in _LEARNED_IF if name in message}
    for name, value in weights.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise UnusableRecordError(f"messages whose '{name}' is neither 0 nor 1 (false, true)")
        if value and role != ASSISTANT:
            raise UnusableRecordError(f"messages with '{name}' that are no answer: only answers are learned")
    if len(set(weights.values())) > 1:
        raise UnusableRecordError(f"messages whose {' and '.join(map(repr, weights))} disagree")
    return role == ASSISTANT and all(weights.values())


def _of_instruction(record: Mapping[str, Any]) -> list[Turn]:
    asked, given, output = (
        _text(record.get(name) or "", f"records whose '{name}' is not text")
        for name in ("instruction", "input", "output")
    )
    question = "\n\n".join(text for text in (asked, given) if text.strip())
    return [
        *_of_history(record.get("history") or []),
        Turn(USER, question, False, (asked, given)),
        Turn(ASSISTANT, output, True),
    ]


def _of_history(history: Any) -> list[Turn]:
    turns = []
    for pair in history if isinstance(history, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise UnusableRecordError("records whose 'history' is not a list of pairs, [question, answer] each")
        turns += [Turn(USER, pair[0], False), Turn(ASSISTANT, pair[1], True)]
    return turns


def _of_prompt(record: Mapping[str, Any]) -> list[Turn]:
    prompt, completion = (
        [Turn(role, record[name], role == ASSISTANT)] if isinstance(record[name], str) else _turns(record[name], name)
        for name, role in (("prompt", USER), ("completion", ASSISTANT))
    )
    return [*(replace(turn, is_learned=False) for turn in prompt), *completion]


FORMATS = (
    InstructionFormat(("messages",), frozenset({"messages", *_SYSTEM_FIELDS}), _messages_of("messages")),
    InstructionFormat(("conversations",), frozenset({"conversations", *_SYSTEM_FIELDS}), _messages_of("conversations")),
    InstructionFormat(
        ("instruction", "output"),
        frozenset({"instruction", "input", "output", "history", *_SYSTEM_FIELDS}),
        _of_instruction,
    ),
    InstructionFormat(("prompt", "completion"), frozenset({"prompt", "completion", *_SYSTEM_FIELDS}), _of_prompt),
)
"""A record is read in the first format whose required fields it has."""

WANTED = "'messages', 'conversations', 'instruction' with 'output', 'prompt' with 'completion'"
