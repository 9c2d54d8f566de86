import re

import numpy as np
import pycountry
import pytest

from lingraft.errors import UserError
from lingraft.languages import parse_language


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
    ("given", "told"),
    [
        ("sw", "swa in ISO 639-3"),
        ("sw_Latn", "swa in ISO 639-3"),
        ("swahili", "swh is Swahili"),
        ("Swahili_Latn", "swh is Swahili"),
        ("swh_Latin", "did you mean 'swh_Latn'?"),
        ("swh-Latn", "did you mean 'swh_Latn'?"),
        ("swh_latn", "did you mean 'swh_Latn'?"),
        ("swh_Latx", "did you mean 'Latn'?"),
        ("xxq_Latn", "ISO 639-3 has no language 'xxq'"),
        ("qua1_Latn", "an ISO 639-3 language, an underscore and an ISO 15924 script"),
        ("", "an ISO 639-3 language, an underscore and an ISO 15924 script"),
    ],
)
def test_a_bad_code_is_an_error_that_helps(given, told):
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        parse_language(given)
    assert f"'{given}'" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted"), [("lug", "lug_"), ("lug_", "lug_"), ("LUG_Latn", "lug_Latn"), ("lug_LATN", "lug_Latn")]
)
def test_a_suggestion_leads_from_what_was_given_to_a_code(given, wanted):
    with pytest.raises(UserError) as caught:
        parse_language(given)
    hint = str(caught.value).split("such as swh_Latn")[1]
    assert wanted in hint


@pytest.mark.parametrize("end", ["\n", " ", "x"])
def test_nothing_may_stand_after_a_code(end):
    with pytest.raises(UserError, match="is not a language code"):
        parse_language(f"swh_Latn{end}")
