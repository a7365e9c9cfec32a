"""The text form of a condition, as it stands in that of a program; the words of a list are numbers and texts in turn.

Condition((WordAt('17 she 23 he'), WordEarlier('40 girl', reach='sentence')), (InQuotes(negated=True),))
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import get_args

from englishroom.ir.condition import Condition, Reach, Term, Word

_TERMS: Mapping[str, type[Term]] = MappingProxyType({kind.__name__: kind for kind in get_args(Term)})
_REACHES = get_args(get_args(Reach)[0])


def print_condition(condition: Condition) -> str:
    """Write a condition; what is as it is by default is left out."""
    return f"Condition({', '.join(map(_print_terms, condition.alternatives))})"


def _print_terms(terms: tuple[Term, ...]) -> str:
    inner = ", ".join(map(_print_term, terms))
    return f"({inner},)" if len(terms) == 1 else f"({inner})"


def _print_term(term: Term) -> str:
    parts = []
    for item in fields(term):
        value = getattr(term, item.name)
        if item.name == "words":
            parts.append(repr(" ".join(f"{word.token} {word.text}" for word in value)))
        elif item.name != "kind" and value != item.default:
            parts.append(f"{item.name}={value!r}")
    return f"{type(term).__name__}({', '.join(parts)})"


def condition_of(call: ast.Call) -> Condition:
    """Read what :func:`print_condition` wrote.

    Raises:
        ValueError: it is not of that form, or no condition.
    """
    if call.keywords:
        raise ValueError(f"argument {call.keywords[0].arg} of a condition is unknown")
    return Condition(tuple(map(_terms_of, call.args)))


def _terms_of(node: ast.expr) -> tuple[Term, ...]:
    if not isinstance(node, ast.Tuple):
        raise ValueError("an alternative of a condition is no list of terms")
    return tuple(map(_term_of, node.elts))


def _term_of(node: ast.expr) -> Term:
    match node:
        case ast.Call(func=ast.Name(id=kind), args=arguments, keywords=keywords) if kind in _TERMS:
            pass
        case _:
            raise ValueError(f"a term of a condition is none of {', '.join(_TERMS)}")
    known = {item.name for item in fields(_TERMS[kind])} - {"words", "kind"}
    values = {}
    for item in keywords:
        if item.arg not in known or item.arg in values:
            raise ValueError(f"argument {item.arg} of {kind} is {'given twice' if item.arg in values else 'unknown'}")
        values[item.arg] = ast.literal_eval(item.value)
        if not _suits(item.arg, values[item.arg]):
            raise ValueError(f"argument {item.arg} of {kind} is of the wrong type")
    if "words" in {item.name for item in fields(_TERMS[kind])}:
        if len(arguments) != 1:
            raise ValueError(f"{kind} has {len(arguments)} lists of words, expected 1")
        values["words"] = _words_of(ast.literal_eval(arguments[0]))
    elif arguments:
        raise ValueError(f"{kind} has {len(arguments)} unnamed arguments, expected 0")
    return _TERMS[kind](**values)


def _suits(name: str, value: object) -> bool:
    if name == "negated":
        return isinstance(value, bool)
    return type(value) is int or (name == "reach" and value in _REACHES)


def _words_of(text: object) -> tuple[Word, ...]:
    parts = text.split(" ") if isinstance(text, str) else []
    if len(parts) % 2:
        raise ValueError("a list of words is not of numbers and texts in turn")
    return tuple(Word(int(number), word) for number, word in zip(parts[::2], parts[1::2], strict=True))
