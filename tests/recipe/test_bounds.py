"""What YAML can say and no library after it can take is one word of ours: in files, overrides, mappings."""

from __future__ import annotations

import time

import pytest
import yaml

from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
HOSTILE = {
    "nested lists": ("validation: " + "[" * 3000, "nested deeper than 64 levels"),
    "nested mappings": ("validation: " + "{a: " * 3000, "nested deeper than 64 levels"),
    "nested blocks": ("\n".join("  " * i + "a:" for i in range(300)), "nested deeper than 64 levels"),
    "an alias bomb": (LAUGHS, "more than 100,000 values"),
    "a list that holds itself": ("corpus: &c [*c]", "nested deeper than 64 levels"),
    "a mapping that holds itself": ("method: &m {name: lora, more: *m}", "nested deeper than 64 levels"),
    "a null character": ('base: "a\\0b"', "base: holds a null character"),
    "a lone surrogate": ('base: "a\\ud800b"', "base: holds a lone surrogate"),
    "a null character in a key": ('training: {"a\\0b": 1}', "training: the key 'a\\x00b' holds a null character"),
    "a lone surrogate in a key": ('"a\\ud800": 1', "holds a lone surrogate"),
    "a number of 5,000 digits": ("seed: " + "9" * 5000, "4300 digits"),
    "a number of 5,000 hexadecimal digits": ("seed: 0x" + "f" * 5000, "seed: should be a number of at most 64 bits"),
    "a setting of 5,000 hexadecimal digits": ("training: {max_steps: 0x" + "f" * 5000 + "}", "at most 64 bits"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_at_once_in_words_that_can_be_printed(tmp_path, text, message) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert message in str(caught.value)
    assert str(caught.value).encode()
    assert len(str(caught.value)) < 1500
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=" + "[" * 3000, "nested deeper than 64 levels"),
        ("a." * 3000 + "b=1", "nested deeper than 64 levels"),
        ('base="a\\0b"', "base: holds a null character"),
        ('corpus.0.files="a\\ud800"', "corpus.0.files: holds a lone surrogate"),
        ("seed=" + "9" * 5000, "4300 digits"),
        ("corpus." + "9" * 5000 + ".files=x", "is not an index of a list"),
        ("corpus={a: &a [*a]}", "nested deeper than 64 levels"),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_override_is_refused(recipe, override, message) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, [override])
    assert message in str(caught.value)
    assert str(caught.value).encode()


def test_a_hostile_mapping_is_refused(recipe) -> None:
    recipe["validation"] = {"inside": recipe}
    with pytest.raises(RecipeError, match="nested deeper than 64 levels"):
        load_recipe(recipe)


def test_an_alias_is_a_copy(recipe, tmp_path) -> None:
    """An override changes what it names, and not what an alias makes equal to it."""
    stage = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    recipe["stages"] = {"one": stage, "two": stage}
    text = yaml.safe_dump(recipe)
    assert "*id001" in text
    (tmp_path / "recipe.yaml").write_text(text)
    stages = load_recipe(tmp_path / "recipe.yaml", ["stages.one.method.rank=5"]).stages
    assert (stages["one"].method.rank, stages["two"].method.rank) == (5, 2)
