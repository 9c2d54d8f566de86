"""What keeps an extended tokenizer one that llama.cpp's converter recognises.

The converter recognises a byte-level tokenizer by a hash of the ids that it gives for a fixed text
(`get_vocab_base_pre` in llama.cpp's converter). A new merge that applies in this text changes the hash, and the
converter refuses the model. So pairs of this text are not merged.
"""

from __future__ import annotations

from itertools import pairwise

from lingraft.vocabulary.bpe import BPE
from lingraft.vocabulary.bpe_training import Pair

CHECKED_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫\ufe0f (multiple emojis"
    " concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁"
    " ?我想在apple工作1314151天～ ------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've"
    " been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
"""Begins with white space; holds emoji, digits, Khmer, Chinese, Bulgarian and English."""

SMALLEST = 30_000
"""Tokens of a vocabulary. The converter knows no smaller byte-level tokenizer, so a smaller one has no hash to keep."""


def fixed_pairs(bpe: BPE) -> frozenset[Pair]:
    """Pairs of tokens that new merges must leave: those beside each other in the converter's text.

    New merges apply after the old ones. So where none of these pairs is merged, none applies in the text at all.
    """
    if not bpe.byte_level or len(bpe.strings) < SMALLEST:
        return frozenset()
    return frozenset(pair for word in bpe.cut(bpe.words([CHECKED_TEXT])) for pair in pairwise(word))
