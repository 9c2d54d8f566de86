from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.evaluation.bits_per_byte import score, windows
from lingraft.nn import chunked_cross_entropy as token_loss

pytestmark = pytest.mark.integration

DOCUMENTS = ["a", "ab", "house water " * 3, "fire book moon " * 20, "niño ∑ 🙂 " * 9]


def naive_nats(model, tokenizer, text: str, max_length: int) -> float:
    """-ln p of a document in float64 over full logits, window by window, one token at a time."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
    model = model.double()
    done, start, nats = 1, 0, 0.0
    while done < len(ids):
        end = min(start + max_length, len(ids))
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:end]])).logits[0]
        for position in range(done, end):
            nats -= float(logits[position - 1 - start].log_softmax(-1)[ids[position]])
        done, start = end, start + max_length // 2
    return nats


@pytest.mark.parametrize("max_length", [8, 32, 63])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_scores_are_those_of_a_plain_loop_over_logits_in_float64(
    make_model, tokenizer, documents, architecture, max_length
) -> None:
    model = make_model(architecture)
    expected = [naive_nats(make_model(architecture), tokenizer, text, max_length) for text in DOCUMENTS]
    np.testing.assert_allclose(score(model, documents, DOCUMENTS, max_length).nats, expected, rtol=1e-4)


def test_final_logit_softcapping_is_applied(make_model, tokenizer, documents) -> None:
    model = make_model("gemma3_text", final_logit_softcapping=1.0)
    expected = naive_nats(make_model("gemma3_text", final_logit_softcapping=1.0), tokenizer, DOCUMENTS[2], 32)
    assert score(model, documents, DOCUMENTS[2:3], 32).nats[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("max_length", [8, 9, 32])
def test_every_token_but_the_start_is_scored_exactly_once(max_length) -> None:
    lengths = [0, 1, 2, max_length - 1, max_length, max_length + 1, 5 * max_length + 3]
    scored = [(w.document, t) for w in windows(lengths, max_length) for t in range(w.scored, w.end)]
    assert sorted(scored) == [(d, t) for d, length in enumerate(lengths) for t in range(1, length)]


@pytest.mark.parametrize("max_length", [8, 9, 32])
def test_later_windows_give_half_a_window_of_context(max_length) -> None:
    for window in windows([10 * max_length], max_length):
        assert window.end - window.start <= max_length
        assert window.start == 0 or window.scored - window.start >= max_length // 2


def test_logits_in_memory_are_bounded_by_the_chunk(make_model, documents, monkeypatch) -> None:
    model = make_model()
    largest = 0

    def watch(module, inputs, output) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    model.lm_head.register_forward_hook(watch)
    monkeypatch.setattr(token_loss, "LOGITS_PER_CHUNK", 10 * 258)
    score(model, documents, ["moon " * 500], 32)
    assert largest == 10 * 258


def test_bytes_are_those_of_the_text_in_utf8(make_model, documents) -> None:
    scores = score(make_model(), documents, ["niño", "🙂"], 8)
    assert scores.num_bytes.tolist() == [5, 4]
    assert scores.bits_per_byte == pytest.approx(scores.nats.sum() / math.log(2) / 9)


def test_perplexity_is_per_scored_token(make_model, documents) -> None:
    scores = score(make_model(), documents, ["abc"], 8)
    assert scores.num_tokens.tolist() == [3]
    assert scores.perplexity == pytest.approx(math.exp(scores.nats[0] / 3))


def test_without_a_bos_the_first_token_is_given_and_its_bytes_count(make_model, tokenizer) -> None:
    scores = score(make_model(), DocumentTokenizer(tokenizer, None, None), ["abc", "a"], 8)
    ids = torch.tensor([tokenizer("abc", add_special_tokens=False).input_ids])
    with torch.no_grad():
        logits = make_model()(ids).logits[0].log_softmax(-1)
    expected = -(logits[0, ids[0, 1]] + logits[1, ids[0, 2]])
    assert scores.nats.tolist() == [pytest.approx(expected.item(), rel=1e-5), 0]
    assert scores.num_tokens.tolist() == [2, 0]
    assert scores.num_bytes.tolist() == [3, 1]


def test_order_and_company_of_documents_do_not_matter(make_model, documents) -> None:
    model = make_model()
    together = score(model, documents, DOCUMENTS, 16).nats
    alone = [score(model, documents, [text], 16).nats[0] for text in DOCUMENTS]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
