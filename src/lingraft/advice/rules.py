"""The rules: each looks at the facts, and says what to set, why, and where that is known from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lingraft.advice.facts import SEEN, Facts
from lingraft.diagnosis.alignment import NOT_PROPOSED
from lingraft.families import by_family, family_of
from lingraft.languages import CHAT, parse_language
from lingraft.recipe.automatic import KL_WEIGHT, RATE, RATE_WIDTH, SHARE
from lingraft.recipe.goals import Chosen, Goal, choose
from lingraft.recipe.starter import BATCH, STEPS, batch_of
from lingraft.vocabulary.fertility import HIGH_COST, MANY_BYTES, MANY_UNKNOWN

RESULTS = "docs/results.md"
LAYRA = "arXiv 2509.11414 §4.1"
FEW_TOKENS, MANY_TOKENS = 20_000_000, 1_000_000_000
"""Of a language: below the first, text is little and repeats; above the second it is what papers had."""
LARGEST_MEASURED = 135_000_000
"""Parameters of the largest base of our own results."""
EPOCHS = 4
"""Up to which repeated text teaches nearly as much as new text (arXiv 2305.16264)."""
FEW_WORDS = 100
"""That are worth a token: with fewer, new tokens change little."""
WITHOUT_SPACES = 20
"""Characters between white space from which a script has few spaces."""
MOST_NEW_TOKENS = 20_000
"""What arXiv 2412.13375's Persian tokenizer had."""


