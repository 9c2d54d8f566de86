"""The commands: each one calls the Python function of its name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import lingraft
from lingraft.cli import merge, tokenizer
from lingraft.cli.beside import print_beside, read_prompts
from lingraft.cli.console import is_main_process, say_written, speak
from lingraft.cli.options import (
    FILES,
    ForGoal,
    LearnedText,
    Retained,
    Split,
    codes,
    example,
    files,
    kept,
    pairs,
    sentences,
    tasks,
)
from lingraft.cli.publish import EXAMPLE, publish
from lingraft.errors import UserError, nearest

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Add new languages to a pretrained language model without losing the old ones, and prove it.",
)
app.add_typer(merge.app, name="merge")
app.add_typer(tokenizer.app, name="tokenizer")


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lingraft {lingraft.__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and end.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more, and messages of libraries too.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Log warnings and errors only.")] = False,
) -> None:
    if verbose and quiet:
        raise UserError("-v logs more and -q logs less; give one of them")
    speak(more=verbose, less=quiet)


def _load_quietly() -> None:
    """Hide progress bars of loading and FutureWarnings of libraries; downloads keep their bars."""
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    disable_progress_bar()
    enable_progress_bars()


@app.command(epilog=example("lingraft demo --out lingraft-demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and their report.")] = Path("lingraft-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the world, its languages and the training.")] = 0,
    every: Annotated[bool, typer.Option("--all", help="Every method, not only the five main ones.")] = False,
) -> None:
    """See it work: an artificial language grafted in five ways, one report, no download, in minutes."""
    from lingraft.synthetic.demo import RUNS

    _load_quietly()
    for name, results in lingraft.demo(out, seed, RUNS if every else None).items():
        learning, forgetting = 100 * results["learning"], 100 * results["forgetting"]
        typer.echo(f"{name:18} learning {learning:+6.1f} %  forgetting {forgetting:+6.1f} %")
    say_written(out / "report.html")


@app.command(
    epilog=example(
        "lingraft init --base google/gemma-3-1b-it --learn swh_Latn --text 'swahili/*.jsonl' --retain eng_Latn"
    )
)
def init(
    base: Annotated[str, typer.Option(help="Hub name or folder of the base model.")],
    learn: Annotated[str, typer.Option(help="Languages to learn, as in swh_Latn,glg_Latn.")],
    text: LearnedText = None,
    retain: Retained = None,
    goal: ForGoal = "balanced",
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a first recipe."""
    recipe = lingraft.init(base, codes(learn), kept(retain or []), goal, out, files(text or []))  # type: ignore[arg-type]
    typer.echo(recipe, nl=False)
    say_written(out, escape(f"; check it with: lingraft run {out} --out OUT --dry-run"))


