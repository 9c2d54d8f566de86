"""Local web pages and Markdown documents, one document a page: `pages:` of a corpus entry."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lingraft.cache import file_fingerprint, fingerprint
from lingraft.corpus.compression import unreadable
from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.formats import matching_files
from lingraft.corpus.lines import MAX_BYTES, TOO_LONG
from lingraft.corpus.page_text import LIBRARIES, PAGE_TEXT, decode_page
from lingraft.corpus.read import is_unicode
from lingraft.corpus.sources.base import ONE_OR_MORE, Row, Sample, Source, found_by
from lingraft.errors import CorpusError

SAMPLED_PAGES = 100
"""Pages from which the size of all is estimated."""


def find_pages(*patterns: str) -> list[Path]:
    """The pages that paths or glob patterns name, those of a pattern sorted.

    Raises:
        CorpusError: there is none, or one has a suffix that is not in `PAGE_TEXT`.
    """
    return [path for pattern in patterns for path in matching_files(pattern, _check_suffix, "**/*.html")]


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in PAGE_TEXT:
        raise CorpusError(f"'{path}' is no page; names of pages end in {', '.join(PAGE_TEXT)}")


class PageSource(Source):
    """HTML and Markdown files. Needs the packages of `pip install 'lingraft[pages]'`."""

    noun = "pages"
    path_keys = ("pages",)

    pages: Annotated[list[Annotated[str, found_by(find_pages)]], Field(min_length=1), ONE_OR_MORE]

    @cached_property
    def paths(self) -> list[Path]:
        return find_pages(*self.pages)

    def check(self) -> None:
        if self.pair:
            raise CorpusError("'parallel' names fields of records, and pages have none; give 'language' in its place")
        if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
            raise CorpusError(
                f"pages: the text is taken with {', '.join(missing)}, not installed here; install with: "
                "pip install 'lingraft[pages]'"
            )

    def content(self, recorded: Any = None) -> str:
        return fingerprint([[path.suffix.lower(), file_fingerprint(path)] for path in self.paths])

    def rows(self, dropped: DroppedText) -> Iterator[Row]:
        return self._rows(self.paths, dropped)

    def place(self, number: int) -> str:
        """The path of a page below the folder in which its pattern begins, since many are called `index.html`."""
        path = next(Path(place) for i, (place, _) in enumerate(self.rows(DroppedText())) if i == number)
        roots = (_root(pattern) for pattern in self.pages)
        return next(path.relative_to(root) for root in roots if path.is_relative_to(root)).as_posix()

    def samples(self) -> Iterator[Sample]:
        """One sample: pages at equal distances in the list of all."""
        paths = self.paths[:: -(-len(self.paths) // SAMPLED_PAGES)]
        scale = sum(path.stat().st_size for path in self.paths) / max(1, sum(path.stat().st_size for path in paths))
        yield Sample([texts for _, texts in self._rows(paths, DroppedText())], scale)

    def _rows(self, paths: Sequence[Path], dropped: DroppedText) -> Iterator[Row]:
        has_any = False
        for path in paths:
            if text := _text(path, dropped):
                has_any = True
                yield str(path), (text,)
        if not has_any:
            raise CorpusError(f"{', '.join(self.pages)}: no page could be read: {dropped}")


def _root(pattern: str) -> Path:
    """The folder in which a path or pattern begins."""
    if Path(pattern).is_file():
        return Path(pattern).parent
    return next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))


def _text(path: Path, dropped: DroppedText) -> str:
    """The text of a page; "" where it has none or cannot be used, with the reason counted.

    Raises:
        CorpusError: the file may not be read.
    """
    suffix = path.suffix.lower()
    try:
        if path.stat().st_size > MAX_BYTES:
            dropped.add(f"pages {TOO_LONG}", str(path))
            return ""
        page = decode_page(path.read_bytes(), suffix)
    except OSError as error:
        raise unreadable(path, str(path), error) from None
    except LookupError:
        dropped.add("pages that declare an unknown encoding", str(path))
        return ""
    except UnicodeError:
        dropped.add("pages that are not in the encoding that they declare (UTF-8 where none is)", str(path))
        return ""
    try:
        text = PAGE_TEXT[suffix](page)
    except MemoryError:
        raise
    except Exception:  # of three parsers, over somebody's page: it costs that page, and not the run
        dropped.add("pages that cannot be parsed", str(path))
        return ""
    if not text:
        dropped.add("pages without text", str(path))
    elif not is_unicode(text):
        dropped.add("pages that are not valid Unicode", str(path))
        return ""
    return text
