"""The JSON Schemas that `lingraft schema` prints agree with what is read and written."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from lingraft.json_schema import SCHEMAS, attribute_docstrings, recipe_schema, results_schema
from lingraft.recipe.text import Validation
from lingraft.recipe.yaml import read_yaml

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))


@pytest.mark.integration
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path) -> None:
    jsonschema.validate(read_yaml(path), recipe_schema())


@pytest.mark.parametrize(
    "change",
    [{"metod": {}}, {"method": {"name": "layra", "frist": 1}}, {"languages": {"heldout": ["fra_Latn"]}}, {"seed": -1}],
)
def test_what_is_no_recipe_is_not_valid(change) -> None:
    values = read_yaml(RECIPES[0]) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, recipe_schema())


def test_a_recipe_has_a_method_or_stages() -> None:
    schema = recipe_schema()
    stage = {"method": {"name": "full"}}
    values = {"base": "x", "languages": {"learn": ["swh_Latn"]}}
    jsonschema.validate(values | stage, schema)
    jsonschema.validate(values | {"stages": {"one": stage}}, schema)
    for wrong in (values, values | stage | {"stages": {"one": stage}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_key_is_described_by_the_docstring_below_it() -> None:
    assert attribute_docstrings(Validation)["blocks"].startswith("Blocks per language")
    assert recipe_schema()["$defs"]["Validation"]["properties"]["blocks"]["description"].startswith("Blocks per")
    assert "mean over retained languages" in results_schema()["properties"]["forgetting"]["description"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_command_prints_it(run_cli, name) -> None:
    code, printed, _ = run_cli("schema", name)
    assert (code, json.loads(printed)) == (0, SCHEMAS[name]())


def test_an_unknown_schema_is_refused(run_cli) -> None:
    code, _, error = run_cli("schema", "reslts")
    assert code == 2
    assert "allowed are recipe, results (did you mean 'results'?)" in error


@pytest.mark.parametrize(
    "keys",
    [
        {"evaluation": {"tasks": {"sums": {"swh_Latn": "sums.jsonl"}}}},
        {"evaluation": {"tasks": {"sums": {"files": {"swh_Latn": ["a.jsonl"]}, "metric": "chrf", "chat": True}}}},
        {"evaluation": {"suites": ["layra"], "datasets": "benchmarks", "limit": 10}},
        {"sweep": {"runs": [{"name": "a", "method.rank": 8}], "grid": {"seed": [0, 1]}, "max_parallel": 2}},
    ],
)
def test_all_forms_of_questions_suites_and_sweeps_are_valid(keys) -> None:
    jsonschema.validate(read_yaml(RECIPES[0]) | keys, recipe_schema())


def test_a_sweep_of_another_form_is_not_valid() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read_yaml(RECIPES[0]) | {"sweep": {"grid": {"seed": 3}}}, recipe_schema())
