"""Types of values that several sections of a recipe share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lingraft.errors import UserError
from lingraft.languages import CHAT, by_code, code_of


def _made_by(make: Callable[[Any], Any]) -> AfterValidator:
    """Convert a value with `make`; its `UserError` becomes a problem of the recipe."""

    def validate(value: Any) -> Any:
        try:
            return make(value)
        except UserError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


LanguageCode = Annotated[str, _made_by(code_of)]
"""A language named in any way that can mean only one -> its code."""
RetainedName = Annotated[str, _made_by(lambda name: name if name == CHAT else code_of(name))]
"""As `LanguageCode`, or `chat`."""
BY_CODE = _made_by(by_code)
"""Of a mapping whose keys are languages."""
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
