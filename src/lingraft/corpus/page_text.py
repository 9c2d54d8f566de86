"""The text of a web page or a Markdown document, without markup.

HTML: the main text as trafilatura finds it, which leaves out navigation, footers and comments of readers.
Markdown: all text as markdown-it parses it; HTML blocks and the front matter are left out.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lingraft.corpus.lines import BYTE_ORDER_MARKS

if TYPE_CHECKING:
    from markdown_it.token import Token

LIBRARIES = ("trafilatura", "lxml_html_clean", "markdown_it")
"""Modules that are imported when the first page is read."""

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_HEAD_BYTES = 4096
"""Bytes in which an encoding is declared; the HTML standard (§13.2.3.2) asks for 1024 or more."""
_WINDOWS = {"iso8859-1": "cp1252", "ascii": "cp1252"}
"""Names that mean another encoding on the web (WHATWG Encoding Standard §4.2)."""
_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(?=\s*[\w-]+[ \t]*[:=]).*?\n\1[ \t]*(?:\n|\Z)", re.DOTALL)
_BLOCKS = frozenset(("p", "head", "item", "list", "row", "table", "quote", "code", "div", "lb"))
"""Elements of trafilatura's tree that begin and end a line."""


def decode_page(data: bytes, suffix: str) -> str:
    """The characters of a page: by its byte order mark, the encoding that the head of HTML declares, or else UTF-8.

    Raises:
        LookupError: the declared encoding is not known.
        UnicodeError: the bytes are not in that encoding.
    """
    return data.decode(_encoding(data, suffix)).replace("\r\n", "\n")


def _encoding(data: bytes, suffix: str) -> str:
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    declared = _DECLARED.search(_COMMENT.sub(b"", data[:_HEAD_BYTES]))
    if suffix == ".md" or data.startswith(codecs.BOM_UTF8) or declared is None:
        return "utf-8-sig"
    name = codecs.lookup(declared[1].decode("ascii", "replace")).name
    if name.startswith(("utf-16", "utf-32")):  # then the declaration could not have been read as ASCII
        return "utf-8-sig"
    return _WINDOWS.get(name, name)


def html_text(page: str) -> str:
    """The main text of an HTML page, one paragraph, heading, item or row of a table a line; "" where there is none."""
    from lxml import etree
    from trafilatura import bare_extraction

    if "<html" not in page.lower():  # trafilatura takes whole pages only
        page = f"<html><body>{page}</body></html>"
    with _silent("trafilatura"):
        document = bare_extraction(page, include_comments=False, favor_precision=True)
    if document is None:
        return ""
    pieces: list[str] = []
    for event, element in etree.iterwalk(document.body, events=("start", "end")):
        if element.tag in _BLOCKS:
            pieces.append("\n")
        elif element.tag == "cell":
            pieces.append(" ")
        pieces.append((element.text if event == "start" else element.tail) or "")
    return _lines("".join(pieces))


def markdown_text(page: str) -> str:
    """The text of a Markdown document, one block or row of a table a line."""
    from markdown_it import MarkdownIt

    pieces: list[str] = []
    for token in MarkdownIt("commonmark").enable("table").parse(_FRONT_MATTER.sub("", page)):
        if token.type == "inline":
            pieces += map(_inline_text, token.children or [])
        elif token.type in ("fence", "code_block"):
            pieces.append(f"{token.content}\n")
        elif token.type in ("th_close", "td_close"):
            pieces.append(" ")
        elif token.nesting < 0:  # the end of a block
            pieces.append("\n")
    return _lines("".join(pieces))


def _inline_text(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return "\n"
    return token.content if token.type in ("text", "code_inline") else ""


def _lines(text: str) -> str:
    """The lines that are not blank, without white space around words."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without the log of a library, which warns of each page that it finds no text in; here those are counted."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


PAGE_TEXT: dict[str, Callable[[str], str]] = {".html": html_text, ".htm": html_text, ".md": markdown_text}
"""Suffix of a page's name, in lower case -> the function that takes its text."""
