"""Chat as a language to be retained: conversations of the base, its answers before and after, and their replay."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.functional import log_softmax
from transformers import AutoTokenizer

import lingraft
from lingraft.checkpoints.chat_template import PLAIN
from lingraft.corpus.chat import converse
from lingraft.corpus.tokenize import DocumentTokenizer, open_table
from lingraft.errors import ModelError, RecipeError, UserError
from lingraft.evaluation.chat import Chat, Exchange, generate_exchanges, sample_conversations
from lingraft.evaluation.chat_turns import answered, prompt_of, turns_of
from lingraft.evaluation.known_answers import KNOWN_ANSWERS, is_right
from lingraft.nn.generate import AT_TEMPERATURE_1, GREEDILY, continued
from lingraft.recipe import load_recipe, recipe_yaml
from lingraft.recipe.stage import Replay
from lingraft.reporting.page import draw_page
from lingraft.reporting.section import _chat

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("chat")]  # one run serves many tests

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
EXCHANGES = [Exchange("what is fire", "it is hot", True), Exchange("maji?", "water, and so", False)]


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    chats = AutoTokenizer.from_pretrained(folder)
    chats.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})  # as in SmolLM2 Instruct
    chats.chat_template = CHATML
    return chats


@pytest.fixture(scope="module")
def chat_model(make_model):
    """A model that ends what it writes with every 20th token or so."""
    model = make_model(vocab_size=260, max_position_embeddings=256)
    with torch.no_grad():
        model.lm_head.weight[259] = 4 * model.lm_head.weight.mean(0)
        model.model.norm.weight.mul_(0.1)
    return model


@pytest.fixture(scope="module")
def done(shared_recipe, chat_model, chat_tokenizer, tmp_path_factory) -> Path:
    """A run that retains chat and replays conversations."""
    base, out = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("done") / "out"
    chat_model.save_pretrained(base)
    chat_tokenizer.save_pretrained(base)
    lingraft.run(chat_recipe(shared_recipe, base), out)
    return out


def chat_recipe(recipe: dict, base: Path) -> dict:
    return {
        **recipe,
        "base": str(base),
        "languages": {"learn": ["swh_Latn"], "retain": ["eng_Latn", "spa_Latn", "chat"]},
        "replay": {"self_generated": 0.3},
        "evaluation": {**recipe["evaluation"], "num_conversations": 4},
    }


def test_turns_are_what_the_template_writes(chat_model, chat_tokenizer) -> None:
    turns = turns_of(chat_model, chat_tokenizer)
    assert chat_tokenizer.decode(turns.before) == "<|im_start|>user\n"
    assert chat_tokenizer.decode(turns.between) == "<|im_end|>\n<|im_start|>assistant\n"
    assert turns.ends[0] == chat_tokenizer.convert_tokens_to_ids("<|im_end|>")
    rendered = chat_tokenizer.apply_chat_template(
        [{"role": "user", "content": "abc"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == chat_tokenizer.decode(turns.prompt(chat_tokenizer("abc", add_special_tokens=False).input_ids))


def test_a_tokenizer_without_a_template_has_no_chat(chat_model, tokenizer) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        turns_of(chat_model, tokenizer)


def test_a_base_that_ends_a_question_with_no_special_token_is_asked_but_does_not_ask(
    chat_model, chat_tokenizer, monkeypatch
) -> None:
    monkeypatch.setattr(chat_tokenizer, "chat_template", PLAIN)
    documents = DocumentTokenizer(chat_tokenizer, "<bos>", "<eos>")
    assert len(Chat(EXCHANGES).measure(chat_model, documents, 32)["chat"].known) == len(KNOWN_ANSWERS)
    with pytest.raises(ModelError, match="ends a question with no special token"):
        generate_exchanges(chat_model, chat_tokenizer, 2)


def test_a_template_that_writes_the_date_writes_the_same_one_every_day(chat_model, chat_tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(chat_tokenizer, "chat_template", "{{ strftime_now('%d %B %Y') }}" + CHATML)
    assert "01 January 2026" in chat_tokenizer.decode(turns_of(chat_model, chat_tokenizer).before)


def test_a_template_whose_tokens_have_no_row_is_refused(make_model, chat_tokenizer) -> None:
    with pytest.raises(ModelError, match=r"writes '<\|im_start\|>' \(258\), for which the 258 embeddings have no row"):
        turns_of(make_model(), chat_tokenizer)


def test_special_tokens_that_a_question_spells_are_text(chat_model, chat_tokenizer) -> None:
    turns = turns_of(chat_model, chat_tokenizer)
    assert prompt_of(chat_tokenizer, turns, "a<|im_end|>").count(turns.between[0]) == 1
    assert answered(chat_tokenizer, turns, "a", "b<|im_end|>").count(turns.between[0]) == 1


def test_a_prompt_is_what_the_tokenizer_makes_of_the_rendered_template(chat_model, chat_tokenizer) -> None:
    message = [{"role": "user", "content": "maji ni nini?"}]
    rendered = chat_tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert prompt_of(chat_tokenizer, turns_of(chat_model, chat_tokenizer), "maji ni nini?") == list(rendered)


def test_questions_end_and_answers_stop_at_their_end(chat_model, chat_tokenizer) -> None:
    turns = turns_of(chat_model, chat_tokenizer)
    torch.manual_seed(0)
    found = list(converse(chat_model, turns, 64, 256))
    assert len(found) > 8
    for question, answer in found:
        assert question
        assert turns.between[0] not in question
        assert not set(turns.ends) & set(answer[:-1])
    assert any(answer[-1] in turns.ends for _, answer in found)


def test_padding_on_the_left_changes_no_greedy_continuation(chat_model) -> None:
    rows = [[256, 97, 98], [256, *range(40)], [256]]
    together = continued(chat_model, rows, [259], 12, GREEDILY)
    assert together == [continued(chat_model, [row], [259], 12, GREEDILY)[0] for row in rows]


def test_the_models_own_generation_config_is_the_models_again(chat_model) -> None:
    own = chat_model.generation_config
    continued(chat_model, [[256]], [259], 2, AT_TEMPERATURE_1)
    assert chat_model.generation_config is own


def test_bits_per_byte_are_those_of_the_answer_after_its_question(chat_model, chat_tokenizer) -> None:
    documents = DocumentTokenizer(chat_tokenizer, "<bos>", "<eos>")
    scores = Chat(EXCHANGES).measure(chat_model, documents, 32)["chat"]
    nats = []
    for question, answer, ended in EXCHANGES:
        messages = [{"role": "user", "content": question}]
        prompt = chat_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        row = chat_tokenizer(prompt, add_special_tokens=False).input_ids
        whole = chat_tokenizer(prompt + answer + ("<|im_end|>" if ended else ""), add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = log_softmax(chat_model.double()(torch.tensor([whole])).logits[0], -1)
        nats.append(-sum(float(logits[i - 1, whole[i]]) for i in range(len(row), len(whole))))
    chat_model.float()
    assert scores.nats.tolist() == pytest.approx(nats, rel=1e-4)
    num_bytes = sum(len(answer.encode()) for _, answer, _ in EXCHANGES)
    assert scores.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / num_bytes, rel=1e-4)


def test_the_same_model_agrees_with_itself_and_another_does_not(chat_model, chat_tokenizer, make_model) -> None:
    documents, suite = DocumentTokenizer(chat_tokenizer, "<bos>", "<eos>"), Chat(EXCHANGES)
    before = suite.measure(chat_model, documents, 32)
    same = suite.compare(suite.from_json(json.loads(json.dumps(suite.to_json(before)))), before, {})["chat"]
    assert (same.same_beginning, same.chrf, same.bits_per_byte.delta) == (1, 1, 0)
    torch.manual_seed(5)
    other = make_model(vocab_size=260, max_position_embeddings=256)
    with torch.no_grad():
        other.model.embed_tokens.weight.normal_()
    changed = suite.compare(suite.measure(other, documents, 32), before, {})["chat"]
    assert changed.same_beginning < 1
    assert changed.chrf < 1
    assert [answer.question for answer in changed.answers] == [*KNOWN_ANSWERS, "what is fire", "maji?"]


@pytest.mark.parametrize(
    ("answer", "right"), [("It is paris.", True), ("Comparison", False), ("Le Grand Cité", False), ("Paris", True)]
)
def test_a_known_answer_is_a_word_of_the_answer(answer, right) -> None:
    assert is_right("What is the capital of France?", answer) == right


@pytest.mark.parametrize(
    ("answer", "right"),
    [("There are 7.", True), ("There are 7,982,984,960", False), ("It is 0.7", False), ("17", False)],
)
def test_a_part_of_a_number_is_no_answer(answer, right) -> None:
    assert is_right("How many continents are there on Earth?", answer) == right


def test_conversations_have_different_questions_and_the_same_seed_gives_the_same(chat_model, chat_tokenizer) -> None:
    rounds = []
    for _ in range(2):
        torch.manual_seed(3)
        rounds.append(generate_exchanges(chat_model, chat_tokenizer, 12))
    assert rounds[0] == rounds[1]
    assert len({exchange.question for exchange in rounds[0]}) == 12


def test_a_question_that_is_measured_is_not_replayed(chat_model, chat_tokenizer) -> None:
    torch.manual_seed(0)
    rows = sample_conversations(chat_model, chat_tokenizer, 3, 64)
    question = chat_tokenizer.decode(rows.flatten().tolist()).split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    torch.manual_seed(0)
    others = sample_conversations(chat_model, chat_tokenizer, 3, 64, without=[question.strip()])
    assert others.shape == rows.shape == (3, 64)
    assert not torch.equal(others, rows)
    assert f"user\n{question}<|im_end|>" not in chat_tokenizer.decode(others.flatten().tolist())


def test_a_run_that_retains_chat_measures_it_and_replays_both(done) -> None:
    chat = json.loads((done / "results.json").read_text())["chat"]
    assert chat["conversations"] == 4
    assert chat["known"] == len(KNOWN_ANSWERS)
    assert chat["bits_per_byte"]["before"] > 0
    assert 0 <= chat["same_beginning"] <= 1
    assert len(chat["answers"]) == 4 + len(KNOWN_ANSWERS)
    starts = []
    for part in sorted((done / "work/self-generated").glob("part-*")):
        blocks = open_table(part / "blocks.arrow")["input_ids"][:]
        assert {len(row) for row in blocks} == {32}
        starts.append(blocks[0][0])
    assert starts == [257, 258]  # <eos>, which stands between documents, and <|im_start|>


def test_no_document_that_trains_begins_or_ends_a_turn(done) -> None:
    trained = open_table(done / "work/blocks/training.arrow")["input_ids"][:]
    ids = {token for block in trained for token in block}
    assert 257 in ids
    assert not {258, 259} & ids


def test_the_report_shows_answers_side_by_side(done) -> None:
    page = draw_page([done])
    assert "answers that begin as the base" in page
    assert "What is the capital of France?" in page


def test_what_was_lost_comes_first() -> None:
    answers = [
        {"question": "a", "before": "same", "after": "same"},
        {"question": "b", "before": "one", "after": "another"},
        {"question": "c", "before": "Paris", "after": "Rome", "right_before": True, "right_after": False},
    ]
    shown = _chat({"answers": answers})["answers"]
    assert [(answer["question"], answer["is_lost"]) for answer in shown] == [("c", True), ("b", False), ("a", False)]


def test_chat_is_no_language_of_text(done) -> None:
    results = json.loads((done / "results.json").read_text())
    assert list(results["languages"]) == ["swh_Latn", "eng_Latn", "spa_Latn"]


def test_a_base_without_a_template_has_no_chat_to_retain(recipe) -> None:
    recipe["languages"]["retain"].append("chat")
    recipe["replay"] = {"self_generated": 0.2}
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert [*caught.value.problems] == [
        "languages.retain: the base has no chat template, so it has no chat; remove 'chat'"
    ]


def test_what_is_replayed_can_be_said(recipe) -> None:
    recipe["replay"] = {"self_generated": 0.2, "from": {"document": 0.25, "chat": 0.75}}
    with pytest.raises(RecipeError, match=r"replay\.from: the base has no chat template"):
        load_recipe(recipe)
    recipe["replay"]["from"] = {"document": 1.0}
    resolved = load_recipe(recipe)
    assert yaml.safe_load(recipe_yaml(resolved))["replay"]["from"] == {"document": 1.0}
    assert load_recipe(yaml.safe_load(recipe_yaml(resolved))) == resolved


@pytest.mark.parametrize("shares", [{"document": 0.5}, {"document": 0.5, "chat": 0.6}])
def test_shares_of_what_is_replayed_add_up(shares) -> None:
    with pytest.raises(ValueError, match="must add up to 1"):
        Replay.model_validate({"self_generated": 0.2, "from": shares})


def test_evaluate_measures_chat_against_a_base(done, texts) -> None:
    english = {"eng_Latn": str(texts["eng_Latn"])}
    with pytest.raises(UserError, match="what is retained is the chat of a base; give it, with --against"):
        lingraft.evaluate(done, english, retain=["chat"])
    base = yaml.safe_load((done / "recipe.resolved.yaml").read_text())["base"]
    results = lingraft.evaluate(done, english, against=base, retain=["chat"])
    assert results["chat"]["conversations"] == 40


def test_chat_alone_can_limit_what_is_forgotten(shared_recipe, chat_model, chat_tokenizer, tmp_path) -> None:
    """Answers to other questions than are measured decide, and no text of an old language is needed."""
    base = tmp_path / "base"
    chat_model.save_pretrained(base)
    chat_tokenizer.save_pretrained(base)
    recipe = chat_recipe(shared_recipe, base) | {"languages": {"learn": ["swh_Latn"], "retain": ["chat"]}}
    recipe |= {"method": {"name": "full"}, "merge": [{"max_forgetting": 1e-3}], "evaluation": {"num_conversations": 8}}
    recipe["training"] = recipe["training"] | {"learning_rate": 0.02}
    results = lingraft.run(recipe, tmp_path / "out")
    measured, deciding = (
        {question for question, *_ in json.loads((tmp_path / f"out/work/{name}/chat.json").read_text())["exchanges"]}
        for name in ("chat", "chat-that-decides")
    )
    assert len(deciding) == 8
    assert not deciding & measured
    points = results["max_forgetting"]["points"]
    assert results["max_forgetting"]["chosen"]["at_most"] <= 1e-3 < max(point["forgetting"] for point in points)
