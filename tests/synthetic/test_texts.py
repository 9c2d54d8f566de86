"""The testbed's languages and texts, as their files hold them."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest

from lingraft.corpus.read import read_texts
from lingraft.evaluation.questions import read_questions
from lingraft.languages import parse_language
from lingraft.synthetic import NEW, OLD, TASKS, files, measured_file, questions_file, training_file, write_testbed
from lingraft.synthetic.files import BIRTHS
from lingraft.synthetic.language import NAMES, draw_languages, kept_words
from lingraft.synthetic.world import CONCEPTS, PEOPLE, PROPERTIES, STRANGERS, Fact, draw_world, values

pytestmark = pytest.mark.integration

CODES = (*OLD, NEW)
SEEDS = range(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("testbed")
    write_testbed(path, seed=0)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jsonl")}


def test_the_same_seed_writes_the_same_bytes(folder, tmp_path) -> None:
    write_testbed(tmp_path, seed=0)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_is_another_world(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "TRAINING_DOCUMENTS", 10)
    write_testbed(tmp_path, seed=1)
    assert contents(tmp_path).keys() == contents(folder).keys()
    assert all(contents(folder)[name] != content for name, content in contents(tmp_path).items())
    assert draw_world(0).facts != draw_world(1).facts


@pytest.mark.parametrize("seed", SEEDS)
def test_every_concept_has_a_word_of_its_own(seed) -> None:
    for language in draw_languages(seed, BIRTHS).values():
        assert {*CONCEPTS} < {*language.words}
        assert len(set(language.words.values())) == len(language.words)


@pytest.mark.parametrize("seed", SEEDS)
def test_relatives_have_words_that_are_alike_and_strangers_have_not(seed) -> None:
    languages = draw_languages(seed, BIRTHS)
    concepts = [concept for concept in CONCEPTS if concept not in NAMES]

    def likeness(one: str, other: str) -> float:
        pairs = [(languages[one].words[concept], languages[other].words[concept]) for concept in concepts]
        return sum(SequenceMatcher(None, *pair, autojunk=False).ratio() for pair in pairs) / len(pairs)

    relatives, strangers = likeness("qaa_Latn", NEW), likeness("qab_Latn", NEW)
    assert relatives > 0.6 > 0.45 > strangers
    assert relatives < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_relatives_keep_about_as_many_words_in_every_world(seed) -> None:
    languages = draw_languages(seed, BIRTHS)
    assert 0.3 <= kept_words(languages["qaa_Latn"], languages[NEW]) <= 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_languages_differ_in_word_order_and_families_in_affixes(seed) -> None:
    families = {birth.code: birth.family for birth in BIRTHS}
    for one, other in combinations(draw_languages(seed, BIRTHS).values(), 2):
        assert one.order != other.order
        assert one.affixes != other.affixes or families[one.code] == families[other.code]


def test_text_is_in_the_script_of_its_code(folder) -> None:
    alphabets = {"Latin": range(0x61, 0x7B), "Cyrillic": range(0x430, 0x460)}
    for code in CODES:
        own = [text for text in read_texts(measured_file(folder, code)) if "=" not in text]
        letters = {letter for text in own for letter in text if letter.isalpha()}
        assert len(letters) > 10
        assert all(ord(letter) in alphabets[parse_language(code).script] for letter in letters)


def test_the_new_language_is_met_alone(folder) -> None:
    assert not any("=" in text for text in read_texts(training_file(folder, NEW)))
    assert any("=" in text for text in read_texts(training_file(folder, OLD[0])))


def test_measured_text_is_other_text_than_what_trains(folder) -> None:
    for code in CODES:
        assert len(read_texts(measured_file(folder, code))) == files.MEASURED_DOCUMENTS
        assert not set(read_texts(measured_file(folder, code))) & set(read_texts(training_file(folder, code)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("code", CODES)
def test_answers_stand_at_every_place_equally_often(folder, task, code) -> None:
    answers = [question.answer for question in read_questions([questions_file(folder, task, code)])]
    assert len(answers) == files.QUESTIONS
    assert all(6 <= answers.count(place) <= 28 for place in range(4))


@pytest.mark.parametrize("code", CODES)
def test_a_cloze_asks_what_is_so_in_the_world(folder, code) -> None:
    language, world = draw_languages(0, BIRTHS)[code], draw_world(0)
    true = {language.sentence(fact) for fact in world.facts}
    for question in read_questions([questions_file(folder, "cloze", code)]):
        told = [(question.context + choice).removesuffix(".").split(". ") for choice in question.choices]
        assert all(f"{known}." in true for known, _ in told)
        assert [f"{asked}." in true for _, asked in told] == [place == question.answer for place in range(4)]


@pytest.mark.parametrize("code", CODES)
def test_neither_the_passage_nor_the_question_alone_gives_the_answer(folder, code) -> None:
    """One wrong choice stands in the passage too, and two others are of the property that is asked for."""
    language = draw_languages(0, BIRTHS)[code]
    kinds = {language.answer(Fact("person.0", prop, value)): prop for prop in PROPERTIES for value in values(prop)}
    for question in read_questions([questions_file(folder, "comprehension", code)]):
        told = question.context.split("\n")[0].replace(".", " ").split()
        right, *wrong = sorted(question.choices, key=lambda choice: choice != question.choices[question.answer])
        assert right.strip(" .") in told
        assert sorted((choice.strip(" .") in told, kinds[choice] == kinds[right]) for choice in wrong) == [
            (False, True),
            (False, True),
            (True, False),
        ]


def test_what_a_passage_tells_is_known_from_nowhere_else(folder) -> None:
    """Strangers have no facts of their own: their values differ from passage to passage."""
    language = draw_languages(0, BIRTHS)["qaa_Latn"]
    people = {language.words[person] for person in PEOPLE}
    for question in read_questions([questions_file(folder, "comprehension", "qaa_Latn")]):
        assert not any(word.startswith(person) for word in question.context.split() for person in people)


@pytest.mark.parametrize("code", CODES)
def test_one_translation_says_the_same_and_none_is_known_to_be_so(folder, code) -> None:
    languages = draw_languages(0, BIRTHS)
    sayable = [Fact(who, prop, value) for who in STRANGERS for prop in PROPERTIES for value in values(prop)]
    meaning = {language.sentence(fact): fact for language in languages.values() for fact in sayable}
    for question in read_questions([questions_file(folder, "translation", code)]):
        source = meaning[question.context.removesuffix(" =")]
        said = [meaning[choice.strip()] for choice in question.choices]
        assert [fact == source for fact in said] == [place == question.answer for place in range(4)]
        assert all(fact.value in values(fact.prop) for fact in said)


def test_questions_differ(folder) -> None:
    for task in TASKS:
        lines = questions_file(folder, task, NEW).read_text().splitlines()
        assert len(set(lines)) == files.QUESTIONS


def test_a_world_has_a_fact_for_every_person_and_property() -> None:
    facts = draw_world(0).facts
    assert len({(fact.person, fact.prop) for fact in facts}) == len(PEOPLE) * len(PROPERTIES) == len(facts)
    assert len({fact.value for fact in facts}) > 45
