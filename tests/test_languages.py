import re

import numpy as np
import pycountry
import pytest

import lingraft
from lingraft.errors import RecipeError, UserError
from lingraft.languages import by_code, code_of, parse_language
from lingraft.recipe import load_recipe, recipe_yaml


@pytest.mark.parametrize(
    ("code", "name", "script"),
    [
        ("swh_Latn", "Swahili (individual language)", "Latin"),
        ("arb_Arab", "Standard Arabic", "Arabic"),
        ("shw_Latn", "Shwai", "Latin"),  # a slip of swh, and a language too
    ],
)
def test_a_code_names_its_language_and_script(code, name, script):
    assert parse_language(code) == (code, name, script)


def random_languages(count):
    return np.random.default_rng(1).choice(np.array(list(pycountry.languages), dtype=object), count)


def test_every_language_of_the_standard_can_be_named_in_every_script():
    random = np.random.default_rng(0)
    languages = random.choice([language.alpha_3 for language in pycountry.languages], 50)
    scripts = random.choice([script.alpha_4 for script in pycountry.scripts], 50)
    for language, script in zip(languages, scripts, strict=True):
        parsed = parse_language(f"{language}_{script}")
        assert parsed.name == pycountry.languages.get(alpha_3=language).name
        assert parsed.script == pycountry.scripts.get(alpha_4=script).name


@pytest.mark.parametrize("language", ["qaa", "qmx", "qtz"])
def test_the_private_use_range_is_allowed(language):
    assert parse_language(f"{language}_Latn").name == f"private-use language {language}"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        *dict.fromkeys(["gl", "glg", "Galician", "galician", "GL", "glg_Latn"], "glg_Latn").items(),
        *dict.fromkeys(["Swahili", "swh", "Swahili_Latn", "swh_latn", "swh-Latn", "swh_Latin"], "swh_Latn").items(),
        *dict.fromkeys(["sr-Latn", "Serbian_Latn", "srp_LATN"], "srp_Latn").items(),
        *dict.fromkeys(["de", "ger", "deu", "German"], "deu_Latn").items(),
        ("greek", "ell_Grek"),
        ("Bangla", "ben_Beng"),
        ("Iranian Persian", "pes_Arab"),
        ("ja", "jpn_Jpan"),
    ],
)
def test_a_name_that_can_mean_one_language_stands_for_its_code(given, code):
    assert code_of(given) == code
    assert parse_language(code).code == code


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sr", "Serbian is written in several scripts: srp_Cyrl or srp_Latn"),
        ("sw", "Swahili (macrolanguage), swa in ISO 639-3, is several languages: swc (Congo Swahili) or swh (Swahili"),
        ("sw_Latn", "is several languages: swc (Congo Swahili) or swh (Swahili"),
        ("Persian", "is several languages: pes (Iranian Persian) or prs (Dari)"),
        ("norwegian", "is several languages: nno (Norwegian Nynorsk) or nob (Norwegian Bokmål)"),
        ("ngu", "Guerrero Nahuatl needs its script, as in ngu_Latn"),
        ("qaa", "it needs its script, as in qaa_Latn"),
        ("und", "needs its script"),
        ("Galicain", "did you mean 'Galician'?"),
        ("swh_Latx", "did you mean 'Latn'?"),
        ("xxq_Latn", "ISO 639-3 has no language 'xxq'"),
        ("qua1_Latn", "an ISO 639-3 language, an underscore and an ISO 15924 script"),
        ("", "an ISO 639-3 language, an underscore and an ISO 15924 script"),
        ("_Latn", "an ISO 639-3 language, an underscore and an ISO 15924 script"),
        ("swh_", "did you mean 'swh'?"),
    ],
)
def test_a_name_of_none_or_of_several_languages_is_an_error_that_helps(given, told):
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        parse_language(given)
    assert f"'{given}'" in str(caught.value)


def test_every_language_by_its_code_alone_is_itself_or_an_error():
    for language in random_languages(300):
        try:
            found = code_of(language.alpha_3)
        except UserError as error:
            found = str(error)
        assert re.search(f"{language.alpha_3}_|is several languages", found)


def test_two_names_of_one_language_are_refused_where_each_is_given_once():
    assert by_code({"gl": 1, "eng_Latn": 2}) == {"glg_Latn": 1, "eng_Latn": 2}
    with pytest.raises(UserError, match="glg_Latn is named twice"):
        by_code({"gl": 1, "glg_Latn": 2})


@pytest.mark.parametrize("end", ["\n", " ", "x"])
def test_nothing_may_stand_after_a_code(end):
    with pytest.raises(UserError, match="is not a language code"):
        parse_language(f"swh_Latn{end}")


def test_every_place_that_takes_a_language_records_its_code(recipe, base, texts, tmp_path):
    recipe["languages"] = {"learn": ["Swahili"], "retain": ["en", "spa"]}
    recipe["corpus"][0]["language"] = "swh"
    recipe["corpus"].append({"parallel": {"en": "a", "Spanish": "b"}, "hub": "x", "share": 0.1})
    recipe["evaluation"] = {
        "text": {"English": str(texts["eng_Latn"]), "es": str(texts["spa_Latn"])},
        "tasks": {"cloze": {"en": str(texts["eng_Latn"])}},
    }
    text = recipe_yaml(load_recipe(recipe))
    assert re.findall(r"swahili|english|spanish|\ben\b|\bes\b|swh\b(?!_)", text.lower().replace("swh_latn", "")) == []
    measured = lingraft.evaluate(base, {"English": str(texts["eng_Latn"])}, max_length=32, retain=["en"])
    assert list(measured["languages"]) == ["eng_Latn"]
    assert measured["languages"]["eng_Latn"]["role"] == "retain"
    assert list(lingraft.tokenizer.fertility([base], {"gl": str(texts["spa_Latn"])})["models"][str(base)]) == [
        "glg_Latn"
    ]
    assert "learn: [glg_Latn], retain: [eng_Latn]" in lingraft.init(
        str(base), ["gl"], ["English"], out=tmp_path / "r.yaml"
    )


def test_one_language_under_two_names_is_a_problem_of_the_recipe(recipe, texts):
    recipe["evaluation"]["text"]["English"] = str(texts["eng_Latn"])
    with pytest.raises(RecipeError, match=r"evaluation\.text: 'English': eng_Latn is named twice"):
        load_recipe(recipe)


def test_a_thousand_wrong_names_cost_no_walk_through_the_standard_each(monkeypatch):
    def refuse(name: str) -> None:
        with pytest.raises(UserError):
            code_of(name)

    refuse("Galicain")
    monkeypatch.setattr(type(pycountry.languages), "__iter__", lambda _: pytest.fail("walked through it"))
    for name in ("Galicain", "glgg", "no such language", "zzz_Latn", "Greeek_Latn"):
        refuse(name)
