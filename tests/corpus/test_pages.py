"""Web pages and Markdown documents as a source of text."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import lingraft
from lingraft.corpus.page_text import html_text, markdown_text
from lingraft.corpus.read import DroppedText
from lingraft.corpus.sources.pages import PageSource
from lingraft.errors import OutputError, RecipeError
from lingraft.pipeline.inputs import RecipeFiles
from lingraft.pipeline.plan import make_plan
from lingraft.pipeline.run_directory import run_target
from lingraft.recipe import load_recipe

pytestmark = pytest.mark.integration

SENTENCE = "Watu wa nyumba wanakunywa maji ya moto kila siku asubuhi, na watoto wanasoma vitabu."
PAGE = f"""<!DOCTYPE html>
<html><head><title>Kichwa</title><style>p {{ color: red }}</style></head><body>
<nav><ul><li><a href="/">Nyumbani</a></li><li><a href="/habari">Habari</a></li></ul></nav>
<article><h1>Siku ya soko</h1><p>{SENTENCE} <b>Maji</b> &amp; <a href="x">moto</a>.</p><p>{SENTENCE}</p>
<ul><li>moja</li><li><p>mbili</p></li></ul>
<table><tr><th>neno</th><th>maana</th></tr><tr><td>jua</td><td>sun</td></tr></table></article>
<script>var siri = "msimbo";</script><footer>Hakimiliki 2024</footer></body></html>
"""
MARKDOWN = f"""---
title: Kichwa
---
# Siku ya *soko*