@app.command(
    epilog=example(
        "lingraft advise --base google/gemma-3-1b-pt --learn swh_Latn --text 'swahili/*.jsonl' --retain eng_Latn"
    )
)
def advise(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe to be advised about.")] = None,
    base: Annotated[str | None, typer.Option(help="Without a recipe: hub name or folder of the base model.")] = None,
    learn: Annotated[str, typer.Option(help="Languages to learn, as in swh_Latn,glg_Latn.")] = "",
    text: LearnedText = None,
    retain: Retained = None,
    goal: ForGoal = "balanced",
    pair: Annotated[
        list[str] | None, typer.Option("--pairs", help="Pairs of sentences: eng_Latn:eng,swh_Latn:swh=FILE.")
    ] = None,
    rehearse: Annotated[
        Path | None,
        typer.Option(help="Folder for a run on a twentieth of the tokens, which foretells learning and forgetting."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A JSON file to write the advice to.")] = None,
) -> None:
    """Say how to graft, before anything trains: method, rate, replay, new tokens, amount; each with its source."""
    from lingraft.advice.advise import advice_text

    _load_quietly()
    advice = lingraft.advise(
        recipe,
        base,
        codes(learn),
        files(text or []),
        kept(retain or []),
        goal,  # type: ignore[arg-type]
        sentences(pair or []),
        out,
        rehearse,
    )
    typer.echo(advice_text(advice))
    if out is not None:
        say_written(out)


@app.command(epilog=example("lingraft run recipe.yaml --out runs/swahili training.learning_rate=1e-4"))
def run(
    recipe: Annotated[
        Path, typer.Argument(help="The recipe, a YAML file; relative paths in it start at its own folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model, the results and the report.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key.path=value]...",
            help="In place of what the recipe says; relative paths start at the current folder. Another method.name "
            "drops the old method's settings.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and the plan only.")] = False,
    only: Annotated[
        str | None, typer.Option(help="Of a recipe with a sweep: names or patterns of runs, with commas between.")
    ] = None,
) -> None:
    """Graft languages as a recipe says. Starting it again resumes it."""
    from lingraft.recipe.sweep import points_of, read_sweep

    _load_quietly()
    sweep = read_sweep(recipe)
    if not dry_run:
        results = lingraft.run(recipe, out, overrides or [], only=only)
        if sweep:
            _print_runs(results)
            say_written(out / "report.html")
        else:
            _print_results(results)
        return
    if sweep:
        from lingraft.pipeline.sweep import check_recipes, chosen_of

        chosen = chosen_of(points_of(sweep, str(recipe)), only)
        check_recipes(recipe, chosen, overrides or [])
        for point in chosen:
            typer.echo(point.name)
        return
    from lingraft.pipeline.check import check_models_here
    from lingraft.pipeline.plan import whole_plan
    from lingraft.pipeline.run_directory import check_output, run_target
    from lingraft.recipe import load_recipe, recipe_yaml

    resolved = load_recipe(recipe, overrides or [], runs_here=False)
    check_output(run_target(out, resolved), resolved)
    check_models_here(resolved)
    typer.echo(recipe_yaml(resolved))
    typer.echo(whole_plan(resolved))


@app.command(
    epilog=example(
        "lingraft evaluate runs/swahili/model --against google/gemma-3-1b-pt --text "
        "swh_Latn=swahili.jsonl --text eng_Latn=english.jsonl --learn swh_Latn --retain eng_Latn --out "
        "results.json"
    )
)
def evaluate(
    model: Annotated[str, typer.Argument(help="Hub name or folder of the model.")],
    out: Annotated[Path, typer.Option(help="The results file to write.")],
    text: Annotated[list[str] | None, typer.Option(help=f"LANGUAGE=FILE, as often as needed. {FILES}")] = None,
    against: Annotated[str | None, typer.Option(help="The base to compare with.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="NAME:LANGUAGE=FILE of your own questions.")] = None,
    learn: Annotated[str, typer.Option(help="Languages that were learned.")] = "",
    retain: Annotated[str, typer.Option(help="Languages that were to be retained.")] = "",
    max_length: Annotated[int | None, typer.Option(help="Window in tokens.")] = None,
    text_field: Annotated[str, typer.Option(help="The field of a record that holds the text.")] = "text",
    split: Split = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmarks: a suite (layra, family-experts, …), a file of your own, or a task of the harness."
        ),
    ] = None,
    datasets: Annotated[
        Path | None, typer.Option(help="A folder with the suites' data sets; without one they come from the hub.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions of each task of a suite; all by default.")] = None,
) -> None:
    """Measure a model on texts and tasks, alone or against its base."""
    _load_quietly()
    results = lingraft.evaluate(
        model,
        pairs(text or [], "--text"),
        against,
        codes(learn),
        codes(retain),
        max_length,
        text_field,
        out,
        tasks(task or []),
        split,  # type: ignore[arg-type]
        suite or [],
        datasets,
        limit,
    )
    _print_results(results)


@app.command(epilog=example("lingraft diagnose interpolation runs/swahili --out interpolation.json"))
def diagnose(
    what: Annotated[str, typer.Argument(help="drift, interpolation, lens, gates or alignment.")],
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; of alignment, of a run or a model.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write; a page with the figures is written beside it.")],
    first: Annotated[int | None, typer.Option(help="Of interpolation: layers of the first group.")] = None,
    last: Annotated[int | None, typer.Option(help="Of interpolation: layers of the last group.")] = None,
    max_documents: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of interpolation: documents of each language, all by default; of lens and gates 16 at most."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option("--pairs", help="Of alignment: eng_Latn:eng,swh_Latn:swh=FILE, two languages with their fields."),
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="Of interpolation: benchmarks that are measured too, as of evaluate.")
    ] = None,
    datasets: Annotated[Path | None, typer.Option(help="A folder with the suites' data sets.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions of each task of a suite; all by default.")] = None,
) -> None:
    """Say why a run learned and forgot: which weights moved, what that costs and gives, what layers and gates do."""
    _load_quietly()
    lingraft.diagnose(what, run, out, first, last, max_documents, sentences(pair or []), suite or [], datasets, limit)
    say_written(out)
    say_written(out.with_suffix(".html"))


@app.command(epilog=example("lingraft generate runs/swahili 'Habari ya' --against google/gemma-3-1b-pt"))
def generate(
    model: Annotated[str, typer.Argument(help="Hub name or folder of the model, or the folder of a run.")],
    prompt: Annotated[
        str, typer.Argument(help="The beginning of a text, or - for standard input, a prompt a line.")
    ] = "-",
    against: Annotated[str | None, typer.Option(help="The base, whose text is shown beside.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a message; use the chat template.")] = False,
    max_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; 1 draws as the model says.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
) -> None:
    """Let a model go on with a text or answer a message, beside its base."""
    _load_quietly()
    prompts = read_prompts() if prompt == "-" else [prompt]
    for answer in lingraft.generate(model, prompts, against, chat, max_tokens, temperature, seed):
        print_beside(answer)


