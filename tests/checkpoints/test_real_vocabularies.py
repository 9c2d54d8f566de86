"""A real base, and one whose vocabulary grew and was laid out anew: 12,288 and 14,288 tokens."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft

SHARED = Path(__file__).parents[3] / "shared"
BASE = SHARED / "models" / "backbone"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BASE.is_dir(), reason="no real base model at ../shared/models/backbone"),
]
ADDED = 2000


@pytest.fixture(scope="module")
def swahili() -> list[str]:
    with gzip.open(SHARED / "corpora" / "swh_Latn.lafand.jsonl.gz", "rt") as lines:
        return [json.loads(line)["text"] for _, line in zip(range(2000), lines, strict=False)]


@pytest.fixture(scope="module")
def grown(swahili, tmp_path_factory) -> Path:
    """The base with 2,000 words of Swahili, its old ids shuffled, and other weights."""
    folder = tmp_path_factory.mktemp("grown")
    core = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    old = core.get_vocab(with_added_tokens=True)
    counts = Counter(word for text in swahili for word in text.split() if word.isalpha() and word not in old)
    core.add_tokens([AddedToken(word, normalized=False) for word, _ in counts.most_common(ADDED)])
    description = json.loads(core.to_str())
    ids = core.get_vocab(with_added_tokens=True)
    assert len(ids) == len(old) + ADDED == 14_288
    shuffled = list(range(len(old)))  # words are added after the rest, wherever a file says they are
    random.Random(0).shuffle(shuffled)
    shuffled += range(len(old), len(ids))
    description["model"]["vocab"] = {token: shuffled[i] for token, i in description["model"]["vocab"].items()}
    for token in description["added_tokens"]:
        token["id"] = shuffled[token["id"]]
    for special in ((description.get("post_processor") or {}).get("special_tokens") or {}).values():
        special["ids"] = [shuffled[i] for i in special["ids"]]
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(ids), mean_resizing=False)
    order = torch.empty(len(ids), dtype=torch.long)
    order[torch.tensor(shuffled)] = torch.arange(len(ids))  # new row -> old row
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                parameter.copy_(parameter[order].clone())
            parameter.add_(torch.randn_like(parameter) * 0.01)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        for config in (model.config, model.generation_config):
            setattr(config, key, shuffled[getattr(config, key)])
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (BASE / name).is_file():
            (folder / name).write_bytes((BASE / name).read_bytes())
    (folder / "tokenizer.json").write_text(json.dumps(description))
    return folder


@torch.no_grad()
def _matched_by_hand(grown: Path) -> torch.nn.Module:
    """The mean of both, whose rows are looked up token by token."""
    model = AutoModelForCausalLM.from_pretrained(grown, dtype=torch.float32)
    small = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).state_dict()
    new, old = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (grown, BASE))
    for name, parameter in model.named_parameters():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            for token, row in old.items():
                parameter[new[token]] = (parameter[new[token]] + small[name][row]) / 2
        else:
            parameter.copy_((parameter + small[name]) / 2)
    return model.eval()


def test_text_of_both_tokenizers_is_scored_as_by_rows_matched_by_hand(grown, swahili, tmp_path) -> None:
    lingraft.merge.soup([BASE, grown], tmp_path / "out", dtype="float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    by_hand = _matched_by_hand(grown)
    assert merged.config.vocab_size == 14_288
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    for folder in (BASE, grown):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert vocabulary[tokenizer.bos_token] == merged.config.bos_token_id
        for text in swahili[:20]:
            tokens = [tokenizer.bos_token, *tokenizer.tokenize(text)][:200]
            ids = torch.tensor([[vocabulary[token] for token in tokens]])
            with torch.no_grad():
                losses = [
                    torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
                    for model in (merged, by_hand)
                ]
            assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-5)
