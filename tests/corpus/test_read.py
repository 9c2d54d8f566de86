import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lingraft.corpus.read import (
    FORMATS,
    DroppedText,
    find_files,
    read_documents,
    read_rows,
    read_texts,
    write_texts,
)
from lingraft.errors import CorpusError

DOCUMENTS = ["Habari ya asubuhi.\nHabari ya jioni.", "Ọjọ́ dára púpọ̀.", " ሰላም ለዓለም", "one 🙂 word"]


def compress(name, data):
    if name.endswith(".gz"):
        return gzip.compress(data)
    return pa.compress(data, codec="zstd", asbytes=True) if name.endswith(".zst") else data


def json_lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write_corpus(path, documents):
    """A corpus file of the format that its name says."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.table({"text": documents}), path)
    elif ".txt" in path.name:
        path.write_bytes(compress(path.name, "\n\n".join(documents).encode()))
    else:
        path.write_bytes(compress(path.name, json_lines({"text": text} for text in documents)))
    return path


def read(path, text_field="text"):
    dropped = DroppedText()
    return list(read_documents([path], text_field, dropped)), dropped


def long_text():
    random = np.random.default_rng(0)
    return [" ".join(map(str, random.integers(0, 10**9, 30))) for _ in range(3000)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_gives_the_same_documents(tmp_path, suffix):
    found, dropped = read(write_corpus(tmp_path / f"corpus{suffix}", DOCUMENTS))
    assert found == DOCUMENTS
    assert not dropped.counts


@pytest.mark.parametrize("suffix", FORMATS)
def test_documents_keep_the_order_of_a_long_file(tmp_path, suffix):
    documents = long_text()
    assert read(write_corpus(tmp_path / f"corpus{suffix}", documents))[0] == documents


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_compressed_in_parts_is_read_whole(tmp_path, suffix):
    parts = [json_lines({"text": text} for text in part) for part in (DOCUMENTS, long_text())]
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(b"".join(compress(suffix, part) for part in parts))
    assert read(path)[0] == DOCUMENTS + long_text()


def test_files_are_read_one_after_another(tmp_path):
    paths = [write_corpus(tmp_path / f"{i}.jsonl", [text]) for i, text in enumerate(DOCUMENTS)]
    assert list(read_documents(paths, "text", DroppedText())) == DOCUMENTS


def test_the_text_field_is_the_one_asked_for(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(json_lines([{"text": "no", "content": "yes"}]))
    assert read(path, "content")[0] == ["yes"]


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".jsonl.gz", ".txt.zst"])
def test_a_byte_order_mark_is_no_text(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    data = b"habari" if suffix.startswith(".txt") else json_lines([{"text": "habari"}])
    path.write_bytes(compress(suffix, b"\xef\xbb\xbf" + data))
    assert read(path)[0] == ["habari"]


@pytest.mark.parametrize(
    "data",
    [
        b"one\nline\n\ntwo\n",
        b"\n\none\nline\n\n\n\ntwo\n\n",
        b"one\nline\n \t \ntwo",
    ],
)
def test_blank_lines_part_the_documents_of_plain_text(tmp_path, data):
    path = tmp_path / "corpus.txt"
    path.write_bytes(data)
    assert read(path)[0] == ["one\nline", "two"]


def test_blank_lines_of_windows_part_documents_too(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"one\r\n\r\ntwo\r\n")
    assert read(path)[0] == ["one", "two"]


def test_blank_lines_between_records_are_nothing(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'\n{"text": "one"}\n  \n{"text": "two"}\n\n')
    found, dropped = read(path)
    assert (found, dropped.counts) == (["one", "two"], {})


BAD_LINES = {
    "not UTF-8": (b'{"text": "caf\xe9"}', "lines that are not UTF-8"),
    "empty": (b'{"text": ""}', "empty documents"),
    "blank": (b'{"text": " \\n\\t"}', "empty documents"),
    "no field": (b'{"content": "x", "id": 1}', "records without the field 'text'"),
    "number": (b'{"text": 5}', "records whose 'text' is not text"),
    "null": (b'{"text": null}', "records whose 'text' is not text"),
    "cut": (b'{"text": "x', "lines that are not JSON"),
    "long number": (b'{"text": "x", "id": ' + b"1" * 5000 + b"}", "lines that are not JSON"),
    "deep": (b"[" * 10**5, "lines that are not JSON"),
    "list": (b'["x"]', "lines that are not a JSON object"),
    "surrogate": (b'{"text": "\\ud800"}', "records that are not valid Unicode"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_what_cannot_be_used_is_counted_with_its_line(tmp_path, line, reason):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"\n".join([b'{"text": "one"}', line, b'{"text": "two"}', line]) + b"\n")
    found, dropped = read(path)
    assert found == ["one", "two"]
    assert dropped.counts == {reason: 2}
    assert dropped.first_place[reason].split(",")[0] == f"{path}:2"


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_nothing_left_is_an_error_that_names_reason_and_place(tmp_path, line, reason):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line)
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert f"1 {reason} (first: {path}:1" in str(caught.value)


def test_a_missing_field_is_told_with_the_fields_that_are_there(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"content": "x", "id": 1}')
    with pytest.raises(CorpusError, match="with the fields content, id"):
        read(path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": ["one", "", "two"]}, "empty documents"),
        ({"text": ["one", None, "two"]}, "records whose 'text' is not text"),
    ],
)
def test_what_cannot_be_used_of_parquet_is_counted_with_its_row(tmp_path, values, reason):
    path = tmp_path / "corpus.parquet"
    parquet.write_table(pa.table(values), path)
    found, dropped = read(path)
    assert found == ["one", "two"]
    assert (dropped.counts, dropped.first_place) == ({reason: 1}, {reason: f"{path}:row 2"})


def test_parquet_without_the_field_counts_all_its_rows(tmp_path):
    path = tmp_path / "corpus.parquet"
    parquet.write_table(pa.table({"content": ["a", "b", "c"], "id": [1, 2, 3]}), path)
    dropped = DroppedText()
    with pytest.raises(CorpusError, match="with the fields content, id"):
        list(read_documents([path], "text", dropped))
    assert dropped.counts == {"records without the field 'text'": 3}


def dropped_of_a_broken_file(path):
    """What is left out of a file of which some is lost, be it all."""
    dropped = DroppedText()
    try:
        found = list(read_documents([path], "text", dropped))
    except CorpusError:
        found = []
    assert len(found) < 3000
    return dropped


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst", ".parquet"])
def test_a_file_that_breaks_off_is_counted(tmp_path, suffix):
    whole = write_corpus(tmp_path / f"whole{suffix}", long_text())
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    dropped = dropped_of_a_broken_file(path)
    places = [place for reason, place in dropped.first_place.items() if reason.startswith("files that break off")]
    assert [place.rpartition(":")[0] for place in places] == [str(path)]


def test_what_stands_before_the_end_of_a_cut_file_is_read(tmp_path):
    documents = long_text()
    whole = write_corpus(tmp_path / "whole.jsonl.gz", documents)
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    found, dropped = read(path)
    assert found == documents[: len(found)]
    assert len(found) > 1000
    assert list(dropped.first_place.values()) == [f"{path}:{len(found) + 1}"]


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (".jsonl.gz", "files that break off"),
        (".jsonl.zst", "lines that are not JSON"),  # written without a checksum: the damage shows in the text
        (".parquet", "files that break off"),
    ],
)
def test_a_damaged_file_is_counted(tmp_path, suffix, reason):
    path = write_corpus(tmp_path / f"corpus{suffix}", long_text())
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 2000):
        data[place] ^= 0xFF
    path.write_bytes(data)
    dropped = dropped_of_a_broken_file(path)
    assert reason in str(dropped)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(json_lines({"text": text} for text in DOCUMENTS))
    with pytest.raises(CorpusError, match="files that break off"):
        read(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_went_away_is_an_error(tmp_path, suffix):
    with pytest.raises(CorpusError, match="No such file"):
        read(tmp_path / f"corpus{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".jsonl.gz", ".txt.zst"])
def test_an_empty_file_is_an_error_that_says_so(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(compress(suffix, b""))
    with pytest.raises(CorpusError, match="no document could be read: the file is empty"):
        read(path)


def test_a_pattern_names_its_files_in_order(tmp_path):
    (tmp_path / "deep").mkdir()
    paths = [write_corpus(tmp_path / name, DOCUMENTS) for name in ("b.jsonl", "deep/c.jsonl", "a.jsonl")]
    write_corpus(tmp_path / "d.txt", DOCUMENTS)
    assert find_files(str(tmp_path / "**" / "*.jsonl")) == sorted(paths)


@pytest.mark.parametrize("name", ["corpus[1].jsonl", "what?.jsonl", "a*b.jsonl", "[draft] swh.txt.gz"])
def test_a_file_is_found_by_its_own_name(tmp_path, name):
    path = write_corpus(tmp_path / name, DOCUMENTS)
    assert find_files(str(path)) == [path]


@pytest.mark.parametrize("name", ["corpus.csv", "corpus.json", "corpus.gz", "corpus", "corpus.jsonl.bz2", "corpus.zip"])
def test_an_unknown_suffix_is_an_error_that_lists_the_known(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(CorpusError) as caught:
        find_files(str(tmp_path / name))
    assert all(suffix in str(caught.value) for suffix in [str(tmp_path / name), *FORMATS])


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(CorpusError, match="is not a file; name the files in it"):
        find_files(str(tmp_path))


def test_a_pattern_without_a_match_is_an_error_that_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as caught:
        find_files("data/*.jsonl")
    assert "no file matches 'data/*.jsonl'" in str(caught.value)
    assert str(tmp_path / "data" / "*.jsonl") in str(caught.value)


def test_texts_are_read_back_as_they_were_written(tmp_path):
    texts = [*DOCUMENTS, "", "a\nb\r\nc\rd", "\u2028\x85\x0b\x0c\x00", '"quoted" \\ {}', "\ufeff"]
    write_texts(tmp_path / "texts.jsonl", texts)
    assert read_texts(tmp_path / "texts.jsonl") == texts


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_one_parquet_value_that_is_not_utf8_costs_no_other(tmp_path, kind):
    values = pa.array([b"one", b"two \xff", b"three"], kind)
    text = pa.Array.from_buffers(pa.string() if kind == pa.binary() else pa.large_string(), 3, values.buffers())
    parquet.write_table(pa.table({"text": text}), tmp_path / "corpus.parquet")
    dropped = DroppedText()
    assert list(read_documents([tmp_path / "corpus.parquet"], "text", dropped)) == ["one", "three"]
    assert dropped.first_place == {"records that are not UTF-8": f"{tmp_path / 'corpus.parquet'}:row 2"}


def test_a_file_that_may_not_be_read_is_an_error_and_not_a_short_corpus(tmp_path, monkeypatch):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(json_lines({"text": text} for text in DOCUMENTS))

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", deny)
    with pytest.raises(CorpusError, match=r"corpus\.jsonl cannot be read: Permission denied"):
        read(path)


PAIRS = [
    {"id": 1, "translation": {"en": "house", "sw": "nyumba"}},
    {"id": 2, "translation": {"en": "water", "sw": "maji"}},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".parquet"])
def test_several_fields_are_read_side_by_side_also_deeper_ones(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(PAIRS), path)
    else:
        path.write_bytes(compress(path.name, json_lines(PAIRS)))
    dropped = DroppedText()
    assert list(read_rows([path], ["translation.sw", "translation.en"], dropped)) == [
        ("nyumba", "house"),
        ("maji", "water"),
    ]
    assert not dropped
    with pytest.raises(CorpusError, match=r"2 records without the field 'translation\.fa'"):
        list(read_rows([path], ["translation.en", "translation.fa"], DroppedText()))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_pair_with_an_empty_side_is_left_out(tmp_path, suffix):
    rows = [{"a": "one", "b": "moja"}, {"a": " ", "b": "mbili"}, {"a": "three", "b": ""}]
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(json_lines(rows))
    dropped = DroppedText()
    assert list(read_rows([path], ["a", "b"], dropped)) == [("one", "moja")]
    assert dropped.counts == {"empty documents": 2}


def test_plain_text_has_no_pairs(tmp_path):
    with pytest.raises(CorpusError, match="plain text has no fields a, b; give pairs as JSON Lines or Parquet"):
        list(read_rows([write_corpus(tmp_path / "pairs.txt", DOCUMENTS)], ["a", "b"], DroppedText()))
