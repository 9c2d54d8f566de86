"""Sample continuations: how a model continues the beginnings of measured texts, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lingraft.cache import fingerprint
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.evaluation import NUM_SAMPLES
from lingraft.evaluation.suite import Roles, Suite
from lingraft.nn.generate import GREEDILY, continued
from lingraft.schema import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROMPT_CHARACTERS = 60
SHORTEST_CHARACTERS = 8
MAX_NEW_TOKENS = 40
SHOWN_CHARACTERS = 160


class Prompt(NamedTuple):
    """The beginning of a text, and its continuation."""

    text: str
    rest: str


def draw_prompts(documents: Sequence[str], count: int = NUM_SAMPLES) -> list[Prompt]:
    """The beginnings of the first documents, cut before a word where words are parted by spaces."""
    prompts: list[Prompt] = []
    for document in documents:
        if len(prompts) == count or len(document) < SHORTEST_CHARACTERS:
            continue
        length = min(PROMPT_CHARACTERS, len(document) // 2)
        start = document[:length]
        cut = max(start.rfind(" "), start.rfind("\n"))
        length = cut if cut > 0 else length
        prompts.append(Prompt(document[:length], document[length : length + SHOWN_CHARACTERS]))
    return prompts


def continue_prompts(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, prompts: Sequence[Prompt], max_length: int
) -> list[str]:
    """The model's most likely continuations, greedily, up to the end of the text or `MAX_NEW_TOKENS` tokens."""
    ends = tokenizer.eos_ids or tokenizer.bos_ids
    longest = min(MAX_NEW_TOKENS, max_length // 2)
    continuations = []
    for ids in tokenizer.encode([prompt.text for prompt in prompts]):
        row = (tokenizer.bos_ids + ids)[: max_length // 2]
        if not row:  # a prompt that the tokenizer drops, and no BOS
            continuations.append("")
            continue
        (ids_after,) = continued(model, [row], ends, longest, GREEDILY)
        continuation = str(tokenizer.tokenizer.decode(ids_after, skip_special_tokens=True))
        continuations.append(continuation[:SHOWN_CHARACTERS])
    return continuations


@dataclass(frozen=True)
class Continuations(Suite[Sequence[str]]):
    """Continuations of prompts by language; they are shown, and give no number."""

    prompts: Mapping[str, Sequence[Prompt]]
    name = "samples"

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: fingerprint(prompts) for code, prompts in self.prompts.items()}

    def measure(
        self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int
    ) -> dict[str, Sequence[str]]:
        return {code: continue_prompts(model, tokenizer, prompts, max_length) for code, prompts in self.prompts.items()}

    def to_json(self, measured: Mapping[str, Sequence[str]]) -> Any:
        return measured

    def from_json(self, stored: Any) -> Mapping[str, Sequence[str]]:
        of_languages: Mapping[str, Sequence[str]] = stored
        return of_languages

    def compare(
        self, after: Mapping[str, Sequence[str]], before: Mapping[str, Sequence[str]] | None, roles: Roles
    ) -> dict[str, Any]:
        samples = [
            Sample(
                language=code,
                prompt=prompt.text,
                text=prompt.rest,
                **({"before": before[code][i]} if before else {}),
                after=after[code][i],
            )
            for code, prompts in self.prompts.items()
            for i, prompt in enumerate(prompts)
        ]
        return {"samples": samples}
