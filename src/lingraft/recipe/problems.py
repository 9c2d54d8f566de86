"""Messages about the form of a recipe: `path.to.key: what is wrong (given: value)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

from lingraft.errors import nearest
from lingraft.methods import METHODS
from lingraft.penalties import PENALTIES
from lingraft.recipe.merge_steps import STEPS
from lingraft.recipe.renamed import new_key, new_value
from lingraft.recipe.schema import STAGE_KEYS, Recipe, Vocabulary
from lingraft.recipe.stage import Averaging, EarlyStopping, Penalties, Replay, Stage
from lingraft.recipe.text import CorpusEntry, Evaluation, Instructions, Languages, Validation

SECTIONS: dict[str, type[BaseModel]] = {
    "languages": Languages,
    "vocabulary": Vocabulary,
    "corpus": CorpusEntry,
    "instructions": Instructions,
    "validation": Validation,
    "penalties": Penalties,
    "replay": Replay,
    "early_stopping": EarlyStopping,
    "averaging": Averaging,
    "evaluation": Evaluation,
}


def describe(problem: dict[str, Any]) -> str:
    """Turn one of pydantic's errors into a line."""
    location, section = _place([str(part) for part in problem["loc"]])
    path = ".".join(location)
    kind, given = problem["type"], problem["input"]
    inner = location[2:] if location[:1] == ["stages"] else location
    if kind == "extra_forbidden" and (name := new_key(location)) in section.model_fields:
        return f"{path}: this key is called '{name}' now"
    if kind == "extra_forbidden":
        keys = [*section.model_fields, *(STAGE_KEYS if section is Recipe else ())]
        return f"{path}: unknown key{nearest(location[-1], keys)}; allowed here: {', '.join(keys)}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "union_tag_not_found" and inner[0] == "merge":
        keys = list(given) if isinstance(given, dict) else [str(given)]
        if name := next(filter(None, (new_key([*location, str(key)]) for key in keys)), None):
            return f"{path}.{keys[0]}: this key is called '{name}' now"
        return f"{path}: no step of this kind{nearest(' '.join(map(str, keys)), STEPS)}; steps: {', '.join(STEPS)}"
    if kind == "union_tag_not_found":
        return f"{path}.name: is missing; methods: {', '.join(METHODS)}"
    if kind == "union_tag_invalid":
        name = str(problem["ctx"]["tag"])
        return f"{path}.name: there is no method '{name}'{nearest(name, METHODS)}; methods: {', '.join(METHODS)}"
    if name := new_value(location, given):
        return f"{path}: '{given}' is called '{name}' now"
    message: str = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return (f"{path}: " if path else "") + message + ("" if kind == "value_error" else f" (given: {repr(given)[:200]})")


def shown(place: Sequence[str | int]) -> str:
    """Return a place in a recipe as messages name it."""
    return ".".join(map(str, place))[:200] or "recipe"


def _place(location: list[str]) -> tuple[list[str], type[BaseModel]]:
    """Return pydantic's location as the recipe has it, and the section that contains it.

    pydantic puts the name there by which it told methods, or steps, apart.
    """
    if location[:1] == ["stages"] and len(location) > 2:
        of_stage, section = _within(location[2:], Stage)
        return [*location[:2], *of_stage], section
    return _within(location, Recipe)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first section in a type, as in a list of sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _within(location: list[str], section: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """Do the same within a recipe, or within one stage."""
    start = 1
    if len(location) > 1:
        section = SECTIONS.get(location[0], section)
    if location[:1] == ["penalties"] and len(location) > 2:
        section, start = PENALTIES.get(location[1], section), 2
    for key, at, forms in (("method", 1, METHODS), ("merge", 2, STEPS)):
        if location[:1] == [key] and len(location) > at and location[at] in forms:
            section, start = forms[location.pop(at)], at
    for key in location[start:-1]:
        if key in section.model_fields:
            section = _section_in(section.model_fields[key].annotation) or section
    return location, section
