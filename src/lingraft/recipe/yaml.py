"""Read YAML for recipes: no tags, no duplicate keys; `3e-4` is a number and `no` is a string."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lingraft.errors import RecipeError
from lingraft.plain_data import MAX_DEPTH


class _Loader(yaml.SafeLoader):
    """A safe loader: no tag builds an object, and a duplicate key is an error."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = ""
        if getattr(event, "tag", None):
            problem = f"tags ({event.tag}) are not allowed, write plain values"
        if self.depth > MAX_DEPTH:
            problem = f"values are nested deeper than {MAX_DEPTH} levels"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key!r} is not text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"the key '{key}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {  # YAML 1.1 reads no, yes, on and off as booleans, and recipes have no dates
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":")[-1] not in ("bool", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(  # YAML 1.1 reads 3e-4 as text: its floats need a dot and a sign
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML text.

    Raises:
        RecipeError: it is not YAML, has a tag, or has a key twice; names the line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number that Python does not build
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or error)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(source, [where + problem]) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        RecipeError: no such file, not text, or something else than `key: value` lines.
    """
    try:
        if path.is_char_device() or path.is_fifo():  # it may have no end
            raise RecipeError(str(path), ["cannot be read: it is a device or a pipe; give a file"])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(str(path), [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise RecipeError(str(path), ["a recipe is a mapping of keys to values, as in 'base: path/to/model'"])
    return value
