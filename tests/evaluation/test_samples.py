from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.evaluation.samples import MAX_NEW_TOKENS, SHOWN_CHARACTERS, Prompt, continue_prompts, draw_prompts

pytestmark = pytest.mark.integration

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def test_a_prompt_and_its_rest_are_the_beginning_of_the_text() -> None:
    for text in (LONG, "water house", "日本語の文章はここから始まりますが空白はありません", "a\nb c d e f g"):
        (prompt,) = draw_prompts([text], 1)
        assert prompt.text
        assert text.startswith(prompt.text + prompt.rest)


def test_prompts_are_cut_before_a_word() -> None:
    (prompt,) = draw_prompts([LONG], 1)
    assert prompt.text == "one two three four five six seven eight"
    assert prompt.rest.startswith(" nine")


def test_as_many_prompts_as_asked_for_of_the_first_texts_that_are_long_enough() -> None:
    assert [p.text for p in draw_prompts(["a", "water fire", "house moon", "sun fish"], 2)] == ["water", "house"]
    assert draw_prompts([LONG], 0) == []


def test_continuations_are_the_greedy_ones(make_model, tokenizer, documents) -> None:
    model = make_model(max_position_embeddings=128)
    ids = [tokenizer.bos_token_id, *tokenizer("water", add_special_tokens=False).input_ids]
    made: list[int] = []
    while len(made) < MAX_NEW_TOKENS:
        with torch.no_grad():
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
        if made[-1] == tokenizer.eos_token_id:
            break
    expected = tokenizer.decode(made, skip_special_tokens=True)[:SHOWN_CHARACTERS]
    assert continue_prompts(model, documents, [Prompt("water", "")], 128) == [expected]


def test_the_models_own_generation_config_changes_nothing(make_model, documents) -> None:
    prompts, plain = [Prompt("water", "")], make_model(max_position_embeddings=128)
    model = make_model(max_position_embeddings=128)
    model.generation_config = GenerationConfig(
        repetition_penalty=1.8, num_beams=3, num_return_sequences=2, return_dict_in_generate=True, do_sample=True
    )
    assert continue_prompts(model, documents, prompts, 128) == continue_prompts(plain, documents, prompts, 128)


def test_a_prompt_of_no_tokens_is_continued_by_nothing(make_model, tokenizer) -> None:
    assert continue_prompts(make_model(), DocumentTokenizer(tokenizer, None, None), [Prompt("", "water")], 32) == [""]


@pytest.mark.parametrize("max_length", [8, 16])
def test_prompt_and_continuation_stay_within_the_context(make_model, documents, max_length) -> None:
    model = make_model(max_position_embeddings=max_length)
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(int(kwargs["position_ids"].max())), with_kwargs=True
    )
    continue_prompts(model, documents, draw_prompts([LONG], 1), max_length)
    assert max(seen) < max_length
