"""Instructions: which tokens have a loss, which template writes them, and that the result answers in a chat."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, pipeline

import lingraft
from lingraft.checkpoints.chat_template import PLAIN, tokenizer_for_chat
from lingraft.errors import ModelError, TrainingError, UserError
from lingraft.methods import METHODS
from lingraft.methods.base import Adaptation
from lingraft.nn.chunked_cross_entropy import IGNORED
from lingraft.training.arguments import training_arguments
from lingraft.training.instruct import InstructTrainer, instruct

pytestmark = pytest.mark.integration

TURNS = [
    {"role": "system", "content": "short"},
    {"role": "user", "content": "sema maji"},
    {"role": "assistant", "content": "maji"},
    {"role": "user", "content": "tena"},
]
EXAMPLES = [
    {"prompt": TURNS[1:2], "completion": [{"role": "assistant", "content": "moto"}]},
    {"prompt": TURNS, "completion": [{"role": "assistant", "content": "maji tena"}]},
]


@pytest.fixture
def chat(base) -> PreTrainedTokenizerBase:
    return tokenizer_for_chat(base, None)


@pytest.fixture
def learn(base, make_model, chat, tmp_path) -> Callable[..., Any]:
    """Learns `EXAMPLES` in four steps; returns the adaptation and the rows that it trained on."""
    seen: list[Dataset] = []
    run = InstructTrainer.run

    def build(monkeypatch: pytest.MonkeyPatch, name="lora", max_length=128, model=(), penalties=(), **settings) -> Any:
        def watched(trainer: InstructTrainer) -> Any:
            seen.append(trainer.train_dataset)
            return run(trainer)

        monkeypatch.setattr(InstructTrainer, "run", watched)
        torch.manual_seed(0)
        adaptation: Adaptation = METHODS[name](name=name).apply(make_model(*model))
        arguments = {"per_device_train_batch_size": 2, "logging_steps": 1, "eval_strategy": "no", "learning_rate": 1e-2}
        arguments |= {"max_steps": 4, **settings}
        arguments = training_arguments(arguments, tmp_path / f"{name} {max_length} {model}", 0)
        outcome = instruct(adaptation, chat, EXAMPLES, {"swh_Latn": EXAMPLES}, arguments, max_length, penalties)
        return adaptation, seen[-1], outcome

    return build


def test_the_loss_is_on_answers_alone_to_the_token_that_ends_them(learn, chat, monkeypatch) -> None:
    _, rows, _ = learn(monkeypatch)
    learned = [[i for i in row if i != IGNORED] for row in rows["labels"]]
    assert [chat.decode(of) for of in learned] == ["moto<eos>", "maji tena<eos>"]
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        first = next(i for i, label in enumerate(labels) if label != IGNORED)
        assert set(labels[:first]) == {IGNORED}
        assert labels[first:] == ids[first:]


def test_the_template_writes_what_a_chat_writes(learn, chat, monkeypatch) -> None:
    _, rows, _ = learn(monkeypatch)
    written = [chat.decode(row) for row in rows["input_ids"]]
    assert written[0] == "<bos><|user|>\nsema maji\n<|assistant|>\nmoto<eos>"
    asked = chat.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert written[1] == asked + "maji tena<eos>"


def test_the_loss_falls_and_the_model_is_as_it_was_but_for_its_weights(learn, monkeypatch) -> None:
    adaptation, _, outcome = learn(monkeypatch, name="full", max_steps=30)
    losses = [entry["loss"] for entry in outcome.log if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    assert "forward" not in vars(adaptation.plain)
    merged = adaptation.exports["plain"]()
    assert merged.config.pad_token_id is None


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text", "gemma3"])
def test_it_is_the_mean_cross_entropy_of_the_answers_tokens(learn, make_model, monkeypatch, architecture, tied) -> None:
    _, rows, outcome = learn(monkeypatch, name="full", model=(architecture, tied), max_steps=1)
    model, sums = make_model(architecture, tied), []
    with torch.no_grad():
        for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
            log_p = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            sums += [-float(log_p[i, label]) for i, label in enumerate(labels[1:]) if label != IGNORED]
    assert outcome.log[0]["loss"] == pytest.approx(sum(sums) / len(sums), rel=1e-4)


def test_an_answer_that_begins_too_late_is_left_out_and_none_at_all_is_an_error(learn, monkeypatch, caplog) -> None:
    with caplog.at_level("WARNING", logger="lingraft"):
        _, rows, _ = learn(monkeypatch, max_length=60)
    assert len(rows) == 1
    assert "1 were left out, no answer begins so early" in caplog.text
    with pytest.raises(TrainingError, match="no answer begins within 10 tokens; raise max_length"):
        learn(monkeypatch, max_length=10)


def test_a_template_that_ends_no_answer_is_noticed(learn, chat, monkeypatch, caplog) -> None:
    chat.chat_template = PLAIN.replace("{{ eos_token }}", "")
    with caplog.at_level("WARNING", logger="lingraft"):
        learn(monkeypatch)
    assert "no answer ends with a token at which generation stops" in caplog.text


def test_a_pull_towards_the_base_pulls_here_too(learn, monkeypatch) -> None:
    class PenaltyTerm:
        calls = 0

        def add_gradients(self, scale: float) -> None:
            self.calls += 1

        def values(self) -> dict[str, float]:
            return {"l2sp_middle": 1.0}

    pull = PenaltyTerm()
    _, _, outcome = learn(monkeypatch, penalties=[pull])
    assert pull.calls == 4
    assert outcome.log[0]["l2sp_middle"] == 1.0


def test_a_template_comes_from_the_model_a_file_or_another_model(base, tmp_path) -> None:
    own, other = "{{ messages[0].content }}", "{{ messages[-1].content }}"
    (base / "chat_template.jinja").write_text(own)
    (tmp_path / "other.jinja").write_text(other)
    assert tokenizer_for_chat(base, None).chat_template == own
    assert tokenizer_for_chat(base, str(tmp_path / "other.jinja")).chat_template == other
    assert tokenizer_for_chat(base, str(base)).chat_template == own
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template; give a file"):
        tokenizer_for_chat(base, str(base))


def test_a_tokenizer_without_an_end_cannot_learn_to_answer(base) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    with pytest.raises(ModelError, match="has no EOS, with which answers end"):
        tokenizer_for_chat(base, None)


@pytest.fixture
def learned(recipe, texts, tmp_path) -> Callable[..., dict[str, Any]]:
    """A run on one record and twenty plain instructions; returns what `lingraft.json` says of them."""

    def run(record: dict[str, Any], template: str | None = None, **settings: Any) -> dict[str, Any]:
        path = tmp_path / "instructions.jsonl"
        others = ({"instruction": f"sema {i}", "output": f"maji {i}"} for i in range(20))
        path.write_text("".join(json.dumps(of) + "\n" for of in [record, *others]))
        if template is not None:
            (tmp_path / "template.jinja").write_text(template)
            recipe["chat_template"] = str(tmp_path / "template.jinja")
        recipe.pop("corpus", None)
        recipe["evaluation"]["text"]["swh_Latn"] = str(texts["swh_Latn"])
        recipe.update({"instructions": [{"language": "swh_Latn", "files": str(path)}], "max_length": 64, **settings})
        recipe["method"] = {"name": "lora"}
        recipe["training"] |= {"max_steps": 2}
        lingraft.run(recipe, tmp_path / "out")
        entry: dict[str, Any] = json.loads((tmp_path / "out/lingraft.json").read_text())["corpus"][0]
        return entry

    return run


STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
LEFT_OUT = {
    "refused": ({"messages": TURNS[:3]}, STRICT, "conversations that the chat template refuses (no system)"),
    "no system": (
        {"messages": TURNS[:3]},
        "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + PLAIN,
        "conversations whose system turns the chat template does not write",
    ),
    "too late": (
        {"instruction": "sema " * 20, "output": "maji"},
        None,
        "conversations with an answer that begins after 64 tokens (max_length)",
    ),
    "special": ({"instruction": "a", "output": "b<eos>"}, None, "conversations with a special token in their text"),
}


@pytest.mark.parametrize(("record", "template", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_cannot_be_learned_is_left_out_and_counted(learned, record, template, reason) -> None:
    entry = learned(record, template)
    assert entry["left_out"] == {reason: 1}
    assert entry["documents"] == 20


NO_TEMPLATES = {
    "answers nothing": ("{% for m in messages[:1] %}{{ m.content }}{% endfor %}", "learned: .*does not write"),
    "is no template": (
        "{% for m in messages %}{{ m.content }",
        "the chat template cannot be used: TemplateSyntaxError: unexpected",
    ),
    "has a fault": ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", "learned: .*refuses"),
}


@pytest.mark.parametrize(("template", "reason"), NO_TEMPLATES.values(), ids=NO_TEMPLATES)
def test_a_template_that_cannot_be_used_is_an_error_before_anything_trains(learned, tmp_path, template, reason) -> None:
    with pytest.raises(UserError, match=reason):
        learned({"instruction": "a", "output": "b"}, template)
    assert not (tmp_path / "out").exists()


def test_system_and_history_reach_the_prompts_that_train_and_unused_fields_are_told(learned, tmp_path, caplog) -> None:
    record = {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]], "mood": "x"}
    short = (
        "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
    )
    with caplog.at_level("WARNING"):
        learned(record, short)
    assert "instructions swh_Latn: fields that are not used, and in how many records: mood (1)" in caplog.text
    looked_at = [tmp_path / "out/work/instructions" / name for name in ("training.jsonl", "validation-swh_Latn.jsonl")]
    examples = [json.loads(line) for path in looked_at for line in path.read_text().splitlines()]
    prompts = [[of["content"] for of in one["prompt"]] for one in examples if len(one["prompt"]) > 1]
    assert prompts == [["s", "a"], ["s", "a", "b", "c"]]


def test_a_measured_text_that_is_given_as_input_never_trains(learned, texts) -> None:
    with texts["eng_Latn"].open("a") as file:
        file.write(json.dumps({"text": "fire and fish"}) + "\n")
    entry = learned({"instruction": "sema", "input": "fire and fish", "output": "maji"})
    assert entry["kept_out"] == 1


def test_generation_stops_where_the_template_ends_an_answer(base, recipe, texts, tmp_path) -> None:
    """A base whose EOS is not the end of a turn, as ChatML has it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(264)
    model.save_pretrained(base)
    path = tmp_path / "instructions.jsonl"
    path.write_text("".join(json.dumps({"instruction": "jina", "output": "ab", "id": i}) + "\n" for i in range(20)) * 2)
    path.write_text(path.read_text() + json.dumps({"instruction": "jina?", "output": "ab"}) + "\n")
    del recipe["corpus"]
    recipe["evaluation"]["text"]["swh_Latn"] = str(texts["swh_Latn"])
    recipe |= {
        "instructions": [{"language": "swh_Latn", "files": str(path)}],
        "method": {"name": "full"},
        "max_length": 64,
    }
    recipe["training"] |= {"max_steps": 60}
    lingraft.run(recipe, tmp_path / "out")
    chat = pipeline("text-generation", model=str(tmp_path / "out/model"))
    said = chat([{"role": "user", "content": "jina"}], max_new_tokens=12, do_sample=False)
    assert said[0]["generated_text"][-1]["content"] == "ab"


