"""The `Modelfile` beside a model, with which Ollama makes a model of its own: `ollama create NAME -f Modelfile`.

Ollama has a template language of its own (Go's). What a chat template writes around each role is found by rendering
short conversations, and written in that language. Where such pieces do not give what the chat template gives, or it
writes the date, the file has no template, and Ollama chooses one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lingraft.checkpoints.bounded import bounded
from lingraft.checkpoints.chat_template import end_of_turn, render
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

_SYSTEM, _ASKED, _ANSWER, _AGAIN = (f"{name} 7303" for name in ("a system message", "asked", "an answer", "again"))
_CONVERSATIONS: dict[str, list[Message]] = {
    "asked": [{"role": "user", "content": _ASKED}],
    "answered": [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWER}],
    "again": [
        {"role": "user", "content": _ASKED},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _AGAIN},
    ],
    "system": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _ASKED}],
}


class Around(NamedTuple):
    """What a template writes before and after a message."""

    before: str
    after: str


class TurnPieces(NamedTuple):
    """A chat template in pieces."""

    first: str
    """Before a conversation that has no system message."""
    default_system: str | None
    """The system message of a conversation that has none."""
    roles: dict[str, Around]
    """Role -> what stands around its messages; `system` is missing where the template has none."""
    answer: str
    """Before the answer that is generated."""

    def render(self, messages: Sequence[Message]) -> str:
        """As the chat template, with a prompt for the next answer."""
        has_system = messages[0]["role"] == "system"
        if self.default_system is not None and not has_system:
            messages = [{"role": "system", "content": self.default_system}, *messages]
        written = [self.roles[m["role"]].before + m["content"] + self.roles[m["role"]].after for m in messages]
        return ("" if has_system else self.first) + "".join(written) + self.answer


def modelfile(tokenizer: PreTrainedTokenizerBase) -> str:
    """The content of a Modelfile for the folder of a model with this tokenizer."""
    lines = ["# ollama create NAME -f Modelfile", "FROM ."]
    try:
        pieces, end = turn_pieces(tokenizer), end_of_turn(tokenizer)
    except ModelError:  # a template that is not valid; a base may have one
        pieces = end = None
    if pieces is not None:
        lines.append(f'TEMPLATE """{_in_go(pieces)}"""')
        if pieces.default_system is not None:
            lines.append(f'SYSTEM """{pieces.default_system}"""')
    stop = "" if end is None else str(tokenizer.convert_ids_to_tokens(end))
    if stop and not {'"', "\\"} & {*stop}:
        lines.append(f'PARAMETER stop "{stop}"')
    return "\n".join(lines) + "\n"


def turn_pieces(tokenizer: PreTrainedTokenizerBase) -> TurnPieces | None:
    """The pieces of a tokenizer's chat template; `None` without one, or where it is not made of such pieces.

    Raises:
        ModelError: the template is not valid, or does not end.
    """
    if tokenizer.chat_template is None or "strftime_now" in str(tokenizer.chat_template):  # it writes today's date
        return None
    texts: dict[str, str | None] = json.loads(bounded(lambda: json.dumps(_rendered(tokenizer)), "the chat template"))
    bos = str(tokenizer.bos_token or "")
    if bos and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:  # then Ollama writes it too
        texts = {name: text and text.removeprefix(bos) for name, text in texts.items()}
    pieces = _pieces(texts)
    if pieces is None or any(sign in text for sign in ("{{", "}}", '"""') for text in _texts(pieces)):
        return None
    prompted = {name: texts[f"{name}, prompted"] for name in ("asked", "again", "system")}
    if "system" not in pieces.roles:  # refused
        del prompted["system"]
    is_same = all(pieces.render(_CONVERSATIONS[name]) == text for name, text in prompted.items())
    return pieces if is_same and "{{{" not in _in_go(pieces) else None


def _rendered(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | None]:
    """Each conversation, as it is and with a prompt for the next answer; `None` where the template refuses it."""
    texts: dict[str, str | None] = {}
    for name, messages in _CONVERSATIONS.items():
        for shown, prompts in ((name, False), (f"{name}, prompted", True)):
            try:
                texts[shown] = render(tokenizer, messages, add_generation_prompt=prompts)
            except Exception:  # anybody's template
                texts[shown] = None
    return texts


def _pieces(texts: dict[str, str | None]) -> TurnPieces | None:
    asked, prompted, answered, again = (texts[name] for name in ("asked", "asked, prompted", "answered", "again"))
    if not (asked and prompted and answered and again and prompted.startswith(asked)):
        return None
    start, _, user_end = asked.partition(_ASKED)
    before_answer = again.partition(_ASKED)[2].partition(_ANSWER)[0].removeprefix(user_end)
    between = again.partition(_ANSWER)[2].partition(_AGAIN)[0]
    answer_end = answered.rpartition(_ANSWER)[2]
    user_start = between.removeprefix(answer_end)
    if not start.endswith(user_start):  # something stands between turns, and not before the first one
        user_start = next(between[i:] for i in range(len(between) + 1) if start.endswith(between[i:]))
        answer_end = between.removesuffix(user_start)
    first, default = start.removesuffix(user_start), None
    roles = {"user": Around(user_start, user_end), "assistant": Around(before_answer, answer_end)}
    if (with_system := texts["system"]) is not None:
        system_start, found, rest = with_system.partition(_SYSTEM)
        system_end = rest.partition(_ASKED)[0]
        if not found or not system_end.endswith(user_start):  # it stands within the user's turn
            return None
        roles["system"] = Around(system_start, system_end.removesuffix(user_start))
        first, default = _without_default(first, roles["system"])
    return TurnPieces(first, default, roles, prompted.removeprefix(asked))


def _without_default(first: str, system: Around) -> tuple[str, str | None]:
    """What begins a conversation, and the default system message where that is what begins it."""
    is_default = len(first) > len(system.before + system.after) and first.startswith(system.before)
    if is_default and first.endswith(system.after):
        return "", first.removeprefix(system.before).removesuffix(system.after)
    return first, None


def _texts(pieces: TurnPieces) -> list[str]:
    around = [text for role in pieces.roles.values() for text in role]
    return [pieces.first, pieces.default_system or "", pieces.answer, *around]


def _in_go(pieces: TurnPieces) -> str:
    """The pieces as a template of Go: text stands for itself, white space included."""
    cases = [
        f'{{{{ {"else if" if number else "if"} eq .Role "{role}" }}}}{around.before}{{{{ .Content }}}}{around.after}'
        for number, (role, around) in enumerate(pieces.roles.items())
    ]
    first = f"{{{{ if not .System }}}}{pieces.first}{{{{ end }}}}" if pieces.first else ""
    return f"{first}{{{{ range .Messages }}}}{''.join(cases)}{{{{ end }}}}{{{{ end }}}}{pieces.answer}"