@app.command(epilog=example("lingraft report runs/swahili runs/galician --out report.html"))
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, results files, fertility files.")],
    out: Annotated[Path, typer.Option(help="The report to write.")],
) -> None:
    """Draw results of runs, and fertility of tokenizers, in one report."""
    lingraft.report(folders, out)
    say_written(out)


@app.command(epilog=example("lingraft reproduce neutral-gates --out gates"))
def reproduce(
    table: Annotated[str, typer.Argument(help="Name of a table; 'list' shows all.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, the table and its page.")] = Path("reproduced"),
    size: Annotated[str, typer.Option(help="testbed, small (SmolLM2 and Chichewa) or paper.")] = "testbed",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the sweep of the table only.")] = False,
) -> None:
    """Run a table of one of the papers, and set its figures beside ours."""
    from lingraft.papers.reproduce import recipe_text
    from lingraft.papers.table import read_table, table_names

    _load_quietly()
    if table == "list":
        for name in table_names():
            of = read_table(name)
            typer.echo(f"{name:18} {of.title} ({of.source}); {', '.join(of.sizes)}")
        return
    if dry_run:
        typer.echo(recipe_text(table, size, seeds, None), nl=False)  # type: ignore[arg-type]
        return
    found = lingraft.reproduce(table, out, size, seeds)  # type: ignore[arg-type]
    width = max(len(row["row"]) for row in found["rows"])
    for row in found["rows"]:
        theirs = f"paper {row['paper']['learned']:8.3f} {row['paper']['retained']:8.3f}"
        ours = f"learning {row['learning']:+6.1f} %  forgetting {row['forgetting']:+6.1f} %"
        typer.echo(f"{row['row']:{width}}  {theirs}  {ours}")
    for sentence in found["sentences"]:
        typer.echo(sentence)
    say_written(out / "table.html")


app.command(epilog=EXAMPLE)(publish)


@app.command(epilog=example("lingraft schema recipe"))
def schema(
    what: Annotated[str, typer.Argument(help="recipe or results.")] = "recipe",
) -> None:
    """Print the JSON Schema of a recipe, with which editors complete and check keys, or of results.json."""
    from lingraft.json_schema import SCHEMAS

    if what not in SCHEMAS:
        raise UserError(f"schema {what}: allowed are {', '.join(SCHEMAS)}{nearest(what, SCHEMAS)}")
    typer.echo(json.dumps(SCHEMAS[what](), indent=2, ensure_ascii=False))


def _print_runs(results: dict[str, dict[str, Any]]) -> None:
    """Learning and forgetting of each run of a sweep."""
    width = max(map(len, results))
    for name, of in results.items():
        shown = "  ".join(f"{key} {100 * of[key]:+6.1f} %" for key in ("learning", "forgetting") if key in of)
        typer.echo(f"{name:{width}}  {shown}")


def _print_results(results: dict[str, Any]) -> None:
    """Bits per byte and accuracies on standard output, one line each."""
    if not is_main_process():
        return
    for code, entry in results["languages"].items():
        bits = entry["bits_per_byte"]
        before = f"{bits['before']:.4f} -> " if "before" in bits else ""
        change = f"  {100 * (bits['after'] / bits['before'] - 1):+.1f} %" if "before" in bits else ""
        typer.echo(f"{code}  {entry['role']:7}  {before}{bits['after']:.4f} bits per byte{change}")
    for name, task in results["tasks"].items():
        for code, entry in task["languages"].items():
            score, metric = entry["score"], "" if task["metric"] == "accuracy" else f", {task['metric']}"
            before = f"{100 * score['before']:.1f} -> " if "before" in score else ""
            typer.echo(f"{code}  {entry['role']:7}  {before}{100 * score['after']:.1f} % of {name}{metric}")
    if chat := results.get("chat"):
        _print_chat(chat)
    for name in ("learning", "forgetting"):
        if name in results:
            typer.echo(f"{name} {100 * results[name]:+.1f} %")


def _print_chat(chat: dict[str, Any]) -> None:
    """What became of the base's chat, in three lines."""
    bits, right = chat["bits_per_byte"], chat["right"]
    before = f"{bits['before']:.4f} -> " if "before" in bits else ""
    change = f"  {100 * (bits['after'] / bits['before'] - 1):+.1f} %" if "before" in bits else ""
    typer.echo(f"chat      retain   {before}{bits['after']:.4f} bits per byte of the base's own answers{change}")
    before = f"{right['before']} -> " if "before" in right else ""
    typer.echo(f"chat      retain   {before}{right['after']} of {chat['known']} known questions right")
    if "same_beginning" in chat:
        share, count = 100 * chat["same_beginning"], chat["conversations"]
        typer.echo(f"chat      retain   {share:.0f} % of {count} answers begin as before, chrF {chat['chrf']:.2f}")