@pytest.mark.parametrize("name", ["lora", "full"])
def test_the_result_of_a_run_chats_in_two_languages(recipe, texts, tmp_path, name) -> None:
    """Twenty questions learned by heart, and answered through `transformers.pipeline`."""
    asked = {"swh_Latn": ("jina", "maji"), "eng_Latn": ("name", "fire")}
    entries = []
    for code, (question, answer) in asked.items():
        path = tmp_path / f"{code}.instructions.jsonl"
        records = ({"instruction": question, "input": "", "output": answer, "id": i} for i in range(20))
        other = {"messages": [{"role": "user", "content": f"{question}?"}, {"role": "assistant", "content": answer}]}
        path.write_text("".join(json.dumps(record) + "\n" for record in [*records, other]))
        entries.append({"language": code, "files": str(path)})
    del recipe["corpus"]
    recipe["evaluation"]["text"]["swh_Latn"] = str(texts["swh_Latn"])
    recipe |= {"instructions": entries, "max_length": 64, "method": {"name": name}}
    recipe["training"] |= {"max_steps": 60, "learning_rate": 2e-2 if name == "lora" else 3e-3}
    lingraft.run(recipe, tmp_path / "out")
    chat = pipeline("text-generation", model=str(tmp_path / "out/model"))
    for question, answer in asked.values():
        said = chat([{"role": "user", "content": question}], max_new_tokens=8, do_sample=False)
        assert said[0]["generated_text"][-1] == {"role": "assistant", "content": answer}
