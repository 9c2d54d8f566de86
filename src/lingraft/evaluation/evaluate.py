"""Measure a model on texts, alone or against its base: the function behind `lingraft evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from lingraft.cache import write_json
from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.document_marks import document_marks, marks_like
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import (
    DEFAULT_MAX_LENGTH,
    context_length,
    find_model,
    model_files,
    read_config,
    read_tokenizer,
)
from lingraft.corpus.formats import as_list
from lingraft.corpus.read import DroppedText, Split, check_split, find_files, read_documents
from lingraft.errors import UserError
from lingraft.evaluation import NUM_CONVERSATIONS
from lingraft.evaluation.chat import Chat, generate_exchanges
from lingraft.evaluation.compare import compare
from lingraft.evaluation.harness import load_suites
from lingraft.evaluation.measure import measure, measured_with, model_to_measure
from lingraft.evaluation.questions import GivenTask, TaskFiles, read_tasks
from lingraft.evaluation.suites import list_suites
from lingraft.input_files import Sources
from lingraft.languages import CHAT, Role, by_code, code_of
from lingraft.output_paths import file_target, is_results
from lingraft.schema import SCHEMA, Results

logger = logging.getLogger(__name__)


def evaluate_model(
    model: Path | str,
    text: Mapping[str, str | Sequence[str]],
    against: Path | str | None = None,
    learn: Sequence[str] = (),
    retain: Sequence[str] = (),
    max_length: int | None = None,
    text_field: str = "text",
    out: Path | str | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    split: Split | None = None,
    suites: Sequence[str] = (),
    datasets: Path | str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """As `lingraft.evaluate`."""
    model, against = str(model), str(against) if against is not None else None
    with_chat = CHAT in retain
    text, learn = by_code(text), list(map(code_of, learn))
    retain = [code_of(name) for name in retain if name != CHAT]
    roles: dict[str, Role] = {**dict.fromkeys(learn, "learn"), **dict.fromkeys(retain, "retain")}
    questions = {name: _task(name, given) for name, given in (tasks or {}).items()}
    _check_languages(text, questions, suites, learn, retain)
    target = out if out is None else file_target(out, is_results, _read_paths(model, against, text, questions))
    texts = _texts(text, text_field, split)
    codes = list(dict.fromkeys([*learn, *retain, *text, *(code for task in questions.values() for code in task.files)]))
    of_harness, lacking = load_suites(suites, codes, str(datasets) if datasets else None, limit)
    of_text, others = list_suites(texts, read_tasks(questions), of_harness)
    measured = [*([of_text] if texts else []), *others]
    if with_chat and against is None:
        raise UserError("--retain chat: what is retained is the chat of a base; give it, with --against")
    folders = {name: find_model(name) for name in (model, against) if name is not None}
    for folder in folders.values():
        check_model(folder)
    length = _max_length(max_length, list(folders.values()))
    if with_chat:
        measured.append(_chat_of(folders[str(against)]))
    sources = Sources(lambda: {name: model_files(folder) for name, folder in folders.items()})
    marks = document_marks(folders[against or model])  # a graft may have got a chat template, which its base lacks
    own = marks_like(marks, folders[model])
    after = measure(folders[model], measured, length, own)
    before = measure(folders[against], measured, length, marks) if against is not None else None
    sources.check()
    lacks: dict[str, Any] = {"lacking": lacking} if lacking else {}
    results = Results(
        schema=SCHEMA,
        base=public_name(against) if against else None,
        model=public_name(model),
        measured=measured_with(folders[model], length, own),
        **compare(measured, after, before, roles),
        **lacks,
    ).to_json()
    if target is not None:
        write_json(target, results)
    return results


def _task(name: str, given: Any) -> TaskFiles:
    try:
        return TypeAdapter[TaskFiles](GivenTask).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(["tasks", name, *map(str, problem["loc"])])
        raise UserError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from None


def _chat_of(base: Path) -> Chat:
    """Let a base generate the conversations on which its chat is measured."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Chat(generate_exchanges(model_to_measure(base), read_tokenizer(base), NUM_CONVERSATIONS))


def _read_paths(
    model: str, against: str | None, text: Mapping[str, Any], questions: Mapping[str, TaskFiles]
) -> list[Path | str]:
    files = [text, *(given for task in questions.values() for given in (task.files, task.examples))]
    patterns = [pattern for given in files for one in given.values() for pattern in as_list(one)]
    return [model, *([against] if against else []), *find_files(*patterns)]


def _check_languages(
    text: Mapping[str, Any],
    tasks: Mapping[str, TaskFiles],
    suites: Sequence[str],
    learn: Sequence[str],
    retain: Sequence[str],
) -> None:
    """Refuse a role for a language that is not measured, and two roles for one language."""
    if not text and not tasks and not (suites and (learn or retain)):
        example = "--suite layra --learn swh_Latn" if suites else "--text swh_Latn=FILE"
        raise UserError(f"there is nothing to measure on; give at least one language, as in {example}")
    both = sorted(set(learn) & set(retain))
    if both:
        raise UserError(f"{', '.join(both)}: given as learned and as retained; a language has one role")
    measured = dict.fromkeys([*text, *(code for task in tasks.values() for code in task.files)])
    for code in [*learn, *retain]:
        if code not in measured and not suites:
            raise UserError(f"{code} has a role but no text; add --text {code}=FILE (measured: {', '.join(measured)})")


def _texts(text: Mapping[str, str | Sequence[str]], text_field: str, split: Split | None) -> dict[str, list[str]]:
    files = {code: find_files(*as_list(patterns)) for code, patterns in text.items()}
    check_split(split, [path for paths in files.values() for path in paths])
    texts = {}
    for code, paths in files.items():
        dropped = DroppedText()
        texts[code] = list(read_documents(paths, text_field, dropped, split))
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
