"""The laws of a tokenizer that was continued, for every family."""

from __future__ import annotations

import importlib
import json
import random
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lingraft.errors import CorpusError, ModelError
from lingraft.vocabulary import llama_cpp
from lingraft.vocabulary.bpe import BPE, BYTE_LETTERS, FALLBACK, RARE_BYTES
from lingraft.vocabulary.extend import Extension, extend, unreachable
from vocabulary.families import ENGLISH, FAMILIES, PERSIAN, gpt2, llama2, llama3, sentences

NUMBER = 60
TEXT = sentences(PERSIAN, 300)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> tuple[Tokenizer, Extension]:
    tokenizer = FAMILIES[request.param]()
    return tokenizer, extend(BPE(tokenizer, request.param), TEXT, NUMBER)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_it_has_as_many_new_tokens_as_were_asked_for(family) -> None:
    tokenizer, extension = family
    assert extension.bpe.tokenizer.get_vocab_size() == tokenizer.get_vocab_size() + NUMBER
    assert extension.first == max(tokenizer.get_vocab().values()) + 1


def test_every_old_token_keeps_its_id(family) -> None:
    tokenizer, extension = family
    new = extension.bpe.tokenizer.get_vocab()
    assert {token: new[token] for token in tokenizer.get_vocab()} == tokenizer.get_vocab()


def test_every_new_token_comes_out_of_its_surface_or_of_the_text(family) -> None:
    _, extension = family
    assert extension.unreachable == []
    characters = [chr(point) for point in range(0x80, 0x3000)]
    seen = {one for text in [*TEXT, *characters] for one in ids(extension.bpe.tokenizer, text)}
    for token in range(extension.first, extension.first + NUMBER):
        surface = extension.bpe.surface(extension.bpe.strings[token])
        assert token in seen or token in ids(extension.bpe.tokenizer, "\n" + surface), surface


BULGARIAN = "нещо на Български"  # words of the text by which llama.cpp's converter knows a tokenizer


@pytest.mark.parametrize("make", [llama3, gpt2])
def test_llama_cpp_knows_the_extended_tokenizer_where_few_merges_are_left_out_for_it(make, monkeypatch, caplog) -> None:
    monkeypatch.setattr(llama_cpp, "SMALLEST", 0)
    monkeypatch.setattr(importlib.import_module("lingraft.vocabulary.extend"), "MOST_LEFT", 1)
    text = [BULGARIAN] * 2000 + sentences("λόγος ήλιος", 1000)
    with caplog.at_level("INFO", "lingraft"):
        extended = extend(BPE(make(), "tokenizer"), text, 12).bpe.tokenizer
    assert ids(extended, llama_cpp.CHECKED_TEXT) == ids(make(), llama_cpp.CHECKED_TEXT)
    assert "left out, since llama.cpp's converter would not know the tokenizer with them: " in caplog.text


@pytest.mark.parametrize("make", [llama3, gpt2])
def test_a_language_that_needs_those_merges_gets_them_and_a_warning(make, monkeypatch, caplog) -> None:
    monkeypatch.setattr(llama_cpp, "SMALLEST", 0)
    extended = extend(BPE(make(), "tokenizer"), [BULGARIAN] * 99, 9).bpe.tokenizer
    assert ids(extended, llama_cpp.CHECKED_TEXT) != ids(make(), llama_cpp.CHECKED_TEXT)
    assert "llama.cpp's converter will refuse this tokenizer" in caplog.text


def test_old_text_keeps_its_ids(family) -> None:
    tokenizer, extension = family
    for text in sentences(ENGLISH, 200, seed=1):
        assert ids(extension.bpe.tokenizer, text) == ids(tokenizer, text)


def test_a_text_changes_only_where_new_tokens_stand(family) -> None:
    """Each new token is the old pieces of its own place: taken apart again, the old ids are there."""
    tokenizer, extension = family
    for text in sentences(f"{PERSIAN} {ENGLISH}", 200, seed=2):
        apart: list[int] = []
        for token in ids(extension.bpe.tokenizer, text):
            apart += extension.pieces[token - extension.first] if token >= extension.first else [token]
        assert apart == ids(tokenizer, text)


