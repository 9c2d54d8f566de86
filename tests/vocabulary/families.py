"""Small tokenizers of each family that can be continued, trained on English on the spot."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ENGLISH = "people house water fire book school child mother father sun moon fish people's don't 1923 (house)"
PERSIAN = "مردم خانه آب آتش کتاب مدرسه کودک مادر پدر خورشید ماه ماهی می\u200cخواهم ۱۲۳ کتاب\u200cها خانه\u200cام"
_LETTERS = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}[\p{L}\p{M}]*"
_OTHERS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def sentences(words: str, count: int, seed: int = 0) -> list[str]:
    draw, each = random.Random(seed), words.split()
    return [" ".join(draw.choices(each, weights=range(1, len(each) + 1), k=12)) + ".\n" for _ in range(count)]


def llama3() -> Tokenizer:
    """Byte-level, whole words before merges, special tokens after the vocabulary."""
    core = Tokenizer(models.BPE(ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{_LETTERS}|{_OTHERS}"), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        sentences(ENGLISH, 200), trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    core.add_special_tokens([AddedToken(name, special=True) for name in ("<|begin|>", "<|end|>")])
    return core


def qwen() -> Tokenizer:
    """Byte-level, NFC, special tokens after the vocabulary."""
    core = llama3()
    core.model.ignore_merges = False
    core.normalizer = normalizers.NFC()
    return core


def gpt2() -> Tokenizer:
    """Byte-level with the cuts of GPT-2, special tokens in the vocabulary."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin|>", "<|end|>"],
        show_progress=False,
    )
    core.train_from_iterator(sentences(ENGLISH, 200), trainer)
    return core


def _sentencepiece(core: Tokenizer) -> Tokenizer:
    """SentencePiece learns on words, whatever the tokenizer cuts later; unknown characters are bytes."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁*[\p{L}']+|▁*\p{N}|▁*[^\p{L}▁\p{N}]+|▁+"), "isolated")
    fallback = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        [" " + text.strip() for text in sentences(ENGLISH, 200)],
        trainers.BpeTrainer(vocab_size=400, special_tokens=fallback, limit_alphabet=60, show_progress=False),
    )
    spec = json.loads(trained.to_str())["model"]
    core.model = models.BPE(
        vocab=spec["vocab"],
        merges=[tuple(merge) for merge in spec["merges"]],
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
    )
    core.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    return core


def llama2() -> Tokenizer:
    """SentencePiece: a space before every text, no cuts before merges."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _sentencepiece(core)


def gemma() -> Tokenizer:
    """SentencePiece without a space before, cut at spaces that are there no more."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _sentencepiece(core)


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "llama3": llama3,
    "qwen": qwen,
    "gpt2": gpt2,
    "llama2": llama2,
    "gemma": gemma,
}
