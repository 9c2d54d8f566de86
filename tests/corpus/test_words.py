"""The form in which texts are compared, and hashes of runs of words against sets of them in Python."""

from __future__ import annotations

import random
import unicodedata

import pytest

from lingraft.corpus.words import WORD, normal_form, words_of

SAME = {
    "decomposed": ("Ignorér rystelser på den", "Ignore\u0301r rystelser pa\u030a den"),
    "upper case": ("straße ΌΣΟΣ İstanbul", "STRASSE όσος i\u0307stanbul"),
    "a soft hyphen": ("nyumba", "nyum\u00adba"),
    "joiners": ("می\u200cخواهم", "میخواهم"),
    "a byte order mark": ("maji", "\ufeffmaji"),
    "a joiner between a letter and its mark": ("é", "e\u200d\u0301"),
    "a variation selector": ("葛城", "葛\U000e0100城"),
    "wide letters": ("abc 123", "ａｂｃ　１２３"),
    "a ligature": ("fisk", "ﬁsk"),
    "Hangul": ("한국어", "한국어"),
    "white space": ("maji na moto", " maji\u00a0na\n\tmoto"),
    "punctuation": ("maji, na moto!", "«maji» - na (moto)"),
}
HABARI = 4290471289300716741
OTHER = {
    "words run together": ("maji na moto", "majina moto"),
    "another accent": ("résumé", "resume"),
    "a vowel sign": ("कि", "की"),
    "another order": ("maji na moto", "moto na maji"),
    "more": ("maji na", "maji na maji"),
    "signs": ("♥♥", "♥"),
}


def whole(text: str) -> int:
    return int(words_of([text]).whole().hashes[0])


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_texts_that_a_reader_takes_for_one_are_one(one, other) -> None:
    assert whole(one) == whole(other)


@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
def test_other_texts_are_others(one, other) -> None:
    assert whole(one) != whole(other)


def test_the_normal_form_of_a_normal_form_is_itself() -> None:
    draw = random.Random(0)
    codes = [*range(0x20, 0x3000), *range(0xA000, 0xD7FF), *range(0xF900, 0x10000), *range(0x1D400, 0x1D800)]
    for _ in range(2000):
        form = normal_form("".join(chr(draw.choice(codes)) for _ in range(8)))
        assert normal_form(form) == form
        assert unicodedata.normalize("NFKD", form) == form


def test_hashes_are_the_same_on_every_machine_and_in_every_batch() -> None:
    assert whole("Habari ya asubuhi") == HABARI
    assert words_of(["maji", "", "Habari ya asubuhi"]).whole().hashes.tolist()[2] == HABARI


def test_letters_of_a_script_without_spaces_are_words_and_count_half() -> None:
    words = words_of(["がABCです", "ภาษา"])
    shown = [words.texts[0][start:end] for start, end in zip(words.start.tolist(), words.end.tolist(), strict=True)][:4]
    assert [unicodedata.normalize("NFC", of) for of in shown] == ["が", "abc", "で", "す"]
    assert words.weight.tolist() == [1, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_two_texts_share_a_window_where_they_share_so_many_words(seed) -> None:
    draw = random.Random(seed)
    texts = [[draw.choice("abc") for _ in range(draw.randint(0, 40))] for _ in range(30)]
    runs = [{tuple(of[i : i + 4]) for i in range(len(of) - 3)} for of in texts]
    windows = words_of([" ".join(of) for of in texts]).windows(4 * WORD)
    hashed = [set(windows.hashes[windows.text == i].tolist()) for i in range(len(texts))]
    for i in range(len(texts)):
        for j in range(len(texts)):
            assert len(runs[i] & runs[j]) == len(hashed[i] & hashed[j])


def test_lines_and_paragraphs_are_told_with_their_lengths() -> None:
    words = words_of(["Maji na\nmoto\n\n- kitabu,  shule\n", "jua\n \n\nmwezi"])
    lines, paragraphs = words.lines(), words.paragraphs()
    assert [words.shown(lines, i) for i in range(len(lines.text))] == [
        "maji na",
        "moto",
        "kitabu, shule",
        "jua",
        "mwezi",
    ]
    assert words.lengths(lines).tolist() == [7, 4, 12, 3, 5]
    assert [words.shown(paragraphs, i) for i in range(4)] == ["maji na moto", "kitabu, shule", "jua", "mwezi"]
    assert paragraphs.hashes[0] == whole("maji na moto")
