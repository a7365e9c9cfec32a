"""Frontiers as plots and a table: fidelity against length, rules fired and table entries used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from englishroom.evaluate.metrics import METRICS
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.number import bits, number, positive, share, usable
from englishroom.report.markup import Markup, grid, tag
from englishroom.report.plot import Axis, Mark, Series, Shape, key, scatter
from englishroom.report.style import PLOT


@dataclass(frozen=True)
class Kind:
    """How points of a kind are called and drawn; colours tell families, shapes their members."""

    name: str
    shape: Shape
    colour: int
    joined: bool = True


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sparse": Kind("sparse program", "circle", 0),
        "sparse, quantised": Kind("the same, quantised", "square", 0),
        "sparse, pruned": Kind("the same, pruned", "diamond", 0),
        "sparse, quantised, refitted": Kind("the same, quantised and refitted", "square", 4),
        "sparse, pruned, refitted": Kind("the same, pruned and refitted", "diamond", 4),
        "readable": Kind("readable program", "triangle", 0),
        "explained": Kind("program of explanations", "cross", 0, joined=False),
        "featured": Kind("featured program", "triangle", 2),
        "exact": Kind("exact program", "cross", 2, joined=False),
        "quantised": Kind("target, quantised", "square", 1),
        "pruned": Kind("target, pruned", "diamond", 1),
        "n-gram": Kind("n-gram talker", "cross", 3, joined=False),
        "target": Kind("target", "ring", 1, joined=False),
    }
)
"""Kind of a point in ``frontier.json`` -> how it is shown."""
Point = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """One plot of the points.

    Attributes:
        x, y: keys of a point.
    """

    x: str
    y: str
    across: Axis
    up: Axis
    about: str


def _plain(value: float) -> str:
    return f"{value:.2g}"


LENGTH_AXIS = Axis("description bits", log=True, write=bits, least=3e5)
KL_AXIS = Axis("KL(target‖talker), nats a token: less is better", log=True, write=_plain, least=0.01)
LENGTH = View(
    "description_bits",
    "kl_target_talker",
    LENGTH_AXIS,
    KL_AXIS,
    "Divergence from the target against the length of the description, both on logarithmic axes.",
)
FIRED = View(
    "rules_fired_mean",
    "kl_target_talker",
    Axis("rules fired per token, mean"),
    KL_AXIS,
    "Divergence from the target against rules fired per token.",
)
ENTRIES = View(
    "entries_used_mean",
    "kl_target_talker",
    Axis("table entries used per token, mean", log=True, write="{:,.0f}".format),
    KL_AXIS,
    "Divergence from the target against table entries used per token, both on logarithmic axes.",
)
RECOVERED = View(
    "description_bits",
    "training_compute_share",
    LENGTH_AXIS,
    Axis("training compute recovered: more is better", log=True, write=share),
    "Training compute recovered against the length of the description, both on logarithmic axes.",
)


def draw(points: Sequence[Point], view: View, width: int, height: int) -> Markup:
    """Draw the points that have both numbers of a view; the target's own length as an upright line."""
    posts = [
        (point[view.x], f"{point['name']}, {bits(point[view.x])}")
        for point in points
        if point.get("kind") == "target" and view.x == "description_bits" and positive(point.get(view.x))
    ]
    return scatter(_series(points, view), view.across, view.up, width, height, view.about, posts)


def figure(points: Sequence[Point], view: View, caption: str) -> Markup:
    """Draw a view for wide and for narrow screens, with a key and a caption."""
    if not any(_shown(point, view) for point in points):
        return tag("p", f"No point has both numbers. {caption}", class_="note")
    return tag(
        "figure",
        tag("div", draw(points, view, 900, 500), class_="wide"),
        tag("div", draw(points, view, 400, 420), class_="narrow"),
        key(_series(points, view)),
        tag("figcaption", caption),
    )


def picture(points: Sequence[Point], view: View) -> str:
    """Draw a view as a file of its own."""
    drawn = draw(points, view, 900, 500)
    style = tag("style", Markup(PLOT))
    head, mark, rest = drawn.partition("</title>")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{mark}{style}{rest}\n'


def _shown(point: Point, view: View) -> bool:
    return positive(point.get(view.x)) and positive(point.get(view.y))


def _series(points: Sequence[Point], view: View) -> list[Series]:
    found = []
    for name, kind in KINDS.items():
        own = [_mark(point, view) for point in points if point.get("kind") == name and _shown(point, view)]
        if own:
            found.append(Series(kind.name, own, kind.shape, kind.colour, kind.joined, name == "sparse"))
    return found


def _mark(point: Point, view: View) -> Mark:
    title = (
        f"{point['name']}: KL {number(point.get('kl_target_talker'), '.4f')} nats, "
        f"CE {number(point.get('ce_increase'), '+.4f')}, {bits(point.get('description_bits'))}"
    )
    for name, what in (("rules_fired_mean", "rules fired"), ("entries_used_mean", "table entries used")):
        if usable(point.get(name)):
            title += f", {number(point[name], ',.0f')} {what}"
    return Mark(point[view.x], point[view.y], str(point.get("label") or point["name"]), title)


COLUMNS: tuple[tuple[str, Callable[[Point], str]], ...] = (
    ("rules fired", lambda p: number(p.get("rules_fired_mean"), ".0f")),
    *((m.heading, lambda p, m=m: m.value(p)) for m in READABILITY_METRICS if m.heading),
    *((m.heading, lambda p, m=m: m.cell(p)[0]) for m in METRICS if m.in_frontier and m.heading),
)
"""What is said of every point, in the page and on the terminal."""


def in_order(points: Sequence[Point]) -> list[Point]:
    """Sort points by kind, and within a kind by length."""
    kinds = list(KINDS)

    def place(point: Point) -> tuple[int, float]:
        return kinds.index(point["kind"]), point["description_bits"] if usable(point.get("description_bits")) else 0.0

    return sorted((point for point in points if point.get("kind") in KINDS), key=place)


def table(points: Sequence[Point]) -> Markup:
    """List every point, and how to open it."""
    rows = [
        ((point["name"], tag("br"), tag("small", point.get("open") or "")), *(write(point) for _, write in COLUMNS))
        for point in in_order(points)
    ]
    return grid(["point", *(name for name, _ in COLUMNS)], rows, wide=(0,))
