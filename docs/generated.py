"""Pages of the site that are made from the code when it is built: recipe keys, commands, shipped recipes.

MkDocs loads this file as a hook. Each function gives the Markdown of one page.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from lingraft.json_schema import recipe_schema, results_schema

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_page() -> str:
    """Every key of a recipe with its type, default and description."""
    intro = (
        "An unknown key is an error. All problems of a recipe are reported at once.\n\n"
        "`lingraft schema > recipe.schema.json` prints the JSON Schema of a recipe. An editor completes and checks the "
        "keys of a recipe that begins with `# yaml-language-server: $schema=recipe.schema.json`."
    )
    return _page("Recipe keys", intro, "Recipe", recipe_schema())


def results_page() -> str:
    """Every key of `results.json`."""
    intro = "What `lingraft run` and `lingraft evaluate` write; `lingraft schema results` prints its JSON Schema."
    return _page("results.json", intro, "Results", results_schema())


def _page(title: str, intro: str, first: str, schema: dict[str, Any]) -> str:
    sections = schema.pop("$defs")
    lines = [f"# {title}", "", intro, "", f"## {first}", "", *_keys(schema)]
    for name in sorted(sections):
        lines += ["", f"## {name}", "", cleandoc(sections[name].get("description", "")), "", *_keys(sections[name])]
    return "\n".join(lines) + "\n"


def _keys(section: dict[str, Any]) -> Iterator[str]:
    yield "| key | form | default | |"
    yield "|---|---|---|---|"
    required = section.get("required", ())
    for key, form in section.get("properties", {}).items():
        default = "required" if key in required else _default(form.get("default"))
        description = form.get("description", "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{key}` | {_form(form)} | {default} | {description} |"


def _default(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _form(form: dict[str, Any]) -> str:
    """A JSON Schema in a few words, with links to sections."""
    if "$ref" in form:
        name = form["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in form:
        return f"`{form['const']}`"
    if "enum" in form:
        return ", ".join(f"`{value}`" for value in form["enum"])
    for several in ("anyOf", "oneOf"):
        if several in form:
            return " or ".join(_form(one) for one in form[several] if one.get("type") != "null")
    if form.get("type") == "array":
        return f"list of {_form(form.get('items', {}))}"
    if form.get("type") == "object" and isinstance(form.get("additionalProperties"), dict):
        return f"map to {_form(form['additionalProperties'])}"
    return str(form.get("type", "anything")) + _bounds(form)


def _bounds(form: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f", {sign} {form[name]}" for name, sign in signs.items() if name in form)


def commands_page() -> str:
    """What every `--help` says, as typer writes it."""
    command = [sys.executable, "-m", "typer", "lingraft.cli.commands", "utils", "docs", "--name", "lingraft"]
    page = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 (our own words)
    return re.sub(r"^# `lingraft`", "# Commands", page)


def recipes_page() -> str:
    """The shipped recipes, whole."""
    lines = [
        "# Recipes",
        "",
        "Recipes to start from, and the papers' own runs. Copy one, and change its text and base.",
        "",
    ]
    for heading, folder in (("To start from", RECIPES), ("The papers' own", RECIPES / "papers")):
        lines += [f"## {heading}", ""]
        for path in sorted(folder.glob("*.yaml")):
            lines += [f"### {path.name}", "", "```yaml", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "reference/recipe.md": recipe_page,
    "reference/results.md": results_page,
    "reference/commands.md": commands_page,
    "reference/recipes.md": recipes_page,
}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls this with all pages that it found."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files
