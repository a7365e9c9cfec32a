"""HTML and SVG as a tree of calls. Whatever is not markup already is escaped; there is no other way to put text in."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence

_EMPTY = frozenset({"br", "col", "hr", "link", "meta"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Content = str | int | float | Markup | Iterable["Content"] | None
Attribute = str | int | float | bool | None


def tag(name: str, *content: Content, **attributes: Attribute) -> Markup:
    """Write an element.

    Args:
        attributes: a trailing underscore is dropped and others become hyphens (``class_``, ``stroke_width``); ``None``
            and ``False`` leave the attribute out, ``True`` gives it no value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        plain = key.rstrip("_").replace("_", "-")
        parts.append(plain if value is True else f'{plain}="{escape(str(value))}"')
    head = f"<{' '.join(parts)}>"
    return Markup(head if name in _EMPTY else f"{head}{joined(content)}</{name}>")


def joined(content: Content) -> Markup:
    """Write contents one after the other, escaping what is not markup."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str | int | float):
        return Markup(escape(str(content)))
    return Markup("".join(joined(part) for part in content))


def escape(text: str) -> str:
    """Escape a text for HTML, also within quotes; what does not print is spelled out."""
    spelled = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    return html.escape(spelled, quote=True)


def grid(
    head: Sequence[str],
    rows: Iterable[Sequence[Content]],
    left: Collection[int] = (0,),
    wide: Collection[int] = (),
    own: Collection[int] = (),
) -> Markup:
    """Lay out a table that scrolls by itself where it is too wide.

    Args:
        rows: what stands in the cells.
        left: columns that are set left.
        wide: those of them that hold long texts.
        own: rows that stand out.
    """
    places = ["left text" if at in wide else "left" if at in left else None for at in range(len(head))]
    body = []
    for at, row in enumerate(rows):
        cells = [tag("td", cell, class_=place) for cell, place in zip(row, places, strict=False)]
        body.append(tag("tr", *cells, class_="own" if at in own else None))
    heads = [tag("th", name, class_="left" if at in left else None) for at, name in enumerate(head)]
    return tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body)), class_="scroll")
