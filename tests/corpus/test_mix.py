import re

import numpy as np
import pytest

from lingraft.corpus.mix import MixComponent, hold_out, mix
from lingraft.errors import CorpusError

SEEDS = range(20)


def lengths(seed, documents=200):
    return np.random.default_rng(seed).integers(1, 60, documents)


def source(seed, documents=200, **settings):
    return MixComponent(f"corpus.{seed}", "swh_Latn", lengths(seed, documents), **settings)


def times_seen(source, draw):
    return np.bincount(draw.documents, minlength=len(source.num_tokens))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_is_met_to_the_token(seed):
    sources = [
        source(0, budget=1),
        source(1, budget=1234),
        source(2, max_epochs=3, budget=2 * int(lengths(2).sum()) + 7),
    ]
    assert [draw.total for draw in mix(sources, seed)] == [s.budget for s in sources]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_share_is_one_of_all_tokens_within_a_token(seed):
    random = np.random.default_rng(seed)
    first, second = (float(share) for share in random.uniform(0.001, 0.4, 2))
    budget = int(random.integers(1, 3000))
    sources = [
        source(0, budget=budget),
        source(1, documents=2000, share=first),
        source(2),
        source(3, documents=2000, share=second),
    ]
    draws = mix(sources, seed)
    total = sum(draw.total for draw in draws)
    assert abs(draws[1].total - first * total) <= 1
    assert abs(draws[3].total - second * total) <= 1
    assert draws[0].total == budget


def test_a_source_without_budget_and_share_gives_each_document_once():
    one = source(0)
    (draw,) = mix([one], 0)
    assert times_seen(one, draw).tolist() == [1] * 200
    assert draw.total == one.num_tokens.sum()


