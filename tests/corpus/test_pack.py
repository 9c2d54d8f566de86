from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lingraft.corpus.mix import Draw
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.tokenize import SCHEMA, DocumentTokenizer, open_table

LANGUAGES = [2, 0, 2]
SEEDS = range(5)


class Corpus:
    """Three sources whose documents have token ids of their own, and a draw of each."""

    def __init__(self, folder, seed, documents=60, passes=1, max_length=16):
        random = np.random.default_rng(seed)
        self.folder, self.seed, self.max_length = folder, seed, max_length
        self.rows, self.draws = [], []
        start = 0
        for _ in LANGUAGES:
            sizes = random.integers(1, 50, documents)
            ends = start + np.cumsum(sizes)
            self.rows.append(
                [list(range(end - size, end)) for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]
            )
            start = int(ends[-1])
            order = np.concatenate([random.permutation(documents) for _ in range(passes)])[: passes * documents - 5]
            tokens = sizes[order]
            tokens[-1] = random.integers(1, tokens[-1] + 1)
            self.draws.append(Draw(order, tokens))
        if sum(draw.total for draw in self.draws) % max_length == 1:  # a single token makes no block
            self.draws[0] = Draw(self.draws[0].documents[1:], self.draws[0].tokens[1:])
            assert sum(draw.total for draw in self.draws) % max_length != 1

    @property
    def drawn(self):
        """Every document drawn, as the tokens taken of it and its language."""
        return [
            (rows[document][:tokens], language)
            for rows, draw, language in zip(self.rows, self.draws, LANGUAGES, strict=True)
            for document, tokens in zip(draw.documents.tolist(), draw.tokens.tolist(), strict=True)
        ]

    def write(self, seed=None):
        tables = [write_table(self.folder / f"{i}.arrow", rows) for i, rows in enumerate(self.rows)]
        path = self.folder / "blocks.arrow"
        seed = self.seed if seed is None else seed
        count = write_blocks(path, tables, self.draws, [[number] for number in LANGUAGES], self.max_length, seed)
        blocks = open_table(path)
        assert count == len(blocks)
        return [(row["input_ids"], row["languages"]) for row in blocks]


def write_table(path, rows):
    lengths = [len(row) for row in rows]
    columns = [[""] * len(rows), rows, lengths, list(range(len(rows)))]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as table:
        table.write_batch(pa.record_batch(columns, schema=SCHEMA))
    return open_table(path)


def flat(blocks, part):
    return [value for block in blocks for value in block[part]]


CASES = [{"seed": seed} for seed in SEEDS] + [
    {"seed": 7, "passes": 3},
    {"seed": 8, "documents": 900, "max_length": 40},  # more than one fetch and more than one batch written
    {"seed": 9, "max_length": 10_000},
]


@pytest.fixture(params=CASES, ids=str)
def corpus(request, tmp_path):
    return Corpus(tmp_path, **request.param)


def test_every_drawn_token_appears_exactly_once_a_draw(corpus):
    assert Counter(flat(corpus.write(), 0)) == Counter(token for tokens, _ in corpus.drawn for token in tokens)


def test_documents_are_set_end_to_end_in_the_order_of_their_tokens(corpus):
    stream = flat(corpus.write(), 0)
    left = Counter(tuple(tokens) for tokens, _ in corpus.drawn)
    by_first_token = {tokens[0]: sorted({t for t in left if t[0] == tokens[0]}, key=len) for tokens, _ in corpus.drawn}
    place = 0
    while place < len(stream):
        fitting = [
            t for t in by_first_token.get(stream[place], []) if left[t] and tuple(stream[place : place + len(t)]) == t
        ]
        assert fitting, f"no drawn document starts at token {place}"
        left[fitting[-1]] -= 1
        place += len(fitting[-1])
    assert not any(left.values())


def test_every_token_carries_its_documents_language(corpus):
    blocks = corpus.write()
    language_of = {token: language for tokens, language in corpus.drawn for token in tokens}
    assert flat(blocks, 1) == [language_of[token] for token in flat(blocks, 0)]


