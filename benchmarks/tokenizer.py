"""Tokenizers that learned new words: what they save, what they keep, and what an independent vocabulary merged in does.

    python benchmarks/tokenizer.py BASE CORPORA [--tokens 2000] [--large 50]

BASE is a model folder, CORPORA a folder of `<language>.<source>.jsonl.gz`. Every tenth document is held out from the
training of the tokenizer. `--large`: megabytes of all languages but English, for the time and memory of 20,000 tokens;
0 leaves it out.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, trainers

from lingraft.corpus.read import DroppedText, read_documents
from lingraft.vocabulary.bpe import BPE
from lingraft.vocabulary.extend import extend, unreachable
from lingraft.vocabulary.model import read_bpe

NEW, OLD = ("urd_Arab", "pes_Arab", "swh_Latn"), ("eng_Latn", "spa_Latn", "fra_Latn")
LINE, OLD_LINES, LINES = 100, 50_000, 10_000


def documents(corpora: Path, language: str) -> list[str]:
    files = sorted(corpora.glob(f"{language}.*.jsonl.gz"))
    return list(read_documents(files, "text", DroppedText()))


def megabytes(corpora: Path, size: float) -> Iterator[str]:
    left = size * 1e6
    for path in sorted(corpora.glob("???_????.*.jsonl.gz")):
        if not path.name.startswith("eng_"):
            for text in read_documents([path], "text", DroppedText()):
                if left <= 0:
                    return
                left -= len(text.encode())
                yield text


def count(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))


def merged_in(bpe: BPE, texts: list[str], number: int) -> BPE:
    """A vocabulary of its own, learned on the new text, put behind the old one, as arXiv 2412.13375 does.

    Merges are those that converters make of a list of pieces: every way to cut a new token into two known ones.
    """
    words = bpe.words(texts)
    own, known = Tokenizer(models.BPE()), set(bpe.strings)
    alphabet = sorted({letter for word in words for letter in word})
    trainer = trainers.BpeTrainer(vocab_size=len(alphabet) + 4 * number, initial_alphabet=alphabet, show_progress=False)
    own.train_from_iterator((word for word, times in words.items() for _ in range(times)), trainer)
    learned = sorted(own.get_vocab(), key=own.get_vocab().__getitem__)
    new = [string for string in learned if string not in known][:number]
    ids = {string: token for token, string in enumerate([*bpe.strings, *new])}
    cuts = [(string[:at], string[at:]) for string in new for at in range(1, len(string))]
    return bpe.extended(new, [(ids[left], ids[right]) for left, right in cuts if left in ids and right in ids])


def odd_lines(texts: list[str]) -> list[str]:
    """Lines of the text, with digits, emoji, control characters and what is left of invalid bytes put in at random."""
    draw = random.Random(0)
    odd = ["😀", "👩\u200d👧", "🇮🇷", "\x00", "\x1b[0m", "\x7f", "\r", "\t\t", "0123456789", "۴۵۶", "3.14e-9"]
    odd += [bytes(draw.randrange(256) for _ in range(6)).decode(errors="replace") for _ in range(50)]
    lines = [line for text in texts for line in text.splitlines() if line][:LINES]
    drawn = [lines[i % len(lines)] for i in range(LINES)]
    return [line[: (at := draw.randrange(len(line) + 1))] + draw.choice(odd) + line[at:] for line in drawn]


def changed(old: BPE, new: BPE, texts: list[str]) -> tuple[int, int]:
    """Bytes in lines that use no new token, and how many of those lines have other ids than before."""
    before, after = (of.tokenizer.encode_batch(texts, add_special_tokens=False) for of in (old, new))
    free = [i for i, encoding in enumerate(after) if max(encoding.ids, default=0) < len(old.strings)]
    other = sum(before[i].ids != after[i].ids for i in free)
    return sum(len(texts[i].encode()) for i in free), other


def small(base: BPE, corpora: Path, number: int) -> None:
    old_text = [
        text[at : at + LINE]
        for language in OLD
        for text in documents(corpora, language)
        for at in range(0, len(text), LINE)
    ]
    random.Random(0).shuffle(old_text)
    for language in NEW:
        texts = documents(corpora, language)
        held, used = texts[::10], [text for i, text in enumerate(texts) if i % 10]
        lines, words = odd_lines(held), base.words(used)
        print(
            f"{language}: {sum(len(text.encode()) for text in held) / count(base.tokenizer, held):.3f} bytes per token"
        )
        for name, made in (("continued", extend(base, used, number).bpe), ("merged in", merged_in(base, used, number))):
            rate = sum(len(text.encode()) for text in held) / count(made.tokenizer, held)
            lost = len(unreachable(made, words, len(base.strings)))
            some = old_text[:OLD_LINES]
            num_bytes, other = changed(base, made, some)
            share = num_bytes / sum(len(text.encode()) for text in some)
            encodings = made.tokenizer.encode_batch(lines, add_special_tokens=False)
            same = sum(
                made.tokenizer.decode(encoding.ids, skip_special_tokens=False) == line
                for line, encoding in zip(lines, encodings, strict=True)
            )
            print(f"  {name}: {rate:.3f} bytes per token, {lost} of {number:,} new tokens unreachable", flush=True)
            print(
                f"    old text without a new token: {num_bytes / 1e6:.2f} MB ({share:.1%}), other ids in {other} lines"
            )
            print(f"    odd lines that decode to themselves: {same:,} of {len(lines):,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--large", type=float, default=50)
    given = parser.parse_args()
    base = read_bpe(given.base)
    if given.large:
        started = time.perf_counter()
        extension = extend(base, megabytes(given.corpora, given.large), 20_000)
        print(
            f"{given.large:g} MB, 20,000 tokens: {time.perf_counter() - started:.0f} s, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most, "
            f"{len(extension.unreachable)} unreachable",
            flush=True,
        )
    small(base, given.corpora, given.tokens)


if __name__ == "__main__":
    main()
