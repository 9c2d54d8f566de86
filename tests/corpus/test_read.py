import bz2
import gzip
import json
import lzma
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lingraft.corpus import lines, plain_text
from lingraft.corpus.compression import zstd
from lingraft.corpus.read import (
    FORMATS,
    DroppedText,
    find_files,
    read_documents,
    read_records,
    read_rows,
    read_texts,
    write_texts,
)
from lingraft.errors import CorpusError

DOCUMENTS = ["Habari ya asubuhi.\nHabari ya jioni.", "Ọjọ́ dára púpọ̀.", " ሰላም ለዓለም", "one 🙂 word"]


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": partial(lzma.compress, preset=0), ".zst": zstd.compress}


def compress(name, data):
    return PACKED.get(Path(name).suffix, bytes)(data)


def json_lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write_corpus(path, documents):
    """A corpus file of the format that its name says."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.table({"text": documents}), path)
    elif ".txt" in path.name:
        path.write_bytes(compress(path.name, "\n\n".join(documents).encode()))
    elif ".jsonl" not in path.name:
        path.write_bytes(compress(path.name, json.dumps([{"text": text} for text in documents], indent=1).encode()))
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


@pytest.mark.parametrize("suffix", [f".jsonl{packed}" for packed in PACKED])
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
    "long number": (b'{"text": "x", "id": ' + b"1" * 5000 + b"}", "records with a number of too many digits"),
    "deep": (b'{"text": "x", "id": ' + b"[" * 3000 + b"]" * 3000 + b"}", "records that are nested too deeply"),
    "twice": (b'{"text": "x", "text": "y"}', "records that give a field twice"),
    "twice inside": (b'{"text": "x", "meta": {"a": 1, "a": 2}}', "records that give a field twice"),
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


@pytest.mark.parametrize("suffix", [form for form in FORMATS if Path(form).suffix in PACKED or form == ".parquet"])
def test_a_file_that_breaks_off_is_an_error_and_not_a_short_corpus(tmp_path, suffix):
    whole = write_corpus(tmp_path / f"whole{suffix}", long_text())
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(CorpusError, match=rf"{path}:.*\d+: here the file breaks off or is damaged"):
        read(path)


def test_an_array_that_breaks_off_is_an_error_that_says_after_which_record(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text('[{"text": "one"}, {"text": "two"}, {"te')
    with pytest.raises(CorpusError, match=r"cut\.json: after record 2: this is not JSON"):
        read(path)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".parquet"])
def test_a_damaged_file_is_an_error(tmp_path, suffix):
    path = write_corpus(tmp_path / f"corpus{suffix}", long_text())
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 2000):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="breaks off or is damaged"):
        read(path)


@pytest.mark.parametrize("packed", [".bz2", ".xz", ".zst", ".gz"])
def test_a_part_that_cannot_be_read_is_not_the_end_of_a_compressed_file(tmp_path, packed):
    """Of bz2 and xz, Python's own readers take it for the end."""
    path = tmp_path / f"corpus.jsonl{packed}"
    path.write_bytes(compress(packed, json_lines([{"text": "one"}])) + b"\x01" + compress(packed, b"x" * 100)[1:])
    with pytest.raises(CorpusError, match="breaks off or is damaged"):
        read(path)


def test_zeros_between_the_parts_of_xz_are_padding(tmp_path):
    path = tmp_path / "corpus.jsonl.xz"
    parts = [lzma.compress(json_lines([{"text": text}])) for text in DOCUMENTS]
    path.write_bytes((b"\0" * 70_000).join(parts))
    assert read(path)[0] == DOCUMENTS


def test_zstd_with_a_long_window_is_read(tmp_path):
    path = tmp_path / "corpus.jsonl.zst"
    long = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.content_size_flag: 0}
    with zstd.open(path, "wb", options=long) as file:  # of unknown size, as in `... | zstd --long=28`
        file.write(json_lines({"text": text} for text in DOCUMENTS))
    assert zstd.get_frame_info(path.read_bytes()).decompressed_size is None
    assert read(path)[0] == DOCUMENTS


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst", ".parquet"])
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(json_lines({"text": text} for text in DOCUMENTS))
    with pytest.raises(CorpusError, match="breaks off or is damaged"):
        read(path)


def test_a_file_of_which_nothing_can_be_used_is_an_error_also_beside_others(tmp_path):
    good = write_corpus(tmp_path / "a.jsonl", DOCUMENTS)
    bad = tmp_path / "b.jsonl"
    bad.write_bytes(json_lines([{"content": "x"}] * 3))
    with pytest.raises(CorpusError, match=r"b\.jsonl: no document could be read: 3 records without the field 'text'"):
        list(read_documents([good, bad], "text", DroppedText()))


def test_an_empty_file_beside_others_is_counted(tmp_path):
    good, empty = write_corpus(tmp_path / "a.jsonl", DOCUMENTS), tmp_path / "b.jsonl"
    empty.touch()
    dropped = DroppedText()
    assert list(read_documents([empty, good], "text", dropped)) == DOCUMENTS
    assert dropped.first_place == {"empty files": str(empty)}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ".txt.gz"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_text_in_another_encoding_is_refused_by_its_name(tmp_path, suffix, encoding):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(compress(suffix, "habari ya asubuhi\n".encode(encoding)))
    wanted = "it holds zero bytes, as UTF-16 does" if encoding == "utf-16-le" else f"this is {encoding.upper()}, and"
    with pytest.raises(CorpusError, match=wanted):
        read(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".jsonl.gz"])
