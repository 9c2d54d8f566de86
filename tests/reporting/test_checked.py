"""JSON that cannot be drawn is one message with its place."""

from __future__ import annotations

import json

import pytest

from lingraft.errors import UserError
from lingraft.reporting.checked import read_object

HOSTILE = {
    "nesting that Python refuses": ('{"a": ' + "[" * 100_000, "nested too deeply"),
    "nesting that Python takes": ('{"a": ' + "[" * 900 + "]" * 900 + "}", "nested deeper than 64 levels"),
    "a lone surrogate": (r'{"a": ["\ud800"]}', "a.0: holds a lone surrogate"),
    "a lone surrogate in a key": (r'{"a": {"\ud800": 1}}', "holds a lone surrogate"),
    "a number of 1,000 digits": ('{"a": ' + "9" * 1000 + "}", "is not a number that can be drawn"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_json_that_nothing_can_draw_is_refused_with_its_place(tmp_path, text, message) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_object(path)
    assert message in str(caught.value)
    assert str(caught.value).encode()


@pytest.mark.parametrize("text", ["[1]", "5", "{", ""], ids=lambda text: text[:9])
def test_what_is_no_object_of_json_is_nothing(tmp_path, text) -> None:
    (tmp_path / "results.json").write_text(text)
    assert read_object(tmp_path / "results.json") is None


def test_an_object_of_json_is_read_as_it_stands(tmp_path) -> None:
    value = {"a": [1, 2.5, "ọ̀", "what a model wrote: \0", None, True, {"b": {}}], "c": -(10**15)}
    (tmp_path / "results.json").write_text(json.dumps(value))
    assert read_object(tmp_path / "results.json") == value