{SENTENCE} [maji](http://x.y) na `moto`,
mstari wa pili ![picha](a.png).

<div class="x">
tangazo
</div>

- moja
- mbili <b>tatu</b>

| neno | maana |
|------|-------|
| jua  | sun   |

```python
kitabu = 1
```
"""


@pytest.fixture
def pages(tmp_path):
    """Writes pages by their names below a folder, and gives the source that reads them."""

    def write(files: dict[str, str | bytes]) -> PageSource:
        for name, content in files.items():
            (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "site" / name).write_bytes(content.encode() if isinstance(content, str) else content)
        suffixes = sorted({Path(name).suffix for name in files} & {".html", ".md"})
        return PageSource(pages=[str(tmp_path / "site" / "**" / f"*{suffix}") for suffix in suffixes])

    return write


def read(source: PageSource) -> tuple[list[str], DroppedText]:
    dropped = DroppedText()
    return [text for _, (text,) in source.rows(dropped)], dropped


def test_html_gives_its_main_text_without_markup() -> None:
    assert html_text(PAGE).splitlines() == [
        "Siku ya soko",
        f"{SENTENCE} Maji & moto.",
        SENTENCE,
        "moja",
        "mbili",
        "neno maana",
        "jua sun",
    ]


def test_markdown_gives_its_text_without_markup() -> None:
    assert markdown_text(MARKDOWN).splitlines() == [
        "Siku ya soko",
        f"{SENTENCE} maji na moto,",
        "mstari wa pili .",
        "moja",
        "mbili tatu",
        "neno maana",
        "jua sun",
        "kitabu = 1",
    ]


def test_a_line_across_a_document_is_no_front_matter() -> None:
    assert markdown_text("---\nmaji\n\n---\nmoto\n") == "maji\nmoto"


def test_a_fragment_of_html_is_a_page() -> None:
    assert html_text("<p>maji na moto</p>") == "maji na moto"


def test_a_page_without_text_is_counted_with_its_place(pages, tmp_path) -> None:
    texts, dropped = read(pages({"a.html": "<html><body></body></html>", "b.md": "maji", "c.md": "![x](y)"}))
    assert texts == ["maji"]
    assert dropped.counts == {"pages without text": 2}
    assert dropped.first_place["pages without text"] == str(tmp_path / "site" / "a.html")


def _declared(encoding: str, head: str = '<meta charset="{}">') -> bytes:
    return f"<html><head>{head.format(encoding)}</head><body><p>Ñandú, año</p></body></html>".encode(encoding)


ENCODINGS = {
    "UTF-8": _declared("utf-8", ""),
    "UTF-8 with a mark": _declared("utf-8-sig", ""),
    "UTF-16 by its mark": _declared("utf-16", ""),
    "declared": _declared("iso-8859-1"),
    "declared as HTML 4 does": _declared("cp850", '<META content="text/html; charset={}" http-equiv=Content-Type>'),
    "declared as XML does": b'<?xml version="1.0" encoding="latin1"?>' + _declared("latin1", ""),
    "UTF-8, declared in a comment only": _declared("utf-8", "<!-- <meta charset=cp1251> -->"),
    "UTF-8 declared as UTF-16": _declared("utf-8", "<meta charset=utf-16>"),
}


@pytest.mark.parametrize("page", ENCODINGS.values(), ids=ENCODINGS)
def test_the_encoding_comes_from_the_file(pages, page) -> None:
    texts, dropped = read(pages({"a.html": page}))
    assert texts == ["Ñandú, año"]
    assert not dropped


UNKNOWN = "pages that declare an unknown encoding"
UNREADABLE = {
    "not UTF-8": ("a.md", "año".encode("latin1"), "pages that are not in the encoding that they declare"),
    "not as declared": ("a.html", _declared("latin1", "<meta charset=utf-8>"), "pages that are not in the encoding"),
    "no such encoding": (
        "a.html",
        _declared("utf-8", "<meta charset=x-foo>"),
        "pages that declare an unknown encoding",
    ),
    "no text encoding": ("a.html", _declared("utf-8", "<meta charset=hex>"), UNKNOWN),
}


@pytest.mark.parametrize(("name", "content", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_page_that_cannot_be_decoded_costs_itself_alone(pages, tmp_path, name, content, reason) -> None:
    texts, dropped = read(pages({name: content, "good.md": "maji"}))
    assert texts == ["maji"]
    assert str(dropped).startswith(f"1 {reason}")
    assert f"(first: {tmp_path / 'site' / name})" in str(dropped)


def test_a_page_that_is_too_long_is_not_held(pages, monkeypatch) -> None:
    monkeypatch.setattr("lingraft.corpus.sources.pages.MAX_BYTES", 10)
    assert read(pages({"a.md": "maji na moto", "b.md": "maji"}))[0] == ["maji"]


BROKEN = {
    "nothing": "",
    "no end": "<html><body><p>maji <b>moto<p>kitabu <div",
    "no beginning": "</p></div></body></html>",
    "deep": "<div>" * 20_000 + "maji",
    "deep text": "<p>" + "<b>" * 3_000 + "maji",
    "zero bytes": "<html><body><p>ma\0ji</p></body></html>",
    "references to no character": "<p>maji &#xD800; &#0; &#x110000; &nothing; moto</p>",
    "two pages": PAGE + PAGE,
    "frames": "<html><frameset><frame src=x></frameset></html>",
    "only a doctype": "<!DOCTYPE html>",
    "noise": "".join(map(chr, random.Random(0).choices(range(1, 0xD7FF), k=2_000))),
}


@pytest.mark.parametrize("suffix", [".html", ".md"])
@pytest.mark.parametrize("page", BROKEN.values(), ids=BROKEN)
def test_a_broken_page_costs_at_most_itself(pages, page, suffix) -> None:
    texts, dropped = read(pages({f"a{suffix}": page, "good.md": "maji"}))
    assert texts[-1] == "maji"
    assert len(texts) + sum(dropped.counts.values()) == 2


def test_a_page_cut_anywhere_is_read_as_far_as_it_goes(pages) -> None:
    cuts = random.Random(0).sample(range(len(PAGE)), 40)
    source = pages({f"{cut:04}.html": PAGE[:cut] for cut in cuts} | {"good.md": "maji"})
    texts, dropped = read(source)
    assert len(texts) + sum(dropped.counts.values()) == 41
    assert not set(dropped.counts) - {"pages without text"}


def test_a_fault_of_a_parser_costs_one_page(pages, monkeypatch) -> None:
    def fail(page: str) -> str:
        raise AttributeError("a bug")

    monkeypatch.setattr("lingraft.corpus.sources.pages.PAGE_TEXT", {".html": fail, ".md": markdown_text})
    texts, dropped = read(pages({"a.html": PAGE, "b.md": "maji"}))
    assert texts == ["maji"]
    assert dropped.counts == {"pages that cannot be parsed": 1}


def test_places_tell_pages_of_one_name_apart(pages) -> None:
    source = pages({"a/index.html": PAGE, "b/index.html": "", "c/index.html": PAGE})
    assert [source.place(number) for number in range(2)] == ["a/index.html", "c/index.html"]


def test_a_page_that_is_named_itself_has_its_name_for_a_place(pages, tmp_path) -> None:
    pages({"a/index.html": PAGE})
    assert PageSource(pages=[str(tmp_path / "site" / "a" / "index.html")]).place(0) == "index.html"


def test_the_size_of_many_pages_is_estimated_from_some(pages, recipe, tmp_path, monkeypatch) -> None:
    pages({f"{i:02}.md": f"{SENTENCE} {i:02}" for i in range(40)})
    recipe["corpus"] = [{"language": "swh_Latn", "pages": str(tmp_path / "site" / "*.md")}]
    resolved = load_recipe(recipe)
    whole = make_plan(resolved, resolved.only).tokens[0]
    monkeypatch.setattr("lingraft.corpus.sources.pages.SAMPLED_PAGES", 7)
    sample = next(resolved.only.corpus[0].source.samples())
    assert len(sample.texts) == 7
    assert make_plan(resolved, resolved.only).tokens[0] == pytest.approx(whole, rel=0.01)


REFUSED = {
    "another suffix": ({"pages": "site/*.txt"}, "is no page; names of pages end in .html, .htm, .md"),
    "no page": ({"pages": "site/*.md"}, "no file matches"),
    "a folder": ({"pages": "site"}, "is not a file; name the files in it, as in 'site/**/*.html'"),
    "a field": ({"pages": "site/*.html", "text_field": "x"}, "'text_field' is of files or a hub dataset; give 'files'"),
    "a split": ({"pages": "site/*.html", "split": "lines"}, "'split' is of files or a hub dataset"),
    "pairs": (
        {"pages": "site/*.html", "language": None, "parallel": {"swh_Latn": "a", "eng_Latn": "b"}},
        "'parallel' names fields of records, and pages have none; give 'language' in its place",
    ),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_what_pages_cannot_be_is_said(pages, recipe, tmp_path, monkeypatch, keys, message) -> None:
    pages({"a.html": PAGE, "b.txt": "maji"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe({**recipe, "corpus": [{"language": "swh_Latn", **keys}]})
    assert message in str(caught.value)


def test_a_missing_package_is_said_with_what_installs_it(pages, recipe, tmp_path, monkeypatch) -> None:
    pages({"a.html": PAGE})
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if "trafil" in name else there(name, *of))
    with pytest.raises(RecipeError, match=r"corpus\.0: pages: .* trafilatura.* pip install 'lingraft\[pages\]'"):
        load_recipe({**recipe, "corpus": [{"language": "swh_Latn", "pages": str(tmp_path / "site" / "*.html")}]})


def test_a_run_is_not_written_among_the_pages_that_it_reads(pages, recipe, tmp_path) -> None:
    pages({"a.html": PAGE})
    recipe["corpus"] = [{"language": "swh_Latn", "pages": str(tmp_path / "site" / "**" / "*.html")}]
    resolved = load_recipe(recipe)
    with pytest.raises(OutputError, match="would read what is written there"):
        run_target(tmp_path / "site" / "out", resolved)


def test_a_page_that_changes_or_comes_to_a_run_is_noticed(pages, recipe, tmp_path) -> None:
    pages({"a.html": PAGE, "b.html": PAGE})
    recipe["corpus"] = [{"language": "swh_Latn", "pages": str(tmp_path / "site" / "*.html")}]
    inputs = RecipeFiles(load_recipe(recipe), tmp_path / "work")
    assert not inputs.text.changed()
    pages({"a.html": "maji", "c.html": PAGE})
    assert inputs.text.changed() == {"corpus": [tmp_path / "site" / "a.html", tmp_path / "site" / "c.html"]}


def _python(code: str, hash_seed: int = 0) -> str:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(hash_seed),
        "PYTHONPATH": str(Path(lingraft.__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_recipe_loads_no_parser_of_pages() -> None:
    code = "import sys, lingraft.recipe; print([name for name in ('trafilatura', 'lxml') if name in sys.modules])"
    assert _python(code).strip() == "[]"


def test_the_text_of_a_page_is_the_same_in_every_process() -> None:
    code = f"from lingraft.corpus.page_text import html_text; print(ascii(html_text({PAGE!r})))"
    assert _python(code, 1) == _python(code, 2)


def test_a_run_trains_on_pages_and_leaves_out_what_is_measured(recipe, texts, tmp_path) -> None:
    """A recipe with paths relative to it; one page has no text, and one has a text of `evaluation`."""
    site = tmp_path / "site"
    (site / "news").mkdir(parents=True)
    for i, line in enumerate(texts["swh_Latn"].read_text().splitlines()):
        text = json.loads(line)["text"]
        if i % 2:
            (site / "news" / f"{i:02}.html").write_text(f"<html><body><article><p>{text}</p></article></body></html>")
        else:
            (site / "news" / f"{i:02}.md").write_text(f"# Habari {i}\n\n{text}\n")
    leaked = json.loads(texts["eng_Latn"].read_text().splitlines()[0])["text"]
    (site / "news" / "leak.html").write_text(f"<html><body><p>{leaked}</p></body></html>")
    (site / "empty.html").write_text("<html><body></body></html>")
    patterns = ["site/**/*.html", "site/**/*.md"]
    recipe["corpus"] = [{"language": "swh_Latn", "pages": patterns, "max_epochs": 2}]
    recipe["training"]["max_steps"] = 2
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))

    results = lingraft.run(tmp_path / "recipe.yaml", tmp_path / "out")
    (overlap,) = results["overlap"]
    assert (overlap["documents"], overlap["left_out"]) == (81, 1)
    assert overlap["first"]["place"] == "news/leak.html"
    record = json.loads((tmp_path / "out" / "work" / "corpus-0" / "corpus.json").read_text())
    assert record["dropped"] == {"pages without text": 1}
