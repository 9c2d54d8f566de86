"""Measure a model on texts, alone or against its base: the function behind `lingraft evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.artefacts import check_file_target, write_json
from lingraft.checkpoints.read import DEFAULT_MAX_LENGTH, context_length, find_model, read_config
from lingraft.corpus.read import DroppedText, find_files, read_documents
from lingraft.errors import UserError
from lingraft.evaluation.compare import Role, compare
from lingraft.evaluation.measure import EvaluationSet, measure, measured_with
from lingraft.evaluation.questions import read_tasks
from lingraft.evaluation.samples import draw_prompts
from lingraft.languages import by_code, code_of

logger = logging.getLogger(__name__)


def evaluate(
    model: Path | str,
    text: Mapping[str, str | Sequence[str]],
    against: Path | str | None = None,
    learn: Sequence[str] = (),
    retain: Sequence[str] = (),
    max_length: int | None = None,
    text_field: str = "text",
    out: Path | str | None = None,
    tasks: Mapping[str, Mapping[str, str | Sequence[str]]] | None = None,
) -> dict[str, Any]:
    """Bits per byte of `model` per language, and the change from `against`; the form of `results.json`.

    A language is named by its code, or in any way that can mean only one. `text` maps a language to files or
    glob patterns, `tasks` the name of a task to languages and their files of questions (`evaluation.questions`).
    Without `against` only `after` is given.
    Windows are of `max_length` tokens (by default the smaller of 2048 and the models' context).

    Raises:
        UserError: text, models or languages that are not there, or roles without a text.
    """
    model, against = str(model), str(against) if against is not None else None
    if out is not None:
        check_file_target(Path(out))
    text, learn, retain = by_code(text), list(map(code_of, learn)), list(map(code_of, retain))
    roles: dict[str, Role] = {**dict.fromkeys(learn, "learn"), **dict.fromkeys(retain, "retain")}
    questions = {
        name: {code: _as_list(of) for code, of in by_code(files).items()} for name, files in (tasks or {}).items()
    }
    _check_languages(text, questions, learn, retain)
    texts = _texts(text, text_field)
    on = EvaluationSet(texts, read_tasks(questions), {code: draw_prompts(of) for code, of in texts.items()})
    folders = {name: find_model(name) for name in (model, against) if name is not None}
    length = _max_length(max_length, list(folders.values()))
    after = measure(folders[model], on, length)
    before = measure(folders[against], on, length) if against is not None else None
    results = {
        "schema": 1,
        "base": against,
        "model": model,
        "measured": measured_with(folders[model], length),
        **compare(on, after, before, roles),
    }
    if out is not None:
        write_json(Path(out), results)
    return results


def _as_list(patterns: str | Sequence[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _check_languages(
    text: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]], learn: Sequence[str], retain: Sequence[str]
) -> None:
    """Refuse roles of languages that are not measured, and two roles of one."""
    if not text:
        raise UserError("there is no text to measure on; give at least one, as in --text swh_Latn=FILE")
    both = sorted(set(learn) & set(retain))
    if both:
        raise UserError(f"{', '.join(both)}: given as learned and as retained; a language has one role")
    measured = dict.fromkeys([*text, *(code for files in tasks.values() for code in files)])
    for code in [*learn, *retain]:
        if code not in measured:
            raise UserError(f"{code} has a role but no text; add --text {code}=FILE (measured: {', '.join(measured)})")


def _texts(text: Mapping[str, str | Sequence[str]], text_field: str) -> dict[str, list[str]]:
    texts = {}
    for code, patterns in text.items():
        dropped = DroppedText()
        files = find_files(*_as_list(patterns))
        texts[code] = list(read_documents(files, text_field, dropped))
        if dropped:
            logger.warning("%s: left out: %s", code, dropped)
    return texts


def _max_length(given: int | None, folders: Sequence[Path]) -> int:
    contexts = [context_length(read_config(folder)) for folder in folders]
    if given is None:
        return min(DEFAULT_MAX_LENGTH, *contexts)
    if not 8 <= given <= min(contexts):
        raise UserError(f"--max-length {given}: allowed are 8 to {min(contexts)}, the context of the model")
    return given
