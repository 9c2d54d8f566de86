"""What the documents say of the code is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from runpy import run_path

import pytest
import yaml

from lingraft.architectures import ARCHITECTURES, REFUSED
from lingraft.methods import METHODS
from lingraft.penalties import PENALTIES
from lingraft.recipe import Recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
METHOD_PAGES = ROOT / "docs" / "methods"


def test_the_map_is_what_the_modules_say_of_themselves() -> None:
    generator = run_path(str(ROOT / "docs" / "map.py"))
    assert (ROOT / "docs" / "map.md").read_text() == generator["page"](), "python docs/map.py writes it anew"


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.splitlines()) <= 120


def test_the_readmes_recipe_is_well_formed(texts, monkeypatch) -> None:
    monkeypatch.chdir(texts["eng_Latn"].parent)
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    recipe["training"]["learning_rate"] = float(recipe["training"]["learning_rate"])  # 3e-4 is text in YAML 1.1
    recipe["evaluation"]["text"] = {code: str(texts["eng_Latn"]) for code in recipe["evaluation"]["text"]}
    assert Recipe.model_validate(recipe).only.method.name == "silent-adapters"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_and_a_line_in_the_table(name) -> None:
    assert (METHOD_PAGES / f"{name}.md").read_text().startswith(f"# `{name}`\n")
    assert f"[`{name}`]({name}.md)" in (METHOD_PAGES / "index.md").read_text()


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_page_says_when_to_take_it_its_cost_and_what_was_found(name) -> None:
    page = (METHOD_PAGES / f"{name}.md").read_text()
    for part in ("**Take it when**", "**Cost.**", "**What the paper", "**What we measured.**", "```yaml"):
        assert part in page, part


@pytest.mark.parametrize("name", METHODS)
def test_the_recipe_on_a_methods_page_is_of_that_method(name) -> None:
    snippet = re.search(r"```yaml\n(.*?)```", (METHOD_PAGES / f"{name}.md").read_text(), re.DOTALL)[1]
    settings = yaml.safe_load(snippet)["method"]
    assert METHODS[name].model_validate(settings).name == name


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_has_a_section(name) -> None:
    assert f"## `{name}`" in (METHOD_PAGES / "regularization.md").read_text()


def architecture_line(model_type: str) -> str:
    """The line of the table in docs/reference/architectures.md."""
    row = ARCHITECTURES[model_type]
    fused = set(row.ffn) & set(row.fused)
    dense = "fused" if fused else "separate linears" if row.gated_adapters else "no gate"
    block = "experts" if row.experts else dense
    added = "yes" if row.gated_adapters else "no"
    return f"| `{model_type}` | {row.title} | {', '.join(row.linears)} | {block} | {added} |"


def test_the_tables_of_architectures_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "architectures.md").read_text()
    supported, refused = page.split("## Not supported")
    assert re.findall(r"^\| `.*$", supported, re.MULTILINE)[1:] == [architecture_line(name) for name in ARCHITECTURES]
    assert re.findall(r"^\| `.*$", refused, re.MULTILINE) == [f"| `{name}` | {why} |" for name, why in REFUSED.items()]


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Those within the site are followed when it is built (`make docs`), which makes pages too."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_of_the_site_is_in_its_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    generated = run_path(str(ROOT / "docs" / "generated.py"))["PAGES"]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {*listed} == pages | {*generated}


def test_every_dependency_has_a_line_in_the_architecture() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = (ROOT / "docs" / "architecture.md").read_text().split("## Dependencies")[1]
    for requirement in project["dependencies"]:
        assert re.search(rf"^\|[^|]*\b{re.match('[a-z0-9_-]+', requirement)[0]}\b", table, re.MULTILINE), requirement
