"""What stands around a document: the marks of the pretraining, by the kinds of tokenizers that people graft onto."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lingraft.checkpoints.document_marks import DocumentMarks, check_marks, document_marks, marks_like, plain_marks
from lingraft.checkpoints.read import read_tokenizer
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import ModelError

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] + '<|eot_id|>' }}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] "
    "+ '<end_of_turn>\n' }}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST] ' }}{% else %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
OLMO_2 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

KINDS = {
    "SmolLM2": (IM, "<|endoftext|>", "<|endoftext|>", None, ("<|endoftext|>", None)),
    "SmolLM2 Instruct": (IM, "<|im_start|>", "<|im_end|>", CHATML, ("<|endoftext|>", None)),
    "Llama 3 Instruct": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>", "<|eot_id|>", LLAMA_3, ("<|begin_of_text|>", "<|end_of_text|>"),
    ),
    "Qwen 2.5": (IM, None, "<|endoftext|>", CHATML, ("<|endoftext|>", None)),
    "Qwen 2.5 Instruct": (IM, None, "<|im_end|>", CHATML, ("<|endoftext|>", None)),
    "Gemma 3 it": (
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>", GEMMA, ("<bos>", "<eos>"),
    ),
    "Mistral Instruct": (["<s>", "</s>", "[INST]", "[/INST]"], "<s>", "</s>", MISTRAL, ("<s>", "</s>")),
    "Llama 2 Chat": (["<s>", "</s>"], "<s>", "</s>", LLAMA_2, ("<s>", "</s>")),
    "OLMo 2 Instruct": (["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>", OLMO_2, ("<|endoftext|>", None)),
}  # fmt: skip
"""Name -> special tokens, BOS, EOS, chat template, and what stands around a document."""


def write_tokenizer(folder: Path, special: list[str], bos: str | None, eos: str, template: str | None) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    if bos and template in (LLAMA_3, GEMMA, MISTRAL, LLAMA_2):
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(tokenizer)}))
    return folder


@pytest.fixture(params=KINDS)
def kind(request, tmp_path) -> tuple[str, Path]:
    special, bos, eos, template, _ = KINDS[request.param]
    return request.param, write_tokenizer(tmp_path, special, bos, eos, template)


def test_a_document_has_the_marks_of_the_pretraining(kind) -> None:
    name, folder = kind
    assert document_marks(folder) == DocumentMarks(*KINDS[name][-1])


def test_no_document_begins_or_ends_a_turn(kind) -> None:
    _, folder = kind
    tokenizer = read_tokenizer(folder)
    if tokenizer.chat_template is None:
        return
    marks = document_marks(folder)
    documents = DocumentTokenizer(tokenizer, marks.bos, marks.eos)
    (ids,) = documents.encode_documents(["a text"])
    of_turns = {"<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]"}
    assert not of_turns & set(tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]))


def test_one_mark_stands_between_documents(kind) -> None:
    _, folder = kind
    marks = document_marks(folder)
    documents = DocumentTokenizer(read_tokenizer(folder), marks.bos, marks.eos)
    ids = [id_ for row in documents.encode_documents(["a", "b"]) for id_ in row]
    assert all(one != other for one, other in pairwise(ids))


def test_the_plan_knows_what_a_plain_call_of_the_tokenizer_gives(kind) -> None:
    name, folder = kind
    adds = {"Llama 3 Instruct", "Gemma 3 it", "Mistral Instruct", "Llama 2 Chat"}
    assert plain_marks(read_tokenizer(folder)) == DocumentMarks(KINDS[name][1] if name in adds else None, None)


def test_a_token_at_which_generation_stops_is_the_first_choice(tmp_path) -> None:
    special = ["<|endoftext|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"]
    folder = write_tokenizer(tmp_path, special, None, "<|im_end|>", CHATML)
    assert document_marks(folder).bos == "<|endoftext|>"
    ids = [read_tokenizer(folder).convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|end_of_text|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    assert document_marks(folder).bos == "<|end_of_text|>"


def test_an_eos_that_ends_text_stays_whatever_else_the_vocabulary_has(tmp_path) -> None:
    folder = write_tokenizer(tmp_path, ["<|endoftext|>", "<s>", "</s>"], "<s>", "<|endoftext|>", OLMO_2)
    assert document_marks(folder) == DocumentMarks("<s>", "<|endoftext|>")


def test_a_template_that_needs_a_system_message_is_given_one(tmp_path) -> None:
    template = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    folder = write_tokenizer(tmp_path, IM, "<|im_start|>", "<|im_end|>", template)
    assert document_marks(folder) == DocumentMarks("<|endoftext|>", None)


def test_a_template_that_cannot_be_used_leaves_the_tokenizers_marks(tmp_path, caplog) -> None:
    folder = write_tokenizer(tmp_path, IM, "<|im_start|>", "<|im_end|>", "{% for %}")
    assert document_marks(folder) == DocumentMarks("<|im_start|>", "<|im_end|>")
    assert "documents have the BOS and EOS of the tokenizer" in caplog.text


def test_a_model_of_another_tokenizer_has_its_own_marks(tmp_path) -> None:
    llama = write_tokenizer(tmp_path / "llama", *KINDS["Llama 3 Instruct"][:-1])
    qwen = write_tokenizer(tmp_path / "qwen", *KINDS["Qwen 2.5"][:-1])
    assert marks_like(document_marks(llama), qwen) == document_marks(qwen)
    assert marks_like(document_marks(llama), llama) == document_marks(llama)


def test_a_mark_that_is_no_token_is_refused(tmp_path) -> None:
    folder = write_tokenizer(tmp_path, IM, None, "<|im_end|>", CHATML)
    with pytest.raises(ModelError, match=r"document.bos: '<\|endoftext>' is no token .*did you mean '<\|endoftext\|>'"):
        check_marks(read_tokenizer(folder), DocumentMarks("<|endoftext>", None))
