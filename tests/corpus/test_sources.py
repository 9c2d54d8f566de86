"""The laws of every source of text: one table, a row for each entry of `SOURCES`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lingraft.corpus.read import DroppedText, write_texts
from lingraft.corpus.sources import PATH_KEYS, SOURCES, Source
from lingraft.corpus.sources.entry import entry_fields, select_source
from lingraft.errors import CorpusError, RecipeError
from lingraft.recipe import load_recipe, recipe_yaml
from lingraft.recipe.text import CorpusEntry

TEXTS = [f"maji na moto, kitabu {i} cha mtoto" for i in range(8)]


def _records(folder: Path, texts: list[str]) -> str:
    write_texts(folder / "train.jsonl", texts)
    return "train.jsonl"


def _dataset(folder: Path, texts: list[str]) -> str:
    _records(folder, texts)
    return str(folder)


def _pages(folder: Path, texts: list[str]) -> str:
    for i, text in enumerate(texts):
        (folder / f"{i}.html").write_text(f"<html><body><p>{text}</p></body></html>")
    return "*.html"


WRITERS = {"files": _records, "hub": _dataset, "pages": _pages}
"""Source -> a function that writes texts into a folder, and gives the value of the source's key from there."""


@pytest.fixture(params=SOURCES)
def key(request) -> str:
    return request.param


@pytest.fixture
def source_of(key, tmp_path, monkeypatch):
    """Writes texts for a source of this kind, in an order that it keeps, and gives the source."""
    monkeypatch.chdir(tmp_path)

    def source(texts: list[str], **keys: object) -> Source:
        value = WRITERS[key](tmp_path, texts)
        return CorpusEntry.model_validate({"language": "swh_Latn", key: value, **keys}).source

    return source


def test_a_source_is_selected_by_its_key(source_of, key) -> None:
    assert type(source_of(TEXTS)) is SOURCES[key]


def test_only_the_key_that_selects_a_source_is_required(key) -> None:
    source = SOURCES[key]
    assert [name for name in source.entry_keys() if source.model_fields[name].is_required()] == [key]


def test_it_gives_each_document_once_and_always_in_the_same_order(source_of) -> None:
    source = source_of(TEXTS)
    first, second = (list(source.rows(DroppedText())) for _ in range(2))
    assert first == second
    assert [texts for _, texts in first] == [(text,) for text in TEXTS]
    assert len({place for place, _ in first}) == len(TEXTS)


def test_a_place_names_the_document_but_not_the_machine(source_of, tmp_path, key) -> None:
    source = source_of(TEXTS)
    assert len({source.place(number) for number in range(3)}) == 3
    if key in PATH_KEYS:
        assert "/" not in source.place(2)


def test_its_content_is_another_when_a_text_changes(source_of) -> None:
    before = source_of(TEXTS).content()
    assert source_of(TEXTS).content() == before
    assert source_of([*TEXTS[:-1], "jua na mwezi"]).content() != before


def test_its_settings_hold_no_path_of_its_files(source_of, tmp_path) -> None:
    source = source_of(TEXTS)
    assert not set(PATH_KEYS) & set(source.settings)


def test_without_a_usable_document_it_is_an_error(source_of) -> None:
    source = source_of([" "] * 3)
    with pytest.raises(CorpusError, match="could be read"):
        list(source.rows(DroppedText()))


def test_a_small_source_of_local_files_is_counted_whole(source_of) -> None:
    source = source_of(TEXTS)
    samples = source.samples()
    assert (samples is None) == (not source.paths)
    for sample in samples or []:
        assert sample.scale == 1
    assert sum(len(sample.texts) for sample in source.samples() or []) in (0, len(TEXTS))


def test_its_keys_are_refused_beside_another_source(source_of, key) -> None:
    other = "files" if key == "hub" else "hub"
    with pytest.raises(ValueError, match=r"give either 'files' or 'hub'.* \(both are given\)"):
        source_of(TEXTS, **{other: "train.jsonl"})


def test_no_source_is_a_problem_that_names_them_all() -> None:
    values = {name: default for name, (_, default) in entry_fields().items()}
    with pytest.raises(CorpusError, match=" or ".join(f"'{key}'" for key in SOURCES)):
        select_source(values, ())


def test_a_key_of_another_source_is_refused(tmp_path) -> None:
    write_texts(tmp_path / "a.jsonl", TEXTS)
    values = {"language": "swh_Latn", "files": str(tmp_path / "a.jsonl"), "subset": "x"}
    with pytest.raises(ValueError, match="'subset' is of a hub dataset; give 'hub' too, or remove it"):
        CorpusEntry.model_validate(values)


def test_paths_in_a_recipe_start_at_its_folder_and_are_absolute_when_resolved(
    source_of, key, recipe, tmp_path, monkeypatch
) -> None:
    value = source_of(TEXTS).model_dump()[key]
    recipe["corpus"] = [{"language": "swh_Latn", key: value}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resolved = load_recipe(tmp_path / "recipe.yaml")
    source = resolved.only.corpus[0].source
    assert [texts for _, texts in source.rows(DroppedText())] == [(text,) for text in TEXTS]
    assert all(path.is_absolute() for path in source.paths)
    (tmp_path / "resolved.yaml").write_text(recipe_yaml(resolved))
    assert recipe_yaml(load_recipe(tmp_path / "resolved.yaml")) == recipe_yaml(resolved)


def test_an_unknown_key_is_answered_with_the_keys_of_all_sources(recipe) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, ["corpus.0.fils=x"])
    assert all(name in str(caught.value) for name in entry_fields())
