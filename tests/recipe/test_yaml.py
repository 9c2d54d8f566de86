import random
import re
from contextlib import suppress

import pytest

from lingraft.errors import RecipeError
from lingraft.recipe.overrides import override
from lingraft.recipe.yaml import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3e-4", 3e-4),
        ("1e5", 1e5),
        ("-2.5E+3", -2500.0),
        ("1.5e-8", 1.5e-8),
        ("0.05", 0.05),
        ("1_000", 1000),
        ("50_000_000", 50_000_000),
        ("-7", -7),
    ],
)
def test_numbers_are_numbers(text, number):
    value = parse_yaml(text, "recipe")
    assert (value, type(value)) == (number, type(number))


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "NO", "On", "y", "n", "swh_Latn", "e5", "tRue"])
def test_words_are_words(word):
    assert parse_yaml(word, "recipe") == word


@pytest.mark.parametrize(
    "word", ["true_north", "True story", "falsehood", "3e-4-run", "1e5 words", "2e-5/checkpoint", "7e3b"]
)
def test_a_word_that_starts_like_a_value_is_a_word(word):
    assert parse_yaml(word, "recipe") == word


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True), ("null", None)])
def test_truth_and_nothing_are_values(text, value):
    assert parse_yaml(text, "recipe") is value


@pytest.mark.parametrize("quoted", ["'3e-4'", '"1_000"', "'true'", "'null'"])
def test_what_is_quoted_is_text(quoted):
    assert parse_yaml(quoted, "recipe") == quoted[1:-1]


def test_a_nested_recipe_is_read_as_it_stands():
    text = "a:\n  - b: 1\n    c: [x, 'y']\n  - {d: null}\ne: {}\n"
    assert parse_yaml(text, "recipe") == {"a": [{"b": 1, "c": ["x", "y"]}, {"d": None}], "e": {}}


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!path x",
        "!!str 5",
        "!!set {x}",
        "!!int word",
        "!!bool word",
        "[1, !!binary eA==]",
    ],
)
def test_a_tag_is_refused_with_its_line(value):
    with pytest.raises(RecipeError) as caught:
        parse_yaml(f"a: 1\nb: {value}\n", "recipe")
    assert re.search(r"line 2, column \d+: .*tags .* are not allowed", str(caught.value))


@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\nb: 2\na: 3\n", 3), ("a:\n  b: 1\n  b: 1\n", 3), ("a:\n  - {b: 1, b: 2}\n", 2)]
)
def test_a_key_that_is_given_twice_is_refused_with_its_line(text, line):
    with pytest.raises(RecipeError, match=rf"line {line}, column \d+: the key '[ab]' is given twice"):
        parse_yaml(text, "recipe")


def test_one_key_may_stand_in_several_mappings():
    assert parse_yaml("a: {name: x}\nb: {name: y}", "recipe") == {"a": {"name": "x"}, "b": {"name": "y"}}


@pytest.mark.parametrize("text", ["1: x", "true: x", "null: x", "[a]: x", "a:\n  2.5: x"])
def test_a_key_that_is_no_text_is_refused_with_its_line(text):
    with pytest.raises(RecipeError, match=r"line \d, column \d: the key .* is not text"):
        parse_yaml(text, "recipe")


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [1, 2", "a: 1\nb: 'x", "a: 1\n\tb: 2", "a: 1\nb: x: y", "a: 1\nb: *nothing"]
)
def test_what_is_no_yaml_is_refused_with_its_line(text):
    with pytest.raises(RecipeError, match=r"my\.yaml: 1 problem\n  line [23], column \d+: "):
        parse_yaml(text, "my.yaml")


@pytest.mark.parametrize("text", ["2024-13-45", "0x_", "0b_", "9" * 5000], ids=lambda text: text[:10])
def test_a_value_that_cannot_be_built_is_a_word_or_refused(text):
    with suppress(RecipeError):
        assert parse_yaml(f"a: {text}", "recipe") == {"a": text}


@pytest.mark.parametrize("text", ["a: \x07", "a: \ud800"], ids=ascii)
def test_a_character_that_yaml_does_not_allow_is_refused(text):
    with pytest.raises(RecipeError, match="special characters are not allowed"):
        parse_yaml(text, "recipe")