def test_new_text_takes_fewer_tokens(family) -> None:
    tokenizer, extension = family
    held = sentences(PERSIAN, 100, seed=3)
    before, after = (sum(len(ids(of, text)) for text in held) for of in (tokenizer, extension.bpe.tokenizer))
    assert after < before / 3


ODD = [
    "👩‍👩‍👧‍👦 🇮🇷",
    "0123456789 ۰۱۲۳ 3.14",
    "\x00\x01\x1f\x7f",
    "�خ�",
    "\u200f\u200e\ufeff",
    "\ud7ff\ue000",
    "a\r\n\r\n\tb",
    "   ",
    "",
]


def test_everything_decodes_to_itself(family) -> None:
    _, extension = family
    draw = random.Random(0)
    letters = [
        chr(draw.choice([*range(0x20, 0x2FF), *range(0x600, 0x6FF), *range(0x4E00, 0x4E40)])) for _ in range(400)
    ]
    made = ["".join(draw.choices(letters, k=20)) for _ in range(200)]
    normalizer = extension.bpe.tokenizer.normalizer
    for text in [*TEXT[:50], *ODD, *made]:
        meant = normalizer.normalize_str(text) if normalizer and "NFC" in repr(normalizer) else text
        assert extension.bpe.tokenizer.decode(ids(extension.bpe.tokenizer, text), skip_special_tokens=False) == meant


def test_the_file_loads_as_the_same_tokenizer(family, tmp_path) -> None:
    _, extension = family
    extension.bpe.tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert loaded.get_vocab() == extension.bpe.tokenizer.get_vocab()
    for text in TEXT[:20]:
        assert ids(loaded, text) == ids(extension.bpe.tokenizer, text)


@pytest.mark.parametrize("text", [TEXT, sentences(f"{ENGLISH} houses schools unfishy motherhood", 100, seed=4)])
def test_the_merges_are_those_of_a_plain_count(text) -> None:
    """Against the algorithm word for word, to its end: count all pairs anew, take the most frequent that is new."""
    bpe = BPE(gpt2(), "gpt2")
    cut = [(bpe.cut([word])[0], count) for word, count in bpe.words(text).items()]
    strings = list(bpe.strings)
    while True:
        counts: dict[tuple[int, int], int] = {}
        for word, count in cut:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + count
        made = {pair: strings[pair[0]] + strings[pair[1]] for pair, count in counts.items() if count > 1}
        fitting = [pair for pair, string in made.items() if string not in strings and bpe.may_be_token(string)]
        if not fitting:
            break
        pair = min(fitting, key=lambda pair: (-counts[pair], pair))
        strings.append(made[pair])
        for word, _ in cut:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == pair:
                    word[at : at + 2] = [len(strings) - 1]
                at += 1
    number = len(strings) - len(bpe.strings)
    assert extend(bpe, text, number).bpe.strings == strings
    with pytest.raises(CorpusError, match=f"gives {number} new tokens, not {number + 1}.*ask for {number} at most"):
        extend(bpe, text, number + 1)


def test_a_string_that_is_a_token_already_is_not_made_again() -> None:
    """The old merges cut `abc` as `ab c`, and know `bc`: neither may `ab` + `c` become `abc` where that is old."""
    core = gpt2()
    core.add_tokens(["abc"])
    spec = BPE(core, "gpt2").extended(["ab", "bc"], [(core.token_to_id("a"), core.token_to_id("b"))])
    known = spec.extended(["xyz"], [])  # a token that no merge makes
    learned = extend(known, ["xyz xyz xyz qrs qrs qrs"], 3).bpe.strings[len(known.strings) :]
    assert "xyz" not in learned
    assert len(set(learned)) == 3


def test_an_added_word_is_left_out_of_what_is_learned() -> None:
    tokenizer = gpt2()
    tokenizer.add_tokens(["کتاب‌ها", "مدرسه"])
    extension = extend(BPE(tokenizer, "gpt2"), TEXT, NUMBER)
    assert extension.unreachable == []
    assert not any("مدرسه" in extension.bpe.surface(string) for string in extension.bpe.strings[extension.first :])


