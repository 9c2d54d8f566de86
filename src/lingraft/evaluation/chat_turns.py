"""The tokens of a chat template around questions and answers, for a model and its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.checkpoints.chat_template import around_question, end_of_turn, ids_in
from lingraft.corpus.chat import Turns
from lingraft.corpus.tokenize import encode
from lingraft.errors import ModelError
from lingraft.layer_groups import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def turns_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Turns:
    """The tokens of a model's chat template around a question and its answer.

    Raises:
        ModelError: there is no template, it writes nothing between a question and its answer, or it writes a token for
            which the embeddings have no row.
    """
    texts = around_question(tokenizer)
    if texts is None:
        raise ModelError("chat: the model's tokenizer has no chat template")
    before, between = (tokenizer(text, add_special_tokens=False).input_ids for text in texts)
    if not between:
        raise ModelError("chat: the chat template writes nothing between a question and its answer")
    stops = ids_in(getattr(model.generation_config, "eos_token_id", None))
    ends = [end_of_turn(tokenizer), tokenizer.eos_token_id, *stops]
    embeddings: Any = model.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    turns = Turns(before, between, [int(end) for end in dict.fromkeys(ends) if end is not None and end < rows], texts)
    if beyond := [token for token in (*before, *between) if token >= rows]:
        written = tokenizer.convert_ids_to_tokens(beyond[0])
        raise ModelError(
            f"chat: the chat template writes {written!r} ({beyond[0]:,}), for which the {rows:,} embeddings have no row"
        )
    return turns


def why_no_chat(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why a model with this tokenizer cannot generate conversations; `None` where it can."""
    texts = around_question(tokenizer)
    if texts is None:
        return "the base has no chat template, so it has no chat"
    between = tokenizer(texts[1], add_special_tokens=False).input_ids
    if not between or between[0] not in {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}:
        return "the base's chat template ends a question with no special token, so the base cannot ask one"
    return None


def context_of(model: PreTrainedModel) -> int:
    """The longest sequence of tokens that a loaded model supports."""
    return int(text_config(model.config).max_position_embeddings)


def prompt_of(tokenizer: PreTrainedTokenizerBase, turns: Turns, question: str) -> list[int]:
    """A question in the template, up to its answer; special tokens that it spells are text."""
    before, between = turns.texts
    if _spells_special(tokenizer, question):
        return turns.prompt(encode(tokenizer, [question])[0])
    ids: list[int] = tokenizer(before + question + between, add_special_tokens=False, verbose=False).input_ids
    return ids


def answered(tokenizer: PreTrainedTokenizerBase, turns: Turns, question: str, answer: str) -> list[int]:
    """As `prompt_of`, with the answer; encoded as one text where the prompt's tokens stay the same."""
    prompt = prompt_of(tokenizer, turns, question)
    if not _spells_special(tokenizer, question + answer):
        whole = tokenizer(turns.texts[0] + question + turns.texts[1] + answer, add_special_tokens=False, verbose=False)
        if whole.input_ids[: len(prompt)] == prompt:
            return list(whole.input_ids)
    return [*prompt, *encode(tokenizer, [answer])[0]]


def _spells_special(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return any(token in text for token in {*tokenizer.all_special_tokens, *added})
