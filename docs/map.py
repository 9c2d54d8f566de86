"""Writes `map.md`, every module with the first line of its docstring: python docs/map.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "lingraft"
PAGE = Path(__file__).with_name("map.md")
HEAD = """# The map

What each file of `src/lingraft` is for: the first line of its docstring. `python docs/map.py` writes this page.

"""


def page() -> str:
    """The text of the page."""
    return HEAD + "\n".join(_folder(PACKAGE, "")) + "\n"


def _folder(folder: Path, indent: str) -> Iterator[str]:
    """A line for each module of a folder, then those of its packages."""
    modules = [path for path in folder.glob("*.py") if not path.name.startswith("__")]
    packages = [path.parent for path in folder.glob("*/__init__.py")]
    for path in sorted(modules):
        yield f"{indent}- `{path.name}` {_summary(path)}"
    for path in sorted(packages):
        yield f"{indent}- **`{path.name}/`** {_summary(path / '__init__.py')}"
        yield from _folder(path, indent + "  ")


def _summary(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"
    return docstring.splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