def test_a_budget_above_what_there_is_takes_all_there_is():
    one = source(0, budget=10**9, max_epochs=2)
    (draw,) = mix([one], 0)
    assert times_seen(one, draw).tolist() == [2] * 200
    assert draw.total == 2 * one.num_tokens.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_last_document_of_a_draw_is_cut(seed):
    sources = [source(0, budget=1500), source(1, share=0.3), source(2, budget=9000, max_epochs=3)]
    for one, draw in zip(sources, mix(sources, seed), strict=True):
        whole = one.num_tokens[draw.documents]
        assert draw.tokens[:-1].tolist() == whole[:-1].tolist()
        assert 0 < draw.tokens[-1] <= whole[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_document_is_seen_again_before_all_were_seen(seed):
    one = source(seed, budget=int(2.5 * lengths(seed).sum()), max_epochs=3)
    (draw,) = mix([one], seed)
    seen = times_seen(one, draw)
    assert set(seen) == {2, 3}
    assert sorted(draw.documents[:200]) == sorted(draw.documents[200:400]) == list(range(200))


@pytest.mark.parametrize("max_epochs", [1, 2, 5])
def test_no_document_is_seen_more_often_than_repeat_says(max_epochs):
    total = int(lengths(0).sum())
    sources = [
        source(0, max_epochs=max_epochs, budget=max_epochs * total // 2),
        source(1, max_epochs=max_epochs, documents=1000, share=0.4),
        source(2, max_epochs=max_epochs),
    ]
    for one, draw in zip(sources, mix(sources, 0), strict=True):
        assert times_seen(one, draw).max() <= max_epochs


def test_repeat_gives_a_share_that_one_pass_could_not():
    learned = source(0, budget=3000)
    replay = source(1, documents=20, share=0.5, max_epochs=10)
    assert replay.num_tokens.sum() < 3000
    assert [draw.total for draw in mix([learned, replay], 0)] == [3000, 3000]


def test_a_share_that_its_source_cannot_give_is_an_error_that_names_needed_and_available():
    replay = MixComponent("corpus.1", "eng_Latn", np.full(10, 50), share=0.5)
    with pytest.raises(CorpusError) as caught:
        mix([MixComponent("corpus.0", "swh_Latn", np.full(100, 20)), replay], 0)
    message = str(caught.value)
    assert "corpus.1 (eng_Latn)" in message
    assert "4,000 tokens is 2,000" in message
    assert "the source has 500" in message


def test_the_repeat_that_the_error_names_is_the_least_that_is_enough():
    def sources(max_epochs):
        return [source(0, budget=3000), source(1, documents=20, share=0.5, max_epochs=max_epochs)]

    with pytest.raises(CorpusError) as caught:
        mix(sources(1), 0)
    enough = int(re.search(r"max_epochs: (\d+)", str(caught.value))[1])
    assert mix(sources(enough), 0)[1].total == 3000
    with pytest.raises(CorpusError):
        mix(sources(enough - 1), 0)


@pytest.mark.parametrize("num_tokens", [[], [0, 0]])
def test_a_source_without_a_token_is_an_error_that_names_it(num_tokens):
    with pytest.raises(CorpusError, match=r"corpus\.4 \(yor_Latn\)"):
        mix([source(0), MixComponent("corpus.4", "yor_Latn", np.array(num_tokens, dtype=np.int64))], 0)


def drawn(seed):
    sources = [source(0, budget=2000), source(1, share=0.2)]
    return [(draw.documents.tolist(), draw.tokens.tolist()) for draw in mix(sources, seed)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_draws_the_same(seed):
    assert drawn(seed) == drawn(seed)


def test_another_seed_draws_another():
    draws = [drawn(seed) for seed in SEEDS]
    for number in range(2):
        assert len({str(draw[number]) for draw in draws}) == len(SEEDS)


def test_sources_of_equal_sizes_are_drawn_in_orders_of_their_own():
    first, second = mix([source(0), source(0)], 0)
    assert first.documents.tolist() != second.documents.tolist()


def some_documents(seed):
    """Digests and sizes of documents of which some are equal."""
    random = np.random.default_rng(seed)
    digests = random.integers(-(2**63), 2**63 - 1, int(random.integers(2, 300)))
    sizes = random.integers(1, 60, len(digests))
    again = random.integers(0, len(digests), int(random.integers(0, 100)))
    return np.concatenate([digests, digests[again]]), np.concatenate([sizes, sizes[again]])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("share", "max_tokens"), [(0.05, 10**6), (0.9, 500), (1.0, 10**9), (1e-6, 1)])
def test_at_least_one_text_is_held_out_and_never_all(seed, share, max_tokens):
    digests, sizes = some_documents(seed)
    held = hold_out(digests, sizes, share, max_tokens, seed)
    assert 1 <= len(held) < len(np.unique(digests))
    assert np.isin(held, digests).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("share", "max_tokens"), [(0.05, 10**6), (0.3, 10**6), (0.9, 500), (0.5, 1000)])
def test_what_is_held_out_stays_within_share_and_max_tokens_unless_it_is_one_text(seed, share, max_tokens):
    digests, sizes = some_documents(seed)
    held = hold_out(digests, sizes, share, max_tokens, seed)
    tokens = sizes[np.isin(digests, held)].sum()
    assert len(held) == 1 or tokens <= min(share * sizes.sum(), max_tokens)


def test_what_is_held_out_comes_near_to_the_share():
    digests = np.arange(10_000)
    assert 480 <= len(hold_out(digests, np.full(10_000, 30), 0.05, 10**6, 0)) <= 500


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_held_out_depends_on_texts_and_seed_alone(seed):
    digests, sizes = some_documents(seed)
    order = np.random.default_rng(seed).permutation(len(digests))
    held = hold_out(digests, sizes, 0.2, 10**6, seed)
    assert held.tolist() == hold_out(digests[order], sizes[order], 0.2, 10**6, seed).tolist()


def test_another_seed_holds_out_others():
    digests, sizes = np.arange(1000), np.full(1000, 30)
    assert len({str(sorted(hold_out(digests, sizes, 0.05, 10**6, seed))) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_texts_go_together_and_all_of_them_count(seed):
    digests = np.repeat(np.arange(100), 2)
    held = hold_out(digests, np.full(200, 10), 0.1, 10**6, seed)
    assert len(np.unique(held)) == 10
    assert 10 * np.isin(digests, held).sum() == 0.1 * 2000


@pytest.mark.parametrize("digests", [[], [7], [7, 7, 7]])
def test_fewer_than_two_different_documents_are_too_few_to_hold_one_out(digests):
    with pytest.raises(CorpusError, match=f"{len(digests)} document.*{len(set(digests))} different"):
        hold_out(np.array(digests, dtype=np.int64), np.full(len(digests), 10), 0.05, 10**6, 0)
