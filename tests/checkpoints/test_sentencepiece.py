"""A model whose tokenizer is only a SentencePiece model is read, or the packages that it takes are named."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece

from lingraft.checkpoints import sentencepiece_model
from lingraft.checkpoints.read import read_tokenizer
from lingraft.errors import ModelError
from vocabulary.families import ENGLISH, sentences


@pytest.fixture
def folder(tmp_path: Path, base: Path) -> Path:
    """The tiny model with `tokenizer.model` alone."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(ENGLISH, 200)),
        model_writer=model,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    for path in base.glob("tokenizer*"):
        path.unlink()
    (base / "tokenizer.model").write_bytes(model.getvalue())
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    return base


def test_a_tokenizer_that_is_only_a_sentencepiece_model_is_read(folder: Path) -> None:
    tokenizer = read_tokenizer(folder)
    assert tokenizer.is_fast
    text = "people house water"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text) / 2


@pytest.mark.parametrize("missing", [["sentencepiece"], ["protobuf"], ["sentencepiece", "protobuf"]])
def test_without_the_packages_they_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch, missing) -> None:
    monkeypatch.setattr(sentencepiece_model, "_is_installed", lambda module: module.rpartition(".")[2] not in missing)
    with pytest.raises(ModelError, match=rf"\(tokenizer.model\), which {' and '.join(missing)} would convert") as error:
        read_tokenizer(folder)
    assert "pip install 'lingraft[sentencepiece]'" in str(error.value)


def test_with_a_tokenizer_json_they_are_not_needed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece_model, "_is_installed", lambda module: False)
    (base / "tokenizer.model").write_bytes(b"\n")
    assert len(read_tokenizer(base)) == 258
