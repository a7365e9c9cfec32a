"""Every file that a report reads out of a room is refused in one line, or makes a page: never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from englishroom.errors import ArtifactError
from englishroom.names import FIDELITY, FRONTIER, MEMORY, SCORES, TRACE
from englishroom.report.forms import FORMS, REPORTED
from englishroom.report.page import page
from englishroom.untrusted import parse_json
from tiny_facts import full_facts

ODD: tuple[Any, ...] = (None, "nan", "x", -1, 0, 1.5e308, 5e-324, 2**63 - 1, True, [], [1], {}, {"x": [None]})
GONE = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in plain data."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return plain data with another value at a path, or without it."""
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def read(facts: dict[str, Any], part: str, value: Any, form: TypeAdapter[Any]) -> bool:
    """Read a part as a report does; say whether it was accepted."""
    try:
        found = parse_json(json.dumps(value), form, part, "make it again")
    except ArtifactError as error:
        assert str(error).startswith(f"{part}: ")
        assert len(str(error)) < 600
        return False
    assert page(facts | (found["measured"] if form is REPORTED else {part: found})).startswith("<!doctype html>")
    return True


@pytest.mark.parametrize("name", [SCORES, TRACE, FIDELITY, FRONTIER, MEMORY])
def test_one_odd_value_anywhere_in_a_file_gives_an_error_or_a_page(name: str) -> None:
    facts, part = full_facts(), name.removesuffix(".json")
    assert read(facts, part, facts[part], FORMS[name])
    accepted = [
        read(facts, part, changed(facts[part], path, new), FORMS[name])
        for path in places(facts[part])
        for new in (ODD if not path else (*ODD, GONE))
    ]
    assert any(accepted)
    assert not all(accepted)


def test_one_odd_value_in_an_earlier_report_gives_an_error_or_a_page() -> None:
    facts = full_facts()
    measured = {name: facts[name] for name in ("compared", "sentences", "scores", "trace")}
    whole = {"identity": {}, "measured": measured}
    assert read(facts, "report", whole, REPORTED)
    for path in places(whole):
        for new in ODD if not path else (*ODD, GONE):
            if path[:1] != ("measured",) or path[:2] in (("measured", "compared"), ("measured", "sentences")):
                read(facts, "report", changed(whole, path, new), REPORTED)
