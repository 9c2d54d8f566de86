"""Advice for a base and its languages, or for a recipe, as `lingraft.advise` gives it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from lingraft.advice.facts import gather
from lingraft.advice.foretell import rehearsal_text, rehearse
from lingraft.advice.rules import RULES, Advice, unknown
from lingraft.cache import read_record, write_json
from lingraft.corpus.formats import as_list
from lingraft.errors import UserError, nearest
from lingraft.languages import CHAT, code_of
from lingraft.output_paths import file_target
from lingraft.recipe import Recipe, load_recipe, recipe_yaml
from lingraft.recipe.goals import GOALS, Goal
from lingraft.recipe.overrides import found as value_at
from lingraft.recipe.starter import TextByLanguage, base_config

_WIDTH = 116


def advise_on(
    recipe: Path | str | None,
    base: str | None,
    learn: Sequence[str],
    text: TextByLanguage,
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
    if rehearsal is not None and recipe is None:
        raise UserError(f"--rehearse {rehearsal}: a recipe is rehearsed; give one")
    target = file_target(out, lambda path: "advice" in (read_record(path) or {})) if out is not None else None
    given = load_recipe(Path(recipe), runs_here=False) if recipe is not None else None
    if given is not None:
        base, learned = str(given.base), _texts_of(given)
        retained = {code: as_list(given.evaluation.text.get(code)) for code in given.languages.retained}
    else:
        if not learn:
            raise UserError("no language to learn; give one or more, as in --learn swh_Latn")
        learned = {code_of(name): [] for name in learn} | {code_of(k): as_list(v) for k, v in text.items()}
        named = retain if isinstance(retain, Mapping) else dict.fromkeys(retain)
        retained = {code_of(name): as_list(files) for name, files in named.items() if name != CHAT}
        if strange := [code for code in learned if code not in map(code_of, learn)]:
            raise UserError(f"--text {strange[0]}: {strange[0]} is not learned ({', '.join(learn)})")
    facts = gather(str(base), base_config(str(base)), learned, retained, pairs)
    found = [advice for rule in RULES if (advice := rule(facts, goal))]
    result: dict[str, Any] = {
        "schema": 1,
        "goal": goal,
        "facts": list(facts.lines()),
        "advice": [{**asdict(advice), **_compared(advice, given)} for advice in found],
        "unknown": unknown(facts, goal),
    }
    if rehearsal is not None and recipe is not None:
        result["rehearsal"] = rehearse(load_recipe(Path(recipe)), rehearsal)
    if target is not None:
        write_json(target, result)
    return result


def _texts_of(recipe: Recipe) -> dict[str, list[str]]:
    """Learned language -> the files that train; none where they come from elsewhere."""
    found: dict[str, list[str]] = {code: [] for code in recipe.languages.learn}
    for stage in recipe.stages.values():
        for entry in stage.corpus or []:
            if entry.language in found:
                found[entry.language] += as_list(getattr(entry, "files", None))
    return found


def _compared(advice: Advice, recipe: Recipe | None) -> dict[str, Any]:
    """What the recipe has in place of what is advised: `differs`, path -> its own value."""
    if recipe is None:
        return {}
    values = yaml.safe_load(recipe_yaml(recipe))
    own = {path: value_at(values, path) for path in advice.keys}
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
            shown = "; ".join(f"{path} is {_shown(value)}" for path, value in advice["differs"].items())
            lines.append(f"  in the recipe: {shown or 'the same'}")
    if rehearsal := result.get("rehearsal"):
        lines += ["", *rehearsal_text(rehearsal)]
    lines += ["", "not known", *(_indented(line, "  ") for line in result["unknown"])]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _indented(text: str, indent: str) -> str:
    return textwrap.fill(
        text.replace(" %", "\u00a0%"),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )
