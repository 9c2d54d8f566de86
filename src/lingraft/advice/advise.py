"""Advice for a base and its languages, or for a recipe, as `lingraft.advise` gives it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from lingraft.advice.facts import TextPart, gather
from lingraft.advice.foretell import prepare_rehearsal, rehearsal_text, rehearse
from lingraft.advice.rules import RULES, Advice, unknown
from lingraft.cache import read_record, write_json
from lingraft.corpus.formats import as_list
from lingraft.corpus.sources.files import FileSource
from lingraft.errors import UserError, nearest
from lingraft.languages import CHAT
from lingraft.output_paths import file_target
from lingraft.recipe import Recipe, load_recipe, recipe_yaml
from lingraft.recipe.goals import GOALS, Goal
from lingraft.recipe.overrides import found as value_at
from lingraft.recipe.starter import TextByLanguage, base_config, read_languages
from lingraft.recipe.sweep import points_of, read_sweep

_WIDTH = 116


def advise_on(
    recipe: Path | str | None,
    base: str | None,
    learn: Sequence[str],
    text: str | Sequence[str] | TextByLanguage,
    retain: Sequence[str] | TextByLanguage,
    goal: Goal,
    pairs: Mapping[str, str] | None,
    out: Path | str | None,
    rehearsal: Path | str | None = None,
) -> dict[str, Any]:
    """As `lingraft.advise`."""
    if goal not in GOALS:
        raise UserError(f"--goal {goal}: there is no such goal; goals: {', '.join(GOALS)}{nearest(goal, GOALS)}")
    if (recipe is None) == (base is None):
        raise UserError("give either a recipe, or --base with --learn")
    if recipe is None and rehearsal is not None:
        raise UserError(f"--rehearse {rehearsal}: a recipe is rehearsed; give one")
    if recipe is not None and (learn or text or retain):
        raise UserError("--learn, --text and --retain are for a base; the recipe names its own languages and text")
    target = file_target(out, lambda path: "advice" in (read_record(path) or {})) if out is not None else None
    given = _read(Path(recipe)) if recipe is not None else None
    if given is not None:
        base, parts = str(given.base), _parts_of(given)
        learned = {code: parts.get(code, []) for code in given.languages.learn}
        retained = {code: _evaluated(given, code) for code in given.languages.retained}
    else:
        texts, kept = read_languages(learn, text, retain)
        learned = {code: _of_files(files) for code, files in texts.items()}
        retained = {code: _of_files(files) for code, files in kept if code != CHAT}
    values = prepare_rehearsal(given, rehearsal) if given is not None and rehearsal is not None else None
    facts = gather(str(base), base_config(str(base)), learned, retained, pairs)
    found = [advice for rule in RULES if (advice := rule(facts, goal))]
    own = yaml.safe_load(recipe_yaml(given)) if given is not None else None
    result: dict[str, Any] = {
        "schema": 1,
        "goal": goal,
        "facts": list(facts.lines()),
        "advice": [{**asdict(advice), **_compared(advice, given, own)} for advice in found],
        "unknown": unknown(facts, goal, rehearsal is not None),
    }
    if given is not None and values is not None and rehearsal is not None:
        result["rehearsal"] = rehearse(given, values, rehearsal)
    if target is not None:
        write_json(target, result)
    return result


def _read(recipe: Path) -> Recipe:
    """A recipe; of one with a sweep, its first run."""
    sweep = read_sweep(recipe)
    point = points_of(sweep, str(recipe))[0].values if sweep else None
    return load_recipe(recipe, runs_here=False, point=point)


def _of_files(files: Sequence[str]) -> list[TextPart]:
    return [(FileSource(files=list(files)), 0)] if files else []


def _parts_of(recipe: Recipe) -> dict[str, list[TextPart]]:
    """Language -> the sources of its text in all stages, each once."""
    found: dict[str, list[TextPart]] = {}
    for stage in recipe.stages.values():
        for entry in stage.corpus or []:
            for column, code in enumerate(entry.languages):
                part = (entry.source, column)
                if part not in found.setdefault(code, []):
                    found[code].append(part)
    return found


def _evaluated(recipe: Recipe, code: str) -> list[TextPart]:
    """The text on which a language is measured."""
    evaluation = recipe.evaluation
    files = as_list(evaluation.text.get(code))
    if not files:
        return []
    return [(FileSource(files=files, text_field=evaluation.text_field, split=evaluation.split), 0)]


def _compared(advice: Advice, recipe: Recipe | None, values: Any) -> dict[str, Any]:
    """What the recipe, of these values, has in place of what is advised: `differs`, path -> its own value."""
    if recipe is None:
        return {}
    own = {path: value_at(values, path) for path in advice.keys}
    if not recipe.is_short:  # in a stage's own keys, the last stage's
        stage = {path: value_at(values, f"stages.{recipe.last}.{path}") for path in advice.keys}
        own = {path: stage[path] if value is None else value for path, value in own.items()}
    return {"differs": {path: own[path] for path, value in advice.keys.items() if not _agrees(own[path], value)}}


def _agrees(own: Any, advised: Any) -> bool:
    """Whether a value of a recipe says what is advised; of a section, all that is advised."""
    if isinstance(advised, Mapping):
        return isinstance(own, Mapping) and all(_agrees(own.get(key), value) for key, value in advised.items())
    if isinstance(advised, list):
        return isinstance(own, list) and all(any(_agrees(one, value) for one in own) for value in advised)
    return bool(own == advised)


def advice_text(result: Mapping[str, Any]) -> str:
    """The advice for a terminal."""
    lines = ["measured", *(_indented(fact, "  ") for fact in result["facts"])]
    for advice in result["advice"]:
        lines += ["", f"{advice['topic']}: {advice['choice']}", _indented(advice["reason"], "  ")]
        lines.append(f"  [{advice['source']}]")
        if "differs" in advice and advice["keys"]:
            shown = "; ".join(
                f"{path} is {_shown(value, advice['keys'][path])}" for path, value in advice["differs"].items()
            )
            lines.append(f"  in the recipe: {shown or 'the same'}")
    if rehearsal := result.get("rehearsal"):
        lines += ["", *rehearsal_text(rehearsal)]
    lines += ["", "not known", *(_indented(line, "  ") for line in result["unknown"])]
    return "\n".join(lines)


def _shown(value: Any, advised: Any) -> str:
    """A value as a recipe has it; of a section, the keys that are advised about."""
    if value is None:
        return "not set"
    own = {key: value.get(key) for key in advised} if isinstance(value, Mapping) else value
    return yaml.safe_dump(own, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _indented(text: str, indent: str) -> str:
    return textwrap.fill(
        text.replace(" %", "\u00a0%"),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )
