"""The model card of a run: what was grafted, what was measured, how to load it, and what went into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.checkpoints.cards import as_code, card, escaped
from lingraft.checkpoints.modelfile import modelfile
from lingraft.checkpoints.names import on_hub, public_name
from lingraft.checkpoints.read import find_model, read_tokenizer
from lingraft.languages import parse_language
from lingraft.recipe import Recipe
from lingraft.schema import Change, Results

NOT_STATED = "not stated"
METRIC = "bits_per_byte"


def files_beside(
    recipe: Recipe, base: Path, model: Path, results: Results, origin: Mapping[str, Any]
) -> dict[str, str]:
    """Name -> content of what lies beside the weights of a run's model: its card, and a Modelfile for Ollama.

    `base` and `model` are folders, `origin` is what `lingraft.json` holds.
    """
    tokenizer = read_tokenizer(model)
    files = {"README.md": _card(recipe, base, tokenizer.chat_template is not None, results, origin)}
    if recipe.form != "remote-code":
        files["Modelfile"] = modelfile(tokenizer)
    return files


def _card(recipe: Recipe, base: Path, can_chat: bool, results: Results, origin: Mapping[str, Any]) -> str:
    name, added_to = public_name(recipe.base), recipe.instruct
    parents = [recipe.base, *([added_to] if added_to else [])]
    on_the_hub = [public_name(parent) for parent in parents if on_hub(parent)]
    learned = " and ".join(_name(code) for code in recipe.languages.learn)
    licence = _licence(base)
    head = {
        "library_name": "transformers",
        "tags": ["lingraft"],
        "language": list(dict.fromkeys(code.partition("_")[0] for code in recipe.languages.trained)),
        "license": licence,
        "base_model": on_the_hub[0] if len(on_the_hub) == 1 else on_the_hub,
        "base_model_relation": ("merge" if added_to else "finetune") if on_the_hub else None,
        "pipeline_tag": "text-generation",
        "model_name": f"{name} with {learned}",
        "eval_results": _eval_results(results),
    }
    lines = [
        f"# {escaped(name)} with {escaped(learned)}",
        "",
        f"{escaped(name)}, to which lingraft added {escaped(learned)}."
        + (f" What it learned was then added to {escaped(public_name(added_to))}." if added_to else ""),
        "",
        "## Measured",
        "",
        *_measured(results),
        "",
        "## Use",
        "",
        *_use(recipe, can_chat),
        "",
        "## Training",
        "",
        *_training(recipe, origin),
        "",
        "## Licence",
        "",
        f"The base's: {escaped(licence or NOT_STATED)}."
        + (f" {escaped(public_name(added_to))}: {_of_instruct(added_to)}." if added_to else "")
        + " The text's:",
        "",
        *_licences(recipe),
    ]
    return card(head, lines)


def _name(code: str) -> str:
    """A language's name with its code."""
    return f"{parse_language(code).name.partition(' (')[0]} ({code})"


def _of_instruct(name: str) -> str:
    return escaped(_licence(find_model(name)) or NOT_STATED)


def _licence(base: Path) -> str | None:
    """The licence in the front matter of the base's own card, where it has one."""
    from huggingface_hub import ModelCard

    path = base / "README.md"
    try:
        found = ModelCard.load(path).data.to_dict().get("license") if path.is_file() else None
    except Exception:  # anybody's front matter
        return None
    return found if isinstance(found, str) else None


def _eval_results(results: Results) -> list[Any]:
    """Bits per byte of each language and accuracy of each task, as the hub's `model-index` has them."""
    from huggingface_hub import EvalResult

    measured = [
        ("text-generation", METRIC, f"text of {code}", code, language.bits_per_byte.after)
        for code, language in results.languages.items()
    ] + [
        ("multiple-choice", task.metric, name, code, language.score.after)
        for name, task in (results.tasks or {}).items()
        for code, language in task.languages.items()
    ]
    return [
        EvalResult(
            task_type=task,
            dataset_type="custom",
            dataset_name=dataset,
            dataset_config=code,
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for task, metric, dataset, code, value in measured
    ]


def _measured(results: Results) -> Iterator[str]:
    """The table of languages, tasks and chat; less is better for bits per byte."""
    yield "| | role | measure | base | this model | change | 95 % interval |"
    yield "|---|---|---|---|---|---|---|"
    for code, language in results.languages.items():
        measure = "bits per byte" + (" of text that the base generated" if language.self_generated else "")
        yield _row(_name(code), language.role, measure, language.bits_per_byte, 4)
    for name, task in (results.tasks or {}).items():
        for code, asked in task.languages.items():
            yield _row(_name(code), asked.role, f"{task.metric} in {name}", asked.score, 3)
    if chat := results.chat:
        yield _row("chat", "retain", "bits per byte of the base's own answers", chat.bits_per_byte, 4)
        right = f"{chat.right.before} of {chat.known} | {chat.right.after} of {chat.known}"
        yield f"| chat | retain | known questions answered right | {right} | | |"
        if chat.same_beginning is not None:
            yield f"| chat | retain | answers that begin as the base's | | {chat.same_beginning:.0%} | | |"


def _row(what: str, role: str, measure: str, change: Change, digits: int) -> str:
    interval = f"{change.ci95[0]:+.{digits}f} to {change.ci95[1]:+.{digits}f}" if change.ci95 else ""
    numbers = [f"{change.before:.{digits}f}", f"{change.after:.{digits}f}", f"{change.delta:+.{digits}f}", interval]
    return "| " + " | ".join([escaped(what), role, escaped(measure), *numbers]) + " |"


def _use(recipe: Recipe, can_chat: bool) -> list[str]:
    """How to load the model, and to chat where it has a template."""
    trusted = ", trust_remote_code=True" if recipe.form == "remote-code" else ""
    lines = [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("this-folder"{trusted})',
        'tokenizer = AutoTokenizer.from_pretrained("this-folder")',
    ]
    if can_chat:
        lines += [
            'chat = [{"role": "user", "content": "…"}]',
            'inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", '
            "return_dict=True)",
            "answer = model.generate(**inputs, max_new_tokens=200)[0, inputs.input_ids.shape[1] :]",
            "print(tokenizer.decode(answer, skip_special_tokens=True))",
        ]
    lines.append("```")
    if recipe.marks.bos:
        lines += [
            "",
            f"Text that is no chat was trained after {as_code(recipe.marks.bos)}; begin a prompt with it.",
        ]
    return lines


def _training(recipe: Recipe, origin: Mapping[str, Any]) -> list[str]:
    """Method, tokens and steps of each stage, and what went into it."""
    stages: Sequence[Mapping[str, Any]] = origin.get("stages") or [origin]
    lines = []
    for stage in stages:
        title = f"stage {escaped(stage['name'])}: " if "name" in stage else ""
        own = stage.get("self_generated")
        replayed = f", {own['tokens']:,} of them self-generated" if own else ""
        steps = f"{stage['steps']:,} steps on {stage['tokens']:,} tokens{replayed}"
        lines.append(f"- {title}method {as_code(stage['method']['name'])}, {steps}")
        lines += [
            f"    - {escaped(entry['language'])}: {entry['tokens']:,} tokens of {entry['documents']:,} documents"
            for entry in stage["corpus"]
        ]
    base = origin.get("trained_from") or origin["base"]
    versions = ", ".join(f"{library} {of}" for library, of in origin["versions"].items())
    return [
        *lines,
        f"- base {escaped(base['name'])}, fingerprint {as_code(base['fingerprint'])}",
        f"- {escaped(versions)}",
        "",
        "All settings, and what trained in which layer, are in `lingraft.json`.",
    ]


def _licences(recipe: Recipe) -> list[str]:
    entries = [entry for stage in recipe.stages.values() for entry in stage.corpus]
    lines = [f"- {escaped(entry.title)}: {escaped(entry.license or NOT_STATED)}" for entry in entries]
    lines += [
        f"- instructions {escaped(given.language)}: {NOT_STATED}"
        for stage in recipe.stages.values()
        for given in stage.instructions or []
    ]
    return list(dict.fromkeys(lines))
