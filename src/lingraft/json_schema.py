"""JSON Schemas of what users read and write: recipes, and `results.json`.

A key's description is the docstring below its attribute.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, in the short form of one stage and in the form with `stages`."""
    from lingraft.corpus.sources import SOURCES
    from lingraft.recipe.schema import STAGE_KEYS, Recipe
    from lingraft.recipe.sweep import Sweep

    schema = _schema_of(Recipe)
    stage, entry = (schema["$defs"][name]["properties"] for name in ("Stage", "CorpusEntry"))
    for source in SOURCES.values():
        for key, text in attribute_docstrings(source).items():
            entry[key].setdefault("description", text)
    schema["properties"] |= {key: stage[key] for key in STAGE_KEYS}
    schema["properties"]["sweep"] = {"$ref": "#/$defs/Sweep", "description": "Many runs that differ in some keys."}
    schema["$defs"]["Sweep"] = {key: of for key, of in _schema_of(Sweep).items() if key != "$schema"}
    schema["required"] = [key for key in schema["required"] if key != "stages"]
    schema["oneOf"] = [{"required": ["stages"]}, {"required": ["method"]}]
    return schema


def results_schema() -> dict[str, Any]:
    """The JSON Schema of `results.json`."""
    from lingraft.schema import Results

    return _schema_of(Results)


SCHEMAS = {"recipe": recipe_schema, "results": results_schema}
"""What `lingraft schema` can print."""


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_WithDescriptions)
    return {"$schema": DIALECT, **schema}


class _WithDescriptions(GenerateJsonSchema):
    """As pydantic's, with descriptions of attributes; pydantic's own would read sources at each import."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        descriptions: dict[str, str] = {}
        for base in reversed(model.__mro__):
            if issubclass(base, BaseModel) and base is not BaseModel:
                descriptions |= attribute_docstrings(base)
        for name, field in model.model_fields.items():
            place = json.get("properties", {}).get(field.alias or name)
            if place is not None and name in descriptions:
                place.setdefault("description", descriptions[name])
        return json


def attribute_docstrings(owner: type) -> dict[str, str]:
    """Attribute of a class -> the docstring below it; attributes without one are left out."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    except (OSError, TypeError):  # made at run time
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = inspect.cleandoc(text)
    return found