def test_what_no_text_gives_is_reported() -> None:
    bpe = BPE(gpt2(), "gpt2")
    assert unreachable(bpe.extended(["qqzz"], []), [], len(bpe.strings)) == ["qqzz"]


def test_dropout_is_not_drawn_while_learning() -> None:
    tokenizer = gpt2()
    tokenizer.model.dropout = 0.5
    texts = sentences(ENGLISH + " schoolhouse watersun", 50)
    assert extend(BPE(tokenizer, "a"), texts, 6).bpe.strings == extend(BPE(gpt2(), "b"), texts, 6).bpe.strings


def test_a_newline_stays_the_byte_that_it_was() -> None:
    extension = extend(BPE(llama2(), "llama2"), TEXT, NUMBER)
    assert "\n" not in extension.bpe.strings[extension.first :]


def test_special_tokens_after_the_vocabulary_keep_their_ids() -> None:
    tokenizer = llama3()
    special = tokenizer.token_to_id("<|end|>")
    assert special == tokenizer.get_vocab_size(with_added_tokens=False) + 1
    extended = extend(BPE(tokenizer, "llama3"), TEXT, NUMBER).bpe.tokenizer
    assert extended.token_to_id("<|end|>") == special
    assert ids(extended, "کتاب<|end|>")[-1] == special


def test_no_token_begins_within_a_character() -> None:
    extension = extend(BPE(gpt2(), "gpt2"), sentences(" ".join(chr(0x900 + i) * 3 for i in range(90)), 400), 150)
    for string in extension.bpe.strings[extension.first :]:
        raw = extension.bpe.bytes_of(string)
        assert not 0x80 <= raw[0] < 0xC0


def test_text_without_a_pair_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"gives 0 new tokens, not 5: .*; give more text$"):
        extend(BPE(gpt2(), "gpt2"), ["a b c"], 5)


def test_a_tokenizer_that_drops_bytes_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    tokenizer.train_from_iterator(sentences(ENGLISH, 50), trainers.BpeTrainer(vocab_size=100, show_progress=False))
    with pytest.raises(ModelError, match=r"lacks \d+ of the 256 bytes"):
        BPE(tokenizer, "base")


def test_a_tokenizer_that_lacks_bytes_of_no_text_is_continued() -> None:
    """As SmolLM2's, which drops some control characters."""
    spec = json.loads(gpt2().to_str())
    dropped = [letter for letter, byte in BYTE_LETTERS.items() if byte in RARE_BYTES]
    spec["model"]["vocab"] = {
        token: i for i, token in enumerate(t for t in spec["model"]["vocab"] if not set(dropped) & set(t))
    }
    spec["model"]["merges"] = [pair for pair in spec["model"]["merges"] if not set(dropped) & set("".join(pair))]
    bpe = BPE(Tokenizer.from_str(json.dumps(spec)), "base")
    with_control = [f"{text} zzz\x04zzz" for text in sentences("maji moto nyumba kitabu shule mwezi samaki", 200)]
    assert not any("\x04" in bpe.surface(word) for word in bpe.words(with_control))
    extension = extend(bpe, with_control, 10)
    assert not any(set(dropped) & set(string) for string in extension.bpe.strings[extension.first :])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (models.Unigram([("a", -1.0), ("b", -2.0)]), "Unigram model, which cuts each word by the scores"),
        (models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"), "WordPiece model; only byte-pair encodings"),
        (models.BPE({"a": 0}, []), "neither encodes bytes nor falls back"),
        (models.BPE({"a": 0}, [], byte_fallback=True), "lacks 256 of the 256 bytes"),
        (models.BPE(FALLBACK, [], byte_fallback=True, end_of_word_suffix="</w>"), "marks words with '</w>'"),
    ],
    ids=["unigram", "wordpiece", "no bytes", "few bytes", "suffix"],
)
def test_what_cannot_be_continued_is_refused_with_the_reason(model, says) -> None:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ModelError, match=says):
        BPE(tokenizer, "base")