def test_any_text_is_a_value_or_an_error_of_ours():
    chance = random.Random(0)
    pieces = [
        *"ab19_-+.:,[]{}'\"#&*!|>%@?\n\t ",
        "\n  ",
        ": ",
        "- ",
        "true",
        "1e",
        "e-3",
        "0x",
        "<<",
        "null",
        "2020-01-01",
    ]
    for _ in range(3000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        with suppress(RecipeError):
            parse_yaml(text, "recipe")


def test_a_file_is_read_as_a_mapping(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("# habari\nbase: ./tiny-ọ̀rọ̀\nseed: 3\n".encode())
    assert read_yaml(path) == {"base": "./tiny-ọ̀rọ̀", "seed": 3}


@pytest.mark.parametrize("text", ["", "# nothing", "- a\n- b\n", "word", "5"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="a recipe is a mapping of keys to values"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.yaml", "No such file"),
        ("folder", "Is a directory"),
        ("latin.yaml", "utf-8"),
        ("/dev/zero", "a device or a pipe"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"base: caf\xe9")
    with pytest.raises(RecipeError) as caught:
        read_yaml(tmp_path / name)
    assert f"{tmp_path / name}: 1 problem\n  cannot be read: " in str(caught.value)
    assert reason in str(caught.value)


def recipe():
    return {
        "base": "x",
        "method": {"name": "layra", "first": 10},
        "corpus": [{"language": "swh_Latn", "tokens": 5}, {"language": "eng_Latn"}],
        "languages": {"learn": ["swh_Latn"], "retain": None},
    }


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("base=y", ["base"], "y"),
        ("seed=1_000", ["seed"], 1000),
        ("method.first=3", ["method", "first"], 3),
        ("training.learning_rate=3e-4", ["training", "learning_rate"], 3e-4),
        ("a.b.c=no", ["a", "b", "c"], "no"),
        ("corpus.1.language=fra_Latn", ["corpus", 1, "language"], "fra_Latn"),
        ("corpus.0.tokens=7", ["corpus", 0, "tokens"], 7),
        ("languages.learn.0=yor_Latn", ["languages", "learn"], ["yor_Latn"]),
        ("languages.learn.1=yor_Latn", ["languages", "learn"], ["swh_Latn", "yor_Latn"]),
        ("languages.retain.0=eng_Latn", ["languages", "retain"], ["eng_Latn"]),
        ("languages.observe.0=fra_Latn", ["languages", "observe"], ["fra_Latn"]),
        ("languages.learn=[yor_Latn, ibo_Latn]", ["languages", "learn"], ["yor_Latn", "ibo_Latn"]),
        ("corpus.2={language: fra_Latn, share: 0.1}", ["corpus", 2], {"language": "fra_Latn", "share": 0.1}),
        ("corpus=[{language: fra_Latn}]", ["corpus"], [{"language": "fra_Latn"}]),
        ("base=a=b", ["base"], "a=b"),
        ("max_length=", ["max_length"], None),
    ],
)
def test_an_override_sets_its_value(assignment, path, value):
    values = recipe()
    override(values, [assignment])
    for key in path:
        values = values[key]
    assert values == value


def test_an_override_leaves_the_rest_as_it_is():
    values = recipe()
    override(values, ["corpus.1.language=fra_Latn", "method.first=3"])
    expected = recipe()
    expected["corpus"][1]["language"] = "fra_Latn"
    expected["method"]["first"] = 3
    assert values == expected


def test_overrides_apply_in_their_order():
    values = recipe()
    override(values, ["languages.learn.1=yor_Latn", "languages.learn.2=ibo_Latn", "languages.learn.0=hau_Latn"])
    assert values["languages"]["learn"] == ["hau_Latn", "yor_Latn", "ibo_Latn"]


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("base.x=1", "stands below a single value"),
        ("base.x.y=1", "stands below a single value"),
        ("method.first.0=1", "stands below a single value"),
        ("corpus.0.tokens.x=1", "stands below a single value"),
        ("seed", "overrides are key.path=value"),
        ("=5", "overrides are key.path=value"),
        ("", "overrides are key.path=value"),
        ("corpus.3.language=x", "'3' is not an index of a list of 2"),
        ("corpus.2.language=x", "'2' is not an index of a list of 2"),
        ("corpus.3=x", "'3' is not an index of a list of 2"),
        ("corpus.-1.language=x", "'-1' is not an index of a list of 2"),
        ("corpus.language=x", "'language' is not an index of a list of 2"),
        ("corpus.².language=x", "'²' is not an index of a list of 2"),
        ("seed=[1", "expected"),
        ("seed=!!python/name:os.system", "tags .* are not allowed"),
        ("method={name: lora, name: full}", "the key 'name' is given twice"),
    ],
)
def test_an_override_that_cannot_be_is_an_error_that_says_why(assignment, problem):
    with pytest.raises(RecipeError, match=problem):
        override(recipe(), [assignment])


@pytest.mark.parametrize(
    ("assignments", "method"),
    [
        (["method.name=full"], {"name": "full"}),
        (["method.name=layra"], {"name": "layra", "first": 10}),
        (["method.name=lora", "method.rank=8"], {"name": "lora", "rank": 8}),
        (["method.rank=8", "method.name=lora"], {"rank": 8, "name": "lora"}),
        (["method.first=3"], {"name": "layra", "first": 3}),
    ],
)
def test_another_method_drops_the_settings_of_the_old_one_in_the_file(assignments, method):
    for place, prefix in ((recipe(), ""), ({"stages": {"one": recipe()}}, "stages.one.")):
        override(place, [prefix + assignment for assignment in assignments])
        assert (place["stages"]["one"] if prefix else place)["method"] == method


@pytest.mark.parametrize(
    ("assignment", "step"),
    [
        ("merge.0.soup=[x]", {"soup": ["x"]}),
        ("merge.0.instruct=other", {"instruct": "other", "scale": 0.5}),
        ("merge.0.scale=0.7", {"instruct": "x", "scale": 0.7}),
    ],
)
def test_another_step_drops_the_settings_of_the_old_one(assignment, step):
    values = {"merge": [{"instruct": "x", "scale": 0.5}]}
    override(values, [assignment])
    assert values == {"merge": [step]}
