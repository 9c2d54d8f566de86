"""`lingraft tokenizer …`: each command is the function of its name in `lingraft.tokenizer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import lingraft
from lingraft.cli.console import say_written
from lingraft.cli.options import FILES, Split, example, pairs

app = typer.Typer(
    no_args_is_help=True,
    help="Tokenizers: measure fertility, and add new tokens.",
)

TextField = Annotated[str, typer.Option(help="The field of a record that holds the text.")]


@app.command(
    epilog=example(
        "lingraft tokenizer fertility google/gemma-3-1b-pt --text swh_Latn=swahili.jsonl --text "
        "eng_Latn=english.jsonl --out fertility.json"
    )
)
def fertility(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders or hub names.")],
    text: Annotated[
        list[str], typer.Option(help=f"LANGUAGE=FILE, as often as needed; English to compare with. {FILES}")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON, for 'lingraft report'.")] = None,
    text_field: TextField = "text",
    split: Split = None,
) -> None:
    """Tokens per word and language, and the share of byte-fallback tokens."""
    measured = lingraft.tokenizer.fertility(models, pairs(text, "--text"), text_field=text_field, split=split, out=out)  # type: ignore[arg-type]
    for model, languages in measured["models"].items():
        _print_table(model, languages)


@app.command(
    epilog=example(
        "lingraft tokenizer extend google/gemma-3-1b-pt --text swahili.jsonl --tokens 8000 --out gemma-swahili"
    )
)
def extend(
    model: Annotated[str, typer.Argument(help="Folder or hub name of the base model.")],
    text: Annotated[list[str], typer.Option(help=f"FILE of text in the new language, as often as needed. {FILES}")],
    out: Annotated[Path, typer.Option(help="Folder to write: new, empty, or an earlier extension.")],
    tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 20_000,
    init: Annotated[
        str, typer.Option(help="Rows of new tokens: mean, subtoken-mean or subtoken-mean-norm.")
    ] = "subtoken-mean",
    text_field: TextField = "text",
    split: Split = None,
) -> None:
    """Add new tokens: continue the tokenizer's own byte-pair encoding."""
    out = lingraft.tokenizer.extend(model, text, tokens, out, init=init, text_field=text_field, split=split)  # type: ignore[arg-type]
    say_written(out)


def _print_table(model: str, languages: dict[str, dict[str, Any]]) -> None:
    """Print the figures on standard output; the cost is missing without English."""
    typer.echo(model)
    typer.echo(f"  {'language':10} {'tokens/word':>11} {'bytes/token':>11} {'byte share':>10} {'cost':>6}")
    for code, counts in languages.items():
        cost = f"{counts['cost']:6.2f}" if "cost" in counts else ""
        sizes = f"{counts['tokens_per_word']:11.2f} {counts['bytes_per_token']:11.2f}"
        typer.echo(f"  {code:10} {sizes} {counts['byte_share']:10.1%} {cost}")