@dataclass(frozen=True)
class Advice:
    topic: str
    choice: str
    reason: str
    source: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Path into a recipe -> value that says the same."""


Rule = Callable[[Facts, Goal], Advice | None]


def method(facts: Facts, goal: Goal) -> Advice:
    """What trains."""
    families, chosen = by_family(facts.learn), _chosen(facts, goal)
    keys: dict[str, Any] = {"method": yaml.safe_load(chosen.method)}
    if chosen.merge:
        keys["merge"] = yaml.safe_load(chosen.merge)
    choice = chosen.method.strip("{}") + (f", then merge {chosen.merge}" if chosen.merge else "")
    if chosen.choice.is_by_family:
        choice = f"{len(families)} runs ({', '.join(families)}), each {choice}, then 'lingraft merge soup' of all"
    return Advice("method", choice, chosen.reason, chosen.choice.source, keys)


def _chosen(facts: Facts, goal: Goal) -> Chosen:
    return choose(goal, facts.config, len(by_family(facts.learn)), facts.proposed)


def families(facts: Facts, goal: Goal) -> Advice | None:
    """Several families at once."""
    found = by_family(facts.learn)
    if len(found) < 2 or goal == "coverage":
        return None
    shown = "; ".join(f"{family}: {', '.join(codes)}" for family, codes in found.items())
    return Advice(
        "families",
        "--goal coverage: a run for each family, then their mean",
        f"{shown}. Of single models for all families the mean of the experts kept reading comprehension best",
        "arXiv 2606.00284 §3.3",
    )


def layers(facts: Facts, goal: Goal) -> Advice | None:
    """Layer groups, where the method has them."""
    chosen = _chosen(facts, goal)
    if chosen.layers is None or chosen.choice.layers is None:
        return None
    first, last = chosen.layers
    groups = f"first {first}, last {last} of {facts.depth or 'its layers'}"
    if facts.proposed:
        reason = f"where sentence pairs agree ({', '.join(facts.pairs)}) is the middle, which stays; that half of the "
        reason += "highest agreement counts is our reading"
        return Advice("layers", groups, reason, "arXiv 2410.05873")
    paper = chosen.choice.layers
    reason = f"the paper's {paper.first} and {paper.last} of {paper.depth}"
    reason += "" if chosen.layers == paper[:2] else ", in proportion to the depth"
    if facts.pairs:
        reason += f"; sentence pairs propose no others: {NOT_PROPOSED}"
    return Advice("layers", groups, reason, chosen.choice.source)


def rate(facts: Facts, goal: Goal) -> Advice | None:
    """The learning rate."""
    chosen = _chosen(facts, goal)
    if chosen.learning_rate is None:
        return Advice(
            "learning rate",
            "the method's default, and half of it beside, by a sweep",
            "a rate decides how much is forgotten: on the 15 M base full finetuning learns 57.1, 59.0, 60.4, 60.1 % "
            "and forgets 71, 102, 157, 178 % at 1e-3, 2e-3, 5e-3, 1e-2 of Muon",
            RESULTS,
        )
    return Advice(
        "learning rate",
        f"{chosen.learning_rate:g}",
        f"found at width {RATE_WIDTH} ({RATE:g}); it falls with the root of the width above that",
        f"{RESULTS}; arXiv 2502.16982 §2.2",
        {"training.learning_rate": chosen.learning_rate},
    )


def replay(facts: Facts, goal: Goal) -> Advice:
    """Text of the old languages."""
    sources = {"document": 0.5, "chat": 0.5} if facts.is_instruct else None
    keys: dict[str, Any] = {"replay.self_generated": SHARE, "replay.kl_weight": KL_WEIGHT}
    if sources:
        keys["replay.from"] = sources
    return Advice(
        "replay",
        f"self_generated {SHARE:g}, kl_weight {KL_WEIGHT:g}" + (", half of it conversations" if sources else ""),
        "the base generates it, so no text of the old languages is needed. Danish onto the 15 M base, all weights by "
        "AdamW: 57.4 % learned and 101 % forgotten without, 55.6 and 4.8 % with it",
        "docs/results.md; arXiv 2605.26097",
        keys,
    )


def chat(facts: Facts, goal: Goal) -> Advice | None:
    """What an instruct model is measured on."""
    if not facts.is_instruct:
        return None
    return Advice(
        "chat",
        f"{CHAT} under languages.retain",
        "bits per byte of documents hide it: with all weights by AdamW, SmolLM2 had +4.5 % of English, +12.8 % of its "
        "own answers, and 10 % of its answers began as before",
        RESULTS,
        {"languages.retain": [CHAT]},
    )


def new_tokens(facts: Facts, goal: Goal) -> Advice | None:
    """Whether the tokenizer needs tokens for the language."""
    english, texts, signs = facts.english, facts.texts, list[str]()
    if english is None or not texts:
        return None
    for code, text in texts.items():
        counts = text.counts
        if counts.unknown_share >= MANY_UNKNOWN:
            signs.append(f"{counts.unknown_share:.0%} of the tokens of {code} are unknown")
        if counts.byte_share >= MANY_BYTES:
            signs.append(f"{counts.byte_share:.0%} of the tokens of {code} are single bytes of a character")
        if counts.cost(english) >= HIGH_COST:
            signs.append(f"a character of {code} costs {counts.cost(english):.1f} times one of English")
    if not signs:
        costs = ", ".join(f"{text.counts.cost(english):.1f} ({code})" for code, text in texts.items())
        return Advice(
            "new tokens",
            "none",
            f"a character costs {costs} times one of English, below {HIGH_COST:g}, and few tokens are bytes. "
            "New tokens teach more (66.3 instead of 62.5 % of Hungarian on the 15 M base) and forget more (1.1, 0.8 %)",
            f"{RESULTS}; {LAYRA}",
        )
    said = f"{'; '.join(signs)}: over-segmented, as Urdu is on Llama 3.1, which learned it worst of three languages"
    source = f"{LAYRA}; arXiv 2505.20133; {RESULTS}"
    if max(text.counts.characters / text.counts.words for text in texts.values()) > WITHOUT_SPACES:
        choice = f"some: compare 1,000, 5,000 and {MOST_NEW_TOKENS:,} by a sweep of vocabulary.new_tokens"
        return Advice("new tokens", choice, f"{said}. The script has few spaces, so its words say little", source)
    worth = sum(text.split_words for text in texts.values())
    if worth < FEW_WORDS:
        reason = f"{said}; but only {worth} words are split and seen {SEEN} times, so there is too little text for more"
        return Advice("new tokens", "none with so little text", reason, source)
    count = min(MOST_NEW_TOKENS, worth // 100 * 100)
    reason = f"{said}. {worth:,} words are split and seen {SEEN} times, enough for a token of their own"
    return Advice("new tokens", f"{count:,}", reason, source, {"vocabulary.new_tokens": count})


def amount(facts: Facts, goal: Goal) -> Advice | None:
    """How many tokens train."""
    if not facts.texts:
        return None
    code = min(facts.texts, key=lambda code: facts.texts[code].tokens)
    tokens = facts.texts[code].tokens
    if tokens < FEW_TOKENS:
        alone = len(facts.learn) == 1
        batch = batch_of(EPOCHS * tokens) if alone else BATCH
        keys: dict[str, Any] = {"corpus.0.max_epochs": EPOCHS} if alone else {}
        choice = f"all text of {code}, {EPOCHS} times: tokens {EPOCHS * tokens:,}, max_epochs {EPOCHS}"
        reason = (
            f"{tokens:,} tokens are little; text that repeats up to {EPOCHS} times teaches nearly as much as new text"
        )
        if batch < BATCH:
            choice += f"; per_device_train_batch_size {batch}"
            keys["training.per_device_train_batch_size"] = batch
            reason += f". In steps of {BATCH} blocks that is fewer than {STEPS} steps"
        return Advice(
            "amount",
            choice,
            reason,
            "arXiv 2305.16264",
            keys,
        )
    return Advice(
        "amount",
        f"{min(tokens, MANY_TOKENS):,} tokens, once",
        f"LayRA's runs had 1.2 billion a language, a family of languages 5 billion; of {code} there are {tokens:,}",
        "arXiv 2509.11414 §3.1; arXiv 2606.00284 §3.1",
    )


def scripts(facts: Facts, goal: Goal) -> Advice | None:
    """A script that no retained language has."""
    old = {parse_language(code).script for code in facts.retain}
    new = [parse_language(code) for code in facts.learn]
    strange = [f"{language.script} ({language.code})" for language in new if old and language.script not in old]
    if not strange:
        return None
    return Advice(
        "script",
        f"{', '.join(strange)} is the script of no retained language: look at fertility first",
        "on Llama 3.1 Urdu, whose script differs from its relative's, Hindi, was learned worst of three languages",
        LAYRA,
    )


def relatives(facts: Facts, goal: Goal) -> Advice | None:
    """Retained languages of a learned one's family, in its script."""
    related = [
        f"{old} is of {code}'s family ({family_of(code)})"
        for code in facts.learn
        for old in facts.retain
        if family_of(code) and family_of(old) == family_of(code)
        if parse_language(old).script == parse_language(code).script
    ]
    if not related:
        return None
    return Advice(
        "relatives",
        "expect a better trade-off of learning and forgetting than the papers' averages",
        f"{'; '.join(related)}. Of three languages Galician had the best, which is supposed to come from Spanish and "
        "Portuguese, and English improved with it",
        LAYRA,
    )