def test_all_blocks_are_of_max_length_but_the_last(corpus):
    lengths = [len(ids) for ids, _ in corpus.write()]
    assert set(lengths[:-1]) <= {corpus.max_length}
    assert 2 <= lengths[-1] <= corpus.max_length


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_packs_the_same_blocks(tmp_path, seed):
    corpus = Corpus(tmp_path, seed)
    assert corpus.write() == corpus.write()


def test_another_seed_packs_another_order(tmp_path):
    corpus = Corpus(tmp_path, 0)
    assert len({str(flat(corpus.write(seed), 0)) for seed in SEEDS}) == len(SEEDS)


def test_documents_of_all_sources_are_mixed(tmp_path):
    languages = flat(Corpus(tmp_path, 0).write(), 1)
    changes = sum(a != b for a, b in pairwise(languages))
    assert changes > 40  # set one source after the other, there are two


@pytest.mark.parametrize(("tokens", "blocks"), [(9, [4, 4]), (10, [4, 4, 2]), (8, [4, 4]), (1, [])])
def test_a_single_token_that_is_left_over_makes_no_block(tmp_path, tokens, blocks):
    table = write_table(tmp_path / "documents.arrow", [list(range(tokens))])
    draw = Draw(np.array([0]), np.array([tokens]))
    path = tmp_path / "blocks.arrow"
    assert write_blocks(path, [table], [draw], [[0]], 4, 0) == len(blocks)
    assert [len(ids) for ids in open_table(path)["input_ids"]] == blocks


@pytest.fixture(scope="module")
def tokenizer():
    """Every byte is a token: what a text becomes is known."""
    vocab = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_alone = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    loaded = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, bos_token="<s>", eos_token="</s>")
    return DocumentTokenizer(loaded, "<s>", "</s>")


def text_blocks(path, texts, tokenizer, max_length, max_blocks):
    count = write_text_blocks(path, texts, tokenizer, max_length, max_blocks)
    blocks = open_table(path)["input_ids"]
    assert count == len(blocks)
    return list(blocks)


@pytest.mark.parametrize("max_blocks", [1, 3, 10])
def test_no_more_text_blocks_than_asked_for(tmp_path, tokenizer, max_blocks):
    blocks = text_blocks(tmp_path / "blocks.arrow", ["habari ya asubuhi"] * 50, tokenizer, 8, max_blocks)
    assert [len(block) for block in blocks] == [8] * max_blocks


def test_text_blocks_hold_the_first_texts_in_their_order_between_marks(tmp_path, tokenizer):
    texts = [f"text {i}" for i in range(40)]
    blocks = text_blocks(tmp_path / "blocks.arrow", texts, tokenizer, 32, 5)
    stream = "".join(tokenizer.tokenizer.convert_ids_to_tokens([token for block in blocks for token in block]))
    whole = "".join(f"<s>text\u0120{i}</s>" for i in range(40))  # \u0120 is how a byte-level vocabulary writes a space
    assert len(blocks) == 5
    assert whole.startswith(stream)


def test_text_blocks_are_whole(tmp_path, tokenizer):
    blocks = text_blocks(tmp_path / "blocks.arrow", ["habari ya asubuhi"], tokenizer, 8, 10)
    assert [len(block) for block in blocks] == [8, 8]


def test_texts_shorter_than_a_block_make_one_short_block(tmp_path, tokenizer):
    blocks = text_blocks(tmp_path / "blocks.arrow", ["habari"], tokenizer, 64, 10)
    assert [len(block) for block in blocks] == [8]


def test_text_blocks_have_a_language_mark_for_every_token(tmp_path, tokenizer):
    path = tmp_path / "blocks.arrow"
    text_blocks(path, ["habari ya asubuhi"] * 5, tokenizer, 8, 4)
    assert [len(marks) for marks in open_table(path)["languages"]] == [8] * 4
