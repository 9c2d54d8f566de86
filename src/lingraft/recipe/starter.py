"""Write a first recipe for a base and its languages, with comments where to fill in."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

from lingraft.cache import write_text
from lingraft.checkpoints.names import is_hub_name
from lingraft.checkpoints.read import (
    CONFIG_ONLY,
    DEFAULT_MAX_LENGTH,
    TOKENIZER_ONLY,
    find_model,
    read_config,
    read_tokenizer,
)
from lingraft.corpus.formats import as_list, text_bytes
from lingraft.corpus.read import find_files
from lingraft.errors import ModelError, OutputError, UserError
from lingraft.evaluation.chat_turns import why_no_chat
from lingraft.families import by_family
from lingraft.languages import CHAT, by_code, code_of
from lingraft.layer_groups import depth
from lingraft.output_paths import file_target
from lingraft.recipe.automatic import RATE, RATE_WIDTH, SHARE
from lingraft.recipe.goals import GOALS, Chosen, Goal, choose
from lingraft.training.arguments import DEFAULT_ARGUMENTS

TextByLanguage = Mapping[str, str | Sequence[str] | None]
"""Language -> its files: paths or patterns."""

MAIN = "eng_Latn"
"""The language that most bases generate, and that what they generate can be measured as."""

STEPS = 100
"""Steps that little text should still give: at LayRA's rate a model learns nearly nothing in twenty."""

BATCH = int(DEFAULT_ARGUMENTS["per_device_train_batch_size"])
"""Blocks in a step, where a recipe says nothing."""

BYTES_PER_TOKEN = 3
"""A guess, for text that the tokenizer does not know well."""


def write_recipe(
    base: str,
    learn: Sequence[str],
    retain: Sequence[str] | TextByLanguage = (),
    goal: Goal = "balanced",
    out: Path | str = "recipe.yaml",
    text: str | Sequence[str] | TextByLanguage = (),
) -> str:
    """As `lingraft.init`."""
    out = file_target(out, lambda path: True)
    if goal not in GOALS:
        raise UserError(f"--goal {goal}: there is no such goal; goals: {', '.join(GOALS)}")
    texts, kept = read_languages(learn, text, retain)
    retained = [code for code, _ in kept if code != CHAT]
    if out.exists():
        raise OutputError(f"{out} exists; give another -o, or remove it")
    place, config, families = out.absolute().parent.resolve(), base_config(base), by_family(texts)
    if config is not None and depth(config) < 2:
        raise UserError(f"{base} has {depth(config)} layer; a first and a last group need at least two")
    chosen = choose(goal, config, len(families))
    written = _recipe(
        _from(place, base),
        {code: [_from(place, path) for path in files] for code, files in texts.items()},
        {code: [_from(place, path) for path in files] for code, files in kept if code != CHAT},
        len(retained) < len(kept) or _is_instruct(base),
        chosen,
        _layers_note(chosen, config),
        _training(_batch(_of_one_run(texts, families, chosen)), chosen.learning_rate),
        families,
    )
    write_text(out, written)
    return written


def read_languages(
    learn: Sequence[str], text: str | Sequence[str] | TextByLanguage, retain: Sequence[str] | TextByLanguage
) -> tuple[dict[str, list[str]], list[tuple[str, list[str]]]]:
    """The learned languages with their files, and the retained ones, and `chat`, with theirs; all files exist.

    Raises:
        UserError: no language to learn, one that is named twice, or text of another language.
    """
    if not learn:
        raise UserError("no language to learn; give one or more, as in --learn swh_Latn")
    codes, kept = list(map(code_of, learn)), _kept(retain)
    all_codes = [*codes, *(code for code, _ in kept if code != CHAT)]
    for code in all_codes:
        if all_codes.count(code) > 1:
            raise UserError(f"{code} is named more than once; a language is learned or retained")
    return _texts(codes, text), kept


def _of_one_run(
    texts: Mapping[str, Sequence[str]], families: Mapping[str, Sequence[str]], chosen: Chosen
) -> Mapping[str, Sequence[str]]:
    """The text of one run: of experts, that of the family with the least, since all have the same steps."""
    if not chosen.choice.is_by_family or not all(texts.values()):
        return texts
    of_families = [{code: texts[code] for code in codes} for codes in families.values()]
    return min(of_families, key=_size)


def _size(texts: Mapping[str, Sequence[str]]) -> int:
    return sum(text_bytes(path) for files in texts.values() for path in find_files(*files))


def _kept(retain: Sequence[str] | TextByLanguage) -> list[tuple[str, list[str]]]:
    """Retained languages and `chat`, each with its files, all of which exist."""
    named = retain.items() if isinstance(retain, Mapping) else [(name, None) for name in retain]
    kept = [(name if name == CHAT else code_of(name), as_list(files)) for name, files in named]
    for _, files in kept:
        find_files(*files)
    return kept


def _texts(learn: Sequence[str], text: str | Sequence[str] | TextByLanguage) -> dict[str, list[str]]:
    """Learned language -> its files, all of which exist; none where no text was given.

    Raises:
        UserError: text of no learned language, or of nobody knows which; a file that does not exist.
    """
    if not isinstance(text, Mapping):
        files = as_list(text)
        if files and len(learn) > 1:
            raise UserError(f"--text {files[0]}: of which language? give --text {learn[0]}={files[0]}")
        text = {learn[0]: files} if files else {}
    given = by_code({name: as_list(files) for name, files in text.items()})
    for code, files in given.items():
        if code not in learn:
            shown = files[0] if files else ""
            raise UserError(f"--text {code}={shown}: {code} is not learned ({', '.join(learn)})")
        find_files(*files)
    return {code: given.get(code, []) for code in learn}


def _is_instruct(base: str) -> bool:
    """Whether a base can generate conversations, where it can be looked up."""
    try:
        return why_no_chat(read_tokenizer(find_model(base, (*TOKENIZER_ONLY, "*.jinja")))) is None
    except UserError:
        return False


def _from(folder: Path, path: str) -> str:
    """Return a hub name unchanged, and a path or a pattern relative to the folder of the recipe."""
    if Path(path).is_absolute() or not (Path(path).exists() or has_magic(path)):
        return path
    relative = os.path.relpath(Path.cwd() / path, folder)
    is_folder = Path(path).is_dir() and not relative.startswith(".")
    return f"./{relative}" if is_folder else relative  # so that a folder is no hub name


def base_config(base: str) -> Any:
    """The base's config; None where a base on the hub cannot be looked up from here.

    Raises:
        ModelError: a folder that is none of a model, or an architecture that is not supported.
    """
    try:
        folder = find_model(base, CONFIG_ONLY)
    except ModelError:
        if Path(base).exists() or not is_hub_name(base):
            raise
        return None
    return read_config(folder)


def _layers_note(chosen: Chosen, config: Any) -> str:
    if chosen.layers is None:
        return ""
    return (
        f"; of {depth(config)} layers" if config else "; the paper's layers; the base could not be looked up from here"
    )


def _recipe(
    base: str,
    texts: Mapping[str, Sequence[str]],
    retained: Mapping[str, Sequence[str]],
    with_chat: bool,
    chosen: Chosen,
    note: str,
    training: str,
    families: Mapping[str, Sequence[str]],
) -> str:
    keep = ", ".join([*retained, *([CHAT] if with_chat else [])])
    corpus = {code: _entry(code, files) for code, files in texts.items()}
    lines = "\n".join(f"  - {entry}" for entry in corpus.values())
    source = "" if all(texts.values()) else "  # or files: a path or pattern to .jsonl(.gz|.zst), .parquet or .txt"
    reason = textwrap.fill(f"{chosen.reason} ({chosen.choice.source}){note}", 116, break_on_hyphens=False)
    return f"""\
base: {_yaml(base)}
languages: {{learn: [{", ".join(texts)}], retain: [{keep}]}}

corpus:{source}
{lines}

{textwrap.indent(reason, "# ")}
method: {chosen.method}
{f"merge: {chosen.merge}{chr(10)}" if chosen.merge else ""}{training}{_replay(with_chat, chosen.choice.kl_weight)}\
{_evaluation(retained)}{_experts(families, corpus) if chosen.choice.is_by_family else ""}"""


