"""The Modelfile for Ollama writes what the chat template writes, for the kinds of templates that are in use."""

from __future__ import annotations

import re

import pytest

from checkpoints.test_document_marks import CHATML, GEMMA, IM, LLAMA_2, LLAMA_3, MISTRAL, write_tokenizer
from lingraft.checkpoints.chat_template import PLAIN
from lingraft.checkpoints.modelfile import modelfile
from lingraft.checkpoints.read import read_tokenizer

pytestmark = pytest.mark.integration

PROMPT = "{% if add_generation_prompt %}{{ 'START' }}{% endif %}"
DEFAULT = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
HEADERS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
KINDS = {
    "ChatML": (IM, None, "<|im_end|>", CHATML, CHATML + PROMPT.replace("START", "<|im_start|>assistant\n")),
    "a default system message": (
        IM, "<|im_start|>", "<|im_end|>", CHATML, DEFAULT + CHATML + PROMPT.replace("START", "<|im_start|>assistant\n"),
    ),
    "Llama 3": (
        HEADERS, "<|begin_of_text|>", "<|eot_id|>", LLAMA_3,
        LLAMA_3 + PROMPT.replace("START", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ),
    "Gemma": (
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>", GEMMA,
        NO_SYSTEM + GEMMA + PROMPT.replace("START", "<start_of_turn>assistant\n"),
    ),
    "Mistral": (["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>", MISTRAL, NO_SYSTEM + MISTRAL),
    "Llama 2": (["<s>", "</s>"], "<s>", "</s>", LLAMA_2, LLAMA_2),
    "lingraft's own": (["<s>", "</s>"], "<s>", "</s>", LLAMA_2, PLAIN),
    "a first line": (
        IM, None, "<|im_end|>", CHATML,
        "{% if messages[0].role != 'system' %}Hello.\n{% endif %}" + CHATML
        + PROMPT.replace("START", "<|im_start|>assistant\n"),
    ),
}  # fmt: skip
USER, ANSWER, AGAIN = ({"role": role, "content": role[:3]} for role in ("user", "assistant", "user"))


def in_go(content: str, messages: list[dict[str, str]]) -> str:
    """What Ollama makes of the template of a Modelfile: the part of Go's language that we write."""
    template = re.search(r'TEMPLATE """(.*?)"""', content, re.DOTALL).group(1)
    system = re.search(r'SYSTEM """(.*?)"""', content, re.DOTALL)
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system.group(1)}, *messages]
    start, loop, answer = re.fullmatch(
        r"(.*)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)", template, re.DOTALL
    ).groups()
    if start and messages[0]["role"] != "system":
        start = re.fullmatch(r"\{\{ if not \.System \}\}(.*)\{\{ end \}\}", start, re.DOTALL).group(1)
    else:
        start = ""
    cases = dict(re.findall(r'(?:if|else if) eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if|\Z)', loop, re.DOTALL))
    return start + "".join(cases[m["role"]].replace("{{ .Content }}", m["content"]) for m in messages) + answer


@pytest.mark.parametrize("name", KINDS)
def test_it_renders_as_the_chat_template(name, tmp_path) -> None:
    special, bos, eos, kind, template = KINDS[name]
    tokenizer = read_tokenizer(write_tokenizer(tmp_path, special, bos, eos, kind))
    tokenizer.chat_template = template
    content = modelfile(tokenizer)
    conversations = [[USER], [USER, ANSWER, AGAIN]]
    if NO_SYSTEM not in template:
        conversations.append([{"role": "system", "content": "Rhyme."}, USER, ANSWER, AGAIN])
    for messages in conversations:
        whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        starts_by_itself = bos and tokenizer("").input_ids  # with BOS, as llama.cpp does
        assert in_go(content, messages) == (whole.removeprefix(bos) if starts_by_itself else whole)


IN_THE_USERS_TURN = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (s or '') + m.content + '<|im_end|>\n' }}{% endfor %}"
)


@pytest.mark.parametrize(
    "template",
    ["{{ strftime_now('%d') }}" + CHATML, IN_THE_USERS_TURN, "{% for %}"],
    ids=["the date", "the system message in the user's turn", "not valid"],
)
def test_a_template_that_is_not_made_of_pieces_is_left_to_ollama(template, tmp_path) -> None:
    tokenizer = read_tokenizer(write_tokenizer(tmp_path, ["<s>", "</s>"], "<s>", "</s>", LLAMA_2))
    tokenizer.chat_template = template
    content = modelfile(tokenizer)
    assert "FROM ." in content
    assert "TEMPLATE" not in content


def test_a_base_without_chat_has_no_template(tmp_path) -> None:
    content = modelfile(read_tokenizer(write_tokenizer(tmp_path, IM, None, "<|endoftext|>", None)))
    assert content.splitlines()[1:] == ["FROM ."]
