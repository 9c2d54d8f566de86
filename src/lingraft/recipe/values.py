"""Values that stand in more than one section of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from lingraft.corpus.read import find_files
from lingraft.errors import UserError
from lingraft.languages import parse_language


def _checked_by(check: Callable[[str], Any]) -> AfterValidator:
    def validate(value: str) -> str:
        try:
            check(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(validate)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


LanguageCode = Annotated[str, _checked_by(parse_language)]
FilePattern = Annotated[str, _checked_by(find_files)]
FilePatterns = Annotated[list[FilePattern], Field(min_length=1), BeforeValidator(_as_list)]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