RULES: tuple[Rule, ...] = (method, families, layers, rate, replay, chat, new_tokens, amount, scripts, relatives)


def unknown(facts: Facts, goal: Goal, is_rehearsed: bool = False) -> list[str]:
    """What the rules cannot tell."""
    rehearse = "how much will be learned and forgotten: rehearse it ('lingraft advise RECIPE --rehearse FOLDER')"
    found = [
        *([] if is_rehearsed else [rehearse]),
        "whether the order of methods holds at another size: ours were compared at 15 M and 135 M parameters, with "
        "250,000 and 100,000 tokens",
    ]
    if facts.parameters:
        found.append(
            "how much new text these weights can hold without overwriting: nothing measures capacity before training"
        )
    if facts.parameters and facts.parameters > LARGEST_MEASURED and _chosen(facts, goal).learning_rate:
        found.append(
            f"the best learning rate at {facts.parameters / 1e9:.1f} billion parameters: it follows a law here"
        )
    if facts.config is None:
        found.append("the base: its depth, its tokenizer, its chat template")
    if without := [code for code in facts.learn if code not in facts.texts]:
        found.append(f"fertility and amount of {', '.join(without)}: {facts.learn[without[0]]}")
    if not facts.retain:
        found.append("what is forgotten of which language: give --retain")
    if not facts.pairs and not facts.why_no_pairs:
        found.append("which layers languages share: give --pairs of sentences")
    found.append("tasks: bits per byte say little of them; name suites (evaluation.suites) that matter to you")
    return found
