"""Write the files beside the weights of a merged model: config, tokenizer, generation config, chat template.

They come from one parent, `like`. Where another parent, `owner`, gives the tokens, it gives the tokenizer
too, and the token ids in the configs of `like` are translated by token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.cache import copy_files, write_json
from lingraft.checkpoints.beside import copy_along, copy_tokenizer, portable, with_dtype
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.dtypes import TORCH_NAMES
from lingraft.checkpoints.read import tokenizer_files
from lingraft.merging.source_model import SourceModel
from lingraft.merging.vocabulary_alignment import Vocabulary

_TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL = (_TOKENIZER_CONFIG, "special_tokens_map.json")
"""Files with special tokens and chat template; they come from `like`, also over another parent's vocabulary."""
_IDS = ("_token_id", "_token_index")
"""Suffixes of config keys that hold token ids."""


def write_companions(folder: Path, like: SourceModel, vocabulary: Vocabulary, dtype: str) -> None:
    """Write all files but the weights; `config.json`, without which nothing loads, comes last."""
    translate = _Ids(like, vocabulary)
    copy_along(like.model_folder, folder)
    _write_tokenizer(folder, like, vocabulary)
    generation = folder / "generation_config.json"
    if generation.is_file() and (settings := read_object(generation)) != (translated := translate(settings)):
        write_json(generation, translated)
    write_json(folder / "config.json", translate(_resized(like.config, vocabulary.num_rows, dtype)))


def _write_tokenizer(folder: Path, like: SourceModel, vocabulary: Vocabulary) -> None:
    own = vocabulary.has_tokens_of(like)
    source = like if own and tokenizer_files(like.tokenizer_folder) else vocabulary.owner
    copy_tokenizer(source.tokenizer_folder, folder)
    if source is like:
        return
    templates = (path.name for path in like.tokenizer_folder.glob("*.jinja"))
    copy_files((*_SPECIAL, *templates), like.tokenizer_folder, folder)
    described = folder / _TOKENIZER_CONFIG
    if described.is_file():
        settings = read_object(described)
        settings.pop("added_tokens_decoder", None)  # ids of the other vocabulary; tokenizer.json has its own
        write_json(described, settings)


def _resized(config: dict[str, Any], num_rows: int, dtype: str) -> dict[str, Any]:
    resized = with_dtype(portable(config), TORCH_NAMES[dtype])
    if "text_config" in config:
        return resized | {"text_config": resized["text_config"] | {"vocab_size": num_rows}}
    return resized | {"vocab_size": num_rows}


class _Ids:
    """Translates token ids of `like` into ids of the result, wherever a config names them."""

    def __init__(self, like: SourceModel, vocabulary: Vocabulary) -> None:
        self._ids: Mapping[int, int] = {}
        if not vocabulary.has_tokens_of(like):
            of_result = vocabulary.ids[vocabulary.owner]
            self._ids = {row: of_result[token] for token, row in vocabulary.ids[like].items() if token in of_result}

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        return {key: self._translated(key, value) for key, value in config.items()}

    def _translated(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return self(value)
        if not key.endswith(_IDS):
            return value
        return [self._ids.get(one, one) for one in value] if isinstance(value, list) else self._ids.get(value, value)
