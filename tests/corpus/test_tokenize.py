from itertools import count

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lingraft.corpus.tokenize import DocumentTokenizer, column, encode, open_table, text_digest, write_documents

TEXTS = ["Habari ya asubuhi.", "Ọjọ́ dára.", "ሰላም 🙂", " two  spaces\n", "Habari ya asubuhi."]
MARKS = [("<s>", "</s>"), (None, "</s>"), ("<s>", None), (None, None)]


def byte_tokenizer(bos="<s>", eos="</s>"):
    """Every byte is a token, and so every token a byte: what a text becomes is known."""
    vocab = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [mark for mark in (bos, eos) if mark]
    tokenizer.add_special_tokens(marks)
    tokenizer.post_processor = processors.TemplateProcessing(  # sets marks of its own, as many tokenizers do
        single=[*marks[:1], "$A", *marks[1:]], special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in marks]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)


def documents_of(tokenizer):
    return DocumentTokenizer(tokenizer, tokenizer.bos_token, tokenizer.eos_token)


def write(path, texts, tokenizer, max_tokens=None):
    write_documents(path, iter(texts), documents_of(tokenizer), max_tokens)
    return open_table(path)


def test_token_ids_decode_to_their_text():
    tokenizer = byte_tokenizer()
    assert [tokenizer.decode(ids) for ids in encode(tokenizer, TEXTS)] == TEXTS


def test_encoding_sets_no_marks():
    tokenizer = byte_tokenizer()
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & {i for ids in encode(tokenizer, TEXTS) for i in ids}


@pytest.mark.parametrize("text", ["</s>", "one</s>two", "<s>one", "<s></s> </s>"])
def test_a_special_token_written_in_a_text_stays_text(text):
    tokenizer = byte_tokenizer()
    (ids,) = encode(tokenizer, [text])
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids) == text


def test_no_texts_have_no_tokens():
    assert encode(byte_tokenizer(), []) == []


@pytest.mark.parametrize(("bos", "eos"), MARKS)
def test_a_document_stands_between_the_marks_that_the_tokenizer_has(tmp_path, bos, eos):
    tokenizer = byte_tokenizer(bos, eos)
    first = [] if bos is None else [tokenizer.convert_tokens_to_ids(bos)]
    last = [] if eos is None else [tokenizer.convert_tokens_to_ids(eos)]
    table = write(tmp_path / "documents.arrow", TEXTS, tokenizer)
    assert table["input_ids"] == [first + ids + last for ids in encode(tokenizer, TEXTS)]


@pytest.mark.parametrize(("bos", "eos"), MARKS)
def test_num_tokens_counts_the_marks(tmp_path, bos, eos):
    table = write(tmp_path / "documents.arrow", TEXTS, byte_tokenizer(bos, eos))
    assert column(table, "num_tokens").tolist() == [len(ids) for ids in table["input_ids"]]


def test_write_documents_returns_the_tokens_of_its_table(tmp_path):
    path = tmp_path / "documents.arrow"
    total = write_documents(path, iter(TEXTS), documents_of(byte_tokenizer()))
    assert total == column(open_table(path), "num_tokens").sum()


def test_a_table_gives_back_the_texts_in_order(tmp_path):
    texts = [f"document {i}" for i in range(1500)]  # more than one batch
    assert write(tmp_path / "documents.arrow", texts, byte_tokenizer())["text"] == texts


def test_a_table_is_memory_mapped(tmp_path):
    path = tmp_path / "documents.arrow"
    write_documents(path, (f"document {i} " * 500 for i in range(120)), documents_of(byte_tokenizer()))
    before = pa.total_allocated_bytes()
    table = open_table(path)
    assert table.data.nbytes > 2**21
    assert pa.total_allocated_bytes() - before < 2**18
    assert [file["filename"] for file in table.cache_files] == [str(path)]


def test_a_digest_tells_equal_texts_from_others(tmp_path):
    digests = column(write(tmp_path / "documents.arrow", TEXTS, byte_tokenizer()), "digest").tolist()
    assert digests == [text_digest(text) for text in TEXTS]
    assert len(set(digests)) == len(set(TEXTS))


def test_a_digest_is_the_same_on_every_machine():
    assert text_digest("Habari") == 1627061212280421032


def test_max_tokens_stops_the_reading(tmp_path):
    numbers = count()
    texts = (f"document {next(numbers)}" for _ in range(10**6))
    total = write_documents(tmp_path / "documents.arrow", texts, documents_of(byte_tokenizer()), max_tokens=10_000)
    assert total >= 10_000
    assert next(numbers) < 2000


def test_documents_below_max_tokens_are_all_kept(tmp_path):
    table = write(tmp_path / "documents.arrow", TEXTS, byte_tokenizer(), max_tokens=10_000)
    assert table["text"] == TEXTS


def test_texts_that_differ_in_white_space_alone_have_one_digest():
    assert text_digest("maji  na\nmoto \n") == text_digest("maji na moto")
    assert text_digest("maji na moto") != text_digest("majina moto")