def test_a_line_that_is_too_long_is_counted_with_its_place_and_the_next_is_read(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(lines, "MAX_BYTES", 100)
    path = write_corpus(tmp_path / f"corpus{suffix}", ["one", "x" * 3_000_000, "two"])
    found, dropped = read(path)
    assert found == ["one", "two"]
    assert list(dropped.first_place.values()) == [f"{path}:{3 if suffix == '.txt' else 2}"]


def test_a_document_of_plain_text_that_is_too_long_is_refused_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_text, "MAX_BYTES", 100)
    path = tmp_path / "corpus.txt"
    path.write_text("one\n\n" + "a line of text\n" * 20)
    with pytest.raises(CorpusError, match=r"corpus\.txt:3: this document is longer than .*'split: lines'"):
        read(path)
    assert len(list(read_documents([path], "text", DroppedText(), "lines"))) == 21


@pytest.mark.parametrize(
    ("split", "documents"),
    [
        (None, ["a\nb", "c"]),
        ("paragraphs", ["a\nb", "c"]),
        ("lines", ["a", "b", "c"]),
        ("file", ["a\nb\n \nc"]),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_plain_text_is_cut_as_split_says(tmp_path, split, documents, packed):
    path = tmp_path / f"corpus.txt{packed}"
    path.write_bytes(compress(path.name, b"\na\nb\n \nc\n\n"))
    assert list(read_documents([path], "text", DroppedText(), split)) == documents


JSON_FILES = {
    "an array": b'[{"text": "one"}, {"text": "two"}]',
    "an array with a mark of order": b'\xef\xbb\xbf[{"text": "one"},\n {"text": "two"}\n]\n',
    "objects in lines": b'{"text": "one"}\n{"text": "two"}\n',
    "objects side by side": b' {"text": "one"}{"text":\n"two"}',
    "what cannot be used between": b'[{"text": "one"}, 5, "x", {"a": NaN, "b": NaN, "a": 1}, {}, {"text": "two"}]',
}


@pytest.mark.parametrize("data", JSON_FILES.values(), ids=JSON_FILES)
@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_json_is_an_array_or_objects_one_after_another(tmp_path, monkeypatch, data, chunk):
    monkeypatch.setattr("lingraft.corpus.json_records._CHUNK", chunk)
    path = tmp_path / "corpus.json"
    path.write_bytes(data)
    assert read(path)[0] == ["one", "two"]


NO_JSON = {
    "a text": (b'"text"', "after record 0: a .json holds an array of records, or objects one after another"),
    "an array that goes on": (b'[{"text": "one"} {"text": "two"}]', "after record 1: the array goes on"),
    "an array without end": (b'[{"text": "one"}', "after record 1: the array is cut"),
    "something after the array": (b'[{"text": "one"}] []', "after record 1: something follows the array"),
    "a name without a value": (b'[{"text"}]', "after record 0: this is not JSON"),
    "not UTF-8": (b'[{"text": "caf\xe9"}]', "after record 0: this is not UTF-8"),
    "too deep": (b'[{"text": ' + b"[" * 3000 + b"]" * 3000 + b"}]", "after record 0: records that are nested too deep"),
    "a long number": (b'[{"id": ' + b"1" * 5000 + b"}]", "after record 0: records with a number of too many digits"),
}


@pytest.mark.parametrize(("data", "wanted"), NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_an_error_that_says_after_which_record(tmp_path, data, wanted):
    path = tmp_path / "corpus.json"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=rf"corpus\.json: {wanted}"):
        read(path)


def test_a_record_of_json_that_never_ends_is_refused_before_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("lingraft.corpus.json_records.MAX_BYTES", 2**20)
    path = tmp_path / "corpus.json"
    path.write_text('[{"text": "one"}, {"text": "' + "x" * 10_000_000)
    with pytest.raises(CorpusError, match="after record 1: no record ends within 1 MiB"):
        read(path)


def test_numbers_that_json_has_not_do_not_cost_the_text_beside_them(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"text": "one", "score": NaN}\n{"text": "two", "score": -Infinity}\n')
    assert read(path)[0] == ["one", "two"]


ARROW_TEXT = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]


@pytest.mark.parametrize("kind", ARROW_TEXT, ids=str)
def test_text_of_every_arrow_type_is_text(tmp_path, kind):
    parquet.write_table(pa.table({"text": pa.array(DOCUMENTS).cast(kind)}), tmp_path / "corpus.parquet")
    assert read(tmp_path / "corpus.parquet")[0] == DOCUMENTS


@pytest.mark.parametrize("suffix", [".jsonl.xz", ".json", ".parquet"])
def test_records_are_read_from_every_format_that_has_fields(tmp_path, suffix):
    path = write_corpus(tmp_path / f"records{suffix}", DOCUMENTS)
    assert [record for _, record in read_records([path])] == [{"text": text} for text in DOCUMENTS]
    with pytest.raises(CorpusError, match="plain text has no fields"):
        list(read_records([write_corpus(tmp_path / "records.txt", DOCUMENTS)]))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_went_away_is_an_error(tmp_path, suffix):
    with pytest.raises(CorpusError, match="No such file"):
        read(tmp_path / f"corpus{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".jsonl.gz", ".txt.zst"])
def test_an_empty_file_is_an_error_that_says_so(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(compress(suffix, b""))
    with pytest.raises(CorpusError, match="no document could be read: 1 empty files"):
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


@pytest.mark.parametrize("name", ["corpus.csv", "corpus.gz", "corpus", "corpus.parquet.gz", "corpus.jsonl.zip"])
def test_an_unknown_suffix_is_an_error_that_lists_the_known(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(CorpusError) as caught:
        find_files(str(tmp_path / name))
    wanted = [str(tmp_path / name), ".jsonl", ".json", ".txt", ".parquet", *PACKED]
    assert all(suffix in str(caught.value) for suffix in wanted)


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
