"""`lingraft merge …`: each command is the function of its name in `lingraft.merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import lingraft
from lingraft.cli.console import say_written
from lingraft.cli.options import example
from lingraft.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    help="Combine checkpoints after training. Models are folders, hub names or PEFT adapters; no torch, no GPU.",
)

Weighted = Annotated[list[str], typer.Argument(metavar="MODEL[:WEIGHT]...", help="With weights, as in swahili:0.5.")]
Model = Annotated[str, typer.Argument(help="The adapted model.")]
Base = Annotated[str, typer.Option(help="The model that is subtracted from each adapted model.")]
Out = Annotated[Path, typer.Option(help="Folder to write: new, empty, or an earlier merge.")]
Layers = Annotated[str, typer.Option(help="The layer groups, as in first=9,last=6.")]
Density = Annotated[float, typer.Option(help="Share of the elements of each vector to keep.")]
Tokenizer = Annotated[str | None, typer.Option(help="The model whose tokens, config and chat template to keep.")]
Dtype = Annotated[str | None, typer.Option(help="bfloat16, float16 or float32, in place of each tensor's own.")]
Adapter = Annotated[bool, typer.Option("--adapter", help="Write a PEFT adapter, where all models are adapters.")]
Force = Annotated[bool, typer.Option("--force", help="Accept models of another base, or with other settings.")]


@app.command(
    epilog=example(
        "lingraft merge vectors runs/swahili/model:0.5 runs/galician/model:0.5 --base google/gemma-3-1b-pt --out both"
    )
)
def vectors(
    models: Weighted,
    base: Base,
    out: Out,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    adapter: Adapter = False,
    force: Force = False,
) -> None:
    """Base + sum of scaled language vectors: LayRA, -series, -merge."""
    say_written(
        lingraft.merge.vectors(
            base, _weighted(models), out, tokenizer=tokenizer, dtype=dtype, adapter=adapter, force=force
        )
    )


@app.command(epilog=example("lingraft merge soup runs/seed1/model runs/seed2/model:2 --out soup"))
def soup(
    models: Weighted,
    out: Out,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    adapter: Adapter = False,
    force: Force = False,
) -> None:
    """Uniform or weighted average of models."""
    say_written(
        lingraft.merge.soup(_weighted(models), out, tokenizer=tokenizer, dtype=dtype, adapter=adapter, force=force)
    )


@app.command(
    epilog=example(
        "lingraft merge ties runs/swahili/model runs/galician/model --base google/gemma-3-1b-pt "
        "--density 0.2 --out both"
    )
)
def ties(
    models: Weighted,
    base: Base,
    out: Out,
    density: Density = 0.5,
    scale: Annotated[float, typer.Option(help="Scale of the merged vector.")] = 1.0,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    force: Force = False,
) -> None:
    """Trim vectors, elect signs, average the elements that agree."""
    weights = _weighted(models)
    say_written(
        lingraft.merge.ties(
            base, weights, out, density=density, scale=scale, tokenizer=tokenizer, dtype=dtype, force=force
        )
    )


@app.command(
    epilog=example(
        "lingraft merge dare runs/swahili/model runs/galician/model --base google/gemma-3-1b-pt "
        "--density 0.1 --seed 1 --out both"
    )
)
def dare(
    models: Weighted,
    base: Base,
    out: Out,
    density: Density = 0.5,
    scale: Annotated[float, typer.Option(help="Scale of the sum of the vectors.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the random draws.")] = 0,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    force: Force = False,
) -> None:
    """Drop elements of each vector at random, rescale the others, and add."""
    weights = _weighted(models)
    say_written(
        lingraft.merge.dare(
            base, weights, out, density=density, scale=scale, seed=seed, tokenizer=tokenizer, dtype=dtype, force=force
        )
    )


@app.command(
    epilog=example(
        "lingraft merge revert runs/swahili/model --base google/gemma-3-1b-pt --layers first=9,last=6 --out reverted"
    )
)
def revert(
    model: Model,
    base: Base,
    layers: Layers,
    out: Out,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    adapter: Adapter = False,
    force: Force = False,
) -> None:
    """The layers between the first and the last go back to the base."""
    say_written(
        lingraft.merge.revert(
            model, base, out, **_layers(layers), tokenizer=tokenizer, dtype=dtype, adapter=adapter, force=force
        )
    )


@app.command(
    epilog=example(
        "lingraft merge interpolate runs/swahili/model --base google/gemma-3-1b-pt --layers "
        "first=9,last=6 --scale middle=0.25,embeddings=0.5 --out between"
    )
)
def interpolate(
    model: Model,
    base: Base,
    layers: Layers,
    scale: Annotated[str, typer.Option(help="Factors of layer groups, as in middle=0.25,embeddings=0.5.")],
    out: Out,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    adapter: Adapter = False,
    force: Force = False,
) -> None:
    """Base + scale * (model - base) in the layer groups that are named; the others stay the model's."""
    scales = {group: _number(value, f"--scale {scale}") for group, value in _assigned(scale, "--scale").items()}
    say_written(
        lingraft.merge.interpolate(
            model,
            base,
            out,
            **_layers(layers),
            scale=scales,
            tokenizer=tokenizer,
            dtype=dtype,
            adapter=adapter,
            force=force,
        )
    )


@app.command(
    epilog=example(
        "lingraft merge instruct runs/swahili/model --base google/gemma-3-1b-pt --instruct "
        "google/gemma-3-1b-it --scale 0.7 --out chat"
    )
)
def instruct(
    model: Model,
    base: Base,
    instruct: Annotated[str, typer.Option(help="The instruct model of the same base.")],
    scale: Annotated[float, typer.Option(help="Of the language vector, as in 0.7.")],
    out: Out,
    tokenizer: Tokenizer = None,
    dtype: Dtype = None,
    force: Force = False,
) -> None:
    """Instruct + scale * (model - base): an instruct model learns the language."""
    say_written(
        lingraft.merge.instruct(model, base, instruct, out, scale=scale, tokenizer=tokenizer, dtype=dtype, force=force)
    )


def _weighted(models: list[str]) -> dict[str, float]:
    """`MODEL` or `MODEL:WEIGHT`; a folder whose own name has a colon is taken as it is."""
    weights: dict[str, float] = {}
    for given in models:
        name, colon, weight = given.rpartition(":")
        plain = not colon or Path(given).exists()
        name = given if plain else name
        if not plain and not weight:
            raise UserError(f"{given} has no weight after the colon; give {name}, or {name}:0.5")
        if not name:
            raise UserError(f"'{given}': give a model and its weight, as in swahili:0.5")
        if name in weights:
            raise UserError(f"{name} is given twice; give it once, with the sum of the weights")
        weights[name] = 1.0 if plain else _number(weight, given)
    return weights


def _layers(text: str) -> dict[str, int]:
    layers = _assigned(text, "--layers")
    if layers.keys() != {"first", "last"} or not all(value.isdecimal() for value in layers.values()):
        raise UserError(f"--layers {text}: give numbers of layers, as in --layers first=9,last=6")
    return {group: int(value) for group, value in layers.items()}


def _assigned(text: str, option: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key and equals and value for key, equals, value in pairs):
        raise UserError(f"{option} {text}: this option is a list of NAME=NUMBER, as in {option} first=1,last=1")
    if len({key for key, _, _ in pairs}) < len(pairs):
        raise UserError(f"{option} {text}: a name is given twice")
    return {key: value for key, _, value in pairs}


def _number(text: str, given: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{given}: '{text}' is not a number") from None
