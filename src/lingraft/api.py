"""The public functions: `lingraft.run` and its siblings, one behind each command.

Each imports what it needs when it is called, so that `import lingraft` loads no torch. `lingraft.merge` and
`lingraft.tokenizer` are namespaces of functions, in `merging/methods.py` and `vocabulary/tokenizer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingraft.corpus.read import Split
    from lingraft.papers.table import Size
    from lingraft.recipe.goals import Goal
    from lingraft.recipe.starter import TextByLanguage

NAMESPACES = {"merge": "lingraft.merging.methods", "tokenizer": "lingraft.vocabulary.tokenizer"}
"""Public name -> the module of its functions."""


def run(
    recipe: Path | str | dict[str, Any],
    out: Path | str,
    overrides: Sequence[str] = (),
    beside: Sequence[Path | str] = (),
    only: str | None = None,
) -> dict[str, Any]:
    """Graft languages onto a base as a recipe says; returns what `results.json` holds.

    `out` receives `model/`, `adapter/` where the method has one, `results.json`, `report.html`,
    `recipe.resolved.yaml` and `lingraft.json`; `work/` keeps the artefacts of the steps. Started
    again with the same recipe, a run goes on where it stopped. `beside`: folders of other runs, whose artefacts of the
    same inputs are taken: tokens, the split, self-generated text, the measurement of the base.

    A recipe with a `sweep` is many runs: `out` has a folder for each, and one `report.html`; what is returned are the
    results by name. `only` chooses runs by name or pattern.

    Raises:
        RecipeError: all problems of the recipe.
        OutputError: `out` holds something else.
        CorpusError, ModelError, TrainingError: problems of text, base or settings.
    """
    from lingraft.errors import UserError
    from lingraft.pipeline.run import run_recipe
    from lingraft.pipeline.sweep import run_sweep
    from lingraft.recipe.sweep import read_sweep

    if sweep := read_sweep(recipe):
        return run_sweep(recipe, sweep, out, overrides, beside, only)
    if only is not None:
        raise UserError(f"--only {only}: the recipe has no 'sweep', so it is one run; leave it out")
    return run_recipe(recipe, out, overrides, beside)


def evaluate(
    model: Path | str,
    text: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
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
    """Bits per byte of `model` per language, and the change from `against`; the form of `results.json`.

    A language is named by its code, or by any name that means only one language. `text` maps a language to files or
    glob patterns, `tasks` the name of a task to languages and their files of questions, or to these as `files` beside
    other keys (`evaluation.questions`).
    Without `against` only `after` is given.
    `split` says what a document of plain text is (`corpus.plain_text`); by default the lines between blank lines.
    Windows are of `max_length` tokens (by default the smaller of 2048 and the models' context).
    `suites` are suites of tasks of lm-evaluation-harness by name or path (`evaluation.task_suites`), measured in all of
    these languages that they have; `datasets` is a folder with their data sets, which else come from the hub, and
    `limit` the questions of each task.

    Raises:
        UserError: text, models or languages that do not exist, or roles without a text.
    """
    from lingraft.evaluation.evaluate import evaluate_model

    return evaluate_model(
        model, text, against, learn, retain, max_length, text_field, out, tasks, split, suites, datasets, limit
    )


def diagnose(
    what: str,
    run: Path | str,
    out: Path | str,
    first: int | None = None,
    last: int | None = None,
    max_documents: int | None = None,
    pairs: Mapping[str, str] | None = None,
    suites: Sequence[str] = (),
    datasets: Path | str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Say why a finished run learned and forgot; writes a JSON file, and a page of the same name (`.html`) beside it.

    `drift`: how far each layer moved from the base. `interpolation`: bits per byte, in-context abilities and `suites`
    (with `datasets` and `limit`, as of `evaluate`) while one layer group at a time goes from the base's weights to the
    result's; `first` and `last` are its layer groups, by default the method's, `max_documents` the documents of each
    language. `lens`: which language and script each layer would go on in. `gates`: singular values of adapters' gating
    matrices, and how open gates are by language. `alignment`, of a run or of any model: in which layers sentences of
    the same meaning lie closest; `pairs` maps `eng_Latn:eng,swh_Latn:swh`, two languages with the fields of their
    sentences, to a file.

    Raises:
        UserError: no such diagnosis, a folder that is no finished run, or one without the text it was measured on.
        ModelError: the result has other shapes than its base.
    """
    from lingraft.diagnosis.base import Settings
    from lingraft.diagnosis.page import diagnose_run

    folder = None if datasets is None else str(datasets)
    return diagnose_run(what, run, out, Settings(first, last, max_documents, pairs, suites, folder, limit))


def report(folders: Sequence[Path | str], out: Path | str) -> None:
    """Draw the results of one or more folders (or `results.json` files) in one report.

    Files of `lingraft tokenizer fertility` are drawn beside them, or alone.

    Raises:
        UserError: a folder without results, or a file of another form or schema.
        OutputError: `out` cannot be written, is something else, or is read.
    """
    from lingraft.reporting.page import write_report

    write_report(folders, out)


def generate(
    model: Path | str,
    prompts: str | Sequence[str],
    against: Path | str | None = None,
    chat: bool = False,
    max_tokens: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Continue prompts, each by itself, with a model and with the base that it is `against`.

    Returns for each `prompt` what the model makes of it, `after`, and its base, `before`. A prompt is the beginning of
    a document, after the document's BOS; with `chat` it is a message in the model's chat template. At temperature 0
    each token is the likeliest.

    Raises:
        UserError: no prompt, or one that the model's context has no room for.
        ModelError: models that cannot be read, or have no chat template.
    """
    from lingraft.evaluation.generate import generate_texts

    return generate_texts(model, prompts, against, chat, max_tokens, temperature, seed)


def init(
    base: str,
    learn: Sequence[str],
    retain: Sequence[str] | TextByLanguage = (),
    goal: Goal = "balanced",
    out: Path | str = "recipe.yaml",
    text: str | Sequence[str] | TextByLanguage = (),
) -> str:
    """Write a recipe for grafting `learn` onto `base` while keeping `retain`; returns its text.

    `text` are files of the learned language, or files by language; `retain` may have files to measure on. A retained
    language without files is measured on text that the base generates. A base with a chat template keeps its chat too.
    The layer range is fitted to the base's depth where its config can be read here, and is the paper's otherwise.

    Raises:
        UserError: codes that are no languages, a goal that does not exist, a folder that is no model.
        OutputError: `out` exists.
    """
    from lingraft.recipe.starter import write_recipe

    return write_recipe(base, learn, retain, goal, out, text)


def advise(
    recipe: Path | str | None = None,
    base: str | None = None,
    learn: Sequence[str] = (),
    text: str | Sequence[str] | TextByLanguage = (),
    retain: Sequence[str] | TextByLanguage = (),
    goal: Goal = "balanced",
    pairs: Mapping[str, str] | None = None,
    out: Path | str | None = None,
    rehearsal: Path | str | None = None,
) -> dict[str, Any]:
    """Say how to graft, before anything trains: of a recipe, or of a base and the languages to learn.

    Measures what can be measured from here (fertility, amount of text, what the base knows of it, alignment of `pairs`
    as `diagnose` reads them), and returns `facts`, `advice` (each with its reason and its source) and `unknown`, what
    the rules cannot tell. Beside a recipe, `differs` says what it has instead. `rehearsal` is the folder for a run of
    the recipe on a twentieth of its tokens, from which learning and forgetting are foretold (`advice.foretell`). `out`
    receives the same as JSON.

    Raises:
        UserError: neither recipe nor base, or both; a goal, languages or text that do not exist.
        ModelError: a base that cannot be read.
        OutputError: `out` is something else.
    """
    from lingraft.advice.advise import advise_on

    return advise_on(recipe, base, learn, text, retain, goal, pairs, out, rehearsal)


def reproduce(table: str, out: Path | str, size: Size = "testbed", seeds: int = 1) -> dict[str, Any]:
    """Run the rows of a paper's table as one sweep, and set the paper's figures beside ours.

    `size` is the testbed, the small model of the tutorial, or the paper's own base (`papers.table`). `out` receives
    `recipe.yaml`, which is the sweep, `runs/`, and `table.html` and `table.json`. Started again, it goes on.

    Raises:
        UserError: no such table or size, or an `out` that holds something else.
    """
    from lingraft.papers.reproduce import reproduce_table

    return reproduce_table(table, out, size, seeds)


def demo(
    out: Path | str = "lingraft-demo", seed: int = 0, runs: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Graft a new language onto the testbed's base in several ways; returns the results by run.

    `runs`: name -> the settings in which a recipe differs; all are in `RUNS`, and the default is `STORY`.

    `out` receives the testbed's files, a recipe and a folder for each run, and
    `report.html` with all of them. The base is trained on first use and kept in the user's cache.
    Started again, it goes on where it stopped; another seed is another world.

    Raises:
        UserError: a seed that is negative or does not fit 32 bits.
        OutputError: `out` holds something else, or another process works in it.
    """
    from lingraft.synthetic.demo import run_demo

    return run_demo(out, seed, runs)