def _entry(code: str, files: Sequence[str]) -> str:
    """The corpus entry of a language: its files, or a place on the hub."""
    hub = f"hub: HuggingFaceFW/fineweb-2, subset: {code}, tokens: 100_000_000"
    return f"{{language: {code}, {f'files: {_yaml(files)}' if files else hub}}}"


def _experts(families: Mapping[str, Sequence[str]], corpus: Mapping[str, str]) -> str:
    """A sweep with a run for each family."""
    models = " ".join(f"OUT/{family.lower()}/model" for family in families)
    lines = [
        "",
        f"# a run for each family; then their mean: lingraft merge soup {models} --out soup",
        "sweep:",
        "  runs:",
    ]
    for family, codes in families.items():
        entries = ", ".join(corpus[code] for code in codes)
        lines.append(
            f"    - {{name: {family.lower()}, languages.learn: [{', '.join(codes)}],\n       corpus: [{entries}]}}"
        )
    return "\n".join([*lines, ""])


def batch_of(tokens: float) -> int:
    """Blocks in a step, so that this text gives some `STEPS` steps where it can."""
    return max(1, min(BATCH, round(tokens / DEFAULT_MAX_LENGTH / STEPS)))


def _batch(texts: Mapping[str, Sequence[str]]) -> int:
    """Blocks in a step: fewer where there is so little text that it would give but a few steps."""
    if not all(texts.values()):  # text of the hub
        return BATCH
    return batch_of(_size(texts) / BYTES_PER_TOKEN)


def _training(batch: int, learning_rate: float | None) -> str:
    """What differs from the method's defaults."""
    settings, reasons = [], []
    if learning_rate:
        settings.append(f"learning_rate: {learning_rate:g}")
        reasons.append(f"the rate falls with the base's width, from {RATE:g} at {RATE_WIDTH}")
    if batch < BATCH:
        settings.append(f"per_device_train_batch_size: {batch}")
        reasons.append("there is little text, so steps are small")
    return f"\n# {'; '.join(reasons)}\ntraining: {{{', '.join(settings)}}}\n" if settings else ""


def _replay(with_chat: bool, kl_weight: float) -> str:
    """Self-generated text for every base, and conversations for one that can chat."""
    settings = [f"self_generated: {SHARE:g}"]
    if with_chat:
        settings.append("from: {document: 0.5, chat: 0.5}")
    if kl_weight != 1:
        settings.append(f"kl_weight: {kl_weight:g}")
    what = "documents and conversations" if with_chat else "text"
    return f"""
# a fifth of the tokens: {what} that the base generates, on which the model stays near to it
replay: {{{", ".join(settings)}}}
"""


def _evaluation(retained: Mapping[str, Sequence[str]]) -> str:
    """Text of each retained language; where it is wanted, of one that which the base generates."""
    if not retained:
        return ""
    without = [code for code, files in retained.items() if not files]
    generated = MAIN if MAIN in without else None
    of_files = {code: files or [f"{code}.jsonl.gz"] for code, files in retained.items() if code != generated}
    lines = ["", "evaluation:  # text of the old languages, to see what is forgotten; none of it trains"]
    if generated:
        lines.append(f"  self_generated: {generated}  # measured on text that the base generates; or give text of it")
    if of_files:
        lines += ["  text:", *(f"    {code}: {_yaml(files)}" for code, files in of_files.items())]
    return "\n".join([*lines, ""])


def _yaml(value: object) -> str:
    """A value in YAML's flow style, which JSON is; of a list of one, that one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return json.dumps(value, ensure_ascii=False)
