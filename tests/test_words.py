"""Prose uses the field's terms: what to write in place of a riddle or a word with another meaning."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TERMS = {
    r"new words?": "new tokens",
    r"mere bytes": "byte-fallback tokens",
    r"(?:cuts?|fragments?) (?:\w+ )?(?:in)?to pieces": "over-segmented",
    r"over-fragmented": "over-segmented",
    r"what pulls|pull(?:s|ed)?(?: \w+){0,2} back": "regularization, or a penalty on the distance to the base",
    r"in full": "full-rank",
    r"(?:written|wrote|writes)(?: by)? the base|base (?:itself )?(?:wrote|writes)": "self-generated",
    r"(?:what|text that|blocks that|loss that|documents) decides?": "selection split",
    r"what is decided": "selection split",
    r"(?<!languages\.)\bheldout": "observe (a role), or held-out (documents)",
    r"held[ -]out languages?": "observed language; only documents are held out",
    r"(?<![\"'`.])\bchoices\b(?![\"'`])|choice of a question|wrong choices?": "options of a question",
    r"the page(?! cache)|on one page": "the report",
    r"weights trained|base weights|M weights": "parameters, for counts",
    r"our fault": "internal error",
    r"nothing to see": "what the function does",
    r"(?:is|are) of (?:those|that) of|of (?:that|those) of": "a plain genitive, or a verb",
}
"""Pattern of a term that is not used -> what to write."""

MARKDOWN_EXEMPT = ("log.md",)
"""The log quotes what was tried in the words of its day."""


def prose_of_python(source: str) -> Iterator[str]:
    """Docstrings, strings and comments; names and strings that are names do not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def files() -> Iterator[Path]:
    yield from (ROOT / "src").rglob("*.py")
    yield from (ROOT / "src").rglob("*.html")
    yield from (path for path in (ROOT / "docs").rglob("*.md") if path.name not in MARKDOWN_EXEMPT)
    yield from (ROOT / "recipes").rglob("*.yaml")
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "mkdocs.yml"))


def found_terms(text: str) -> Iterator[str]:
    """Each term of the table in a text, with what stands around it and what to write."""
    line = " ".join(text.split())
    for pattern, better in TERMS.items():
        for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", line, re.IGNORECASE):
            around = line[max(0, match.start() - 30) : match.end() + 30]
            yield f"'{match.group()}' in '…{around}…': write {better}"


def found_in(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [term for part in (prose_of_python(text) if path.suffix == ".py" else [text]) for term in found_terms(part)]


@pytest.mark.parametrize("path", sorted(files()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_prose_has_the_terms_of_the_field(path: Path) -> None:
    assert not found_in(path)


@pytest.mark.parametrize(
    "source",
    [
        '"""Rows for new\n    words."""',
        "x = 1  # what pulls back",
        'print("trained " "in full")',
        'f"the choices of {x}"',
    ],
)
def test_a_term_is_found_in_docstrings_comments_and_joined_strings(source: str) -> None:
    assert [term for part in prose_of_python(source) for term in found_terms(part)]


@pytest.mark.parametrize("source", ["new_words = in_full = 1", 'record["choices"]', "question.choices"])
def test_names_do_not_count(source: str) -> None:
    assert not [term for part in prose_of_python(source) for term in found_terms(part)]
