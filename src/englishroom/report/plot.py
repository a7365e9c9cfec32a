"""Plots as SVG: points in series, on linear or logarithmic axes, each labelled where there is room."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from englishroom.report.markup import Markup, tag

LETTER = 6.4
"""Width of a letter of 12 pixels, on average."""
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46
MOST_TICKS = 7
Shape = Literal["circle", "square", "diamond", "triangle", "cross", "ring"]
"""What tells series apart beside their colour."""


@dataclass(frozen=True)
class Mark:
    """A point, the label beside it, and what is shown when one points at it."""

    x: float
    y: float
    label: str = ""
    title: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind; with ``joined``, a line runs through them in the order of x."""

    name: str
    marks: Sequence[Mark]
    shape: Shape = "circle"
    colour: int = 0
    joined: bool = False
    strong: bool = False

    @property
    def dress(self) -> str:
        """The class that gives it its colour."""
        return f"series{self.colour}"


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and how its numbers are written.

    Attributes:
        least: what is less is drawn here, and says in its label how much it is.
    """

    title: str
    log: bool = False
    write: Callable[[float], str] = "{:g}".format
    least: float | None = None


@dataclass(frozen=True)
class _Scale:
    """From numbers to places along an axis."""

    low: float
    high: float
    first: float
    last: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.first + (at - low) / (high - low) * (self.last - self.first)


def scatter(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    width: int,
    height: int,
    about: str,
    posts: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Draw series of points; what a logarithmic axis cannot show is left out.

    Args:
        about: what the plot shows, for those who cannot see it.
        posts: places on the x axis with an upright line of their own, and what it says.
    """
    kept = [replace(s, marks=[_raised(m, x, y) for m in s.marks if _fits(m.x, x) and _fits(m.y, y)]) for s in series]
    marks = [mark for one in kept for mark in one.marks]
    across = _scale([*(m.x for m in marks), *(at for at, _ in posts)], x, LEFT, width - RIGHT)
    up = _scale([m.y for m in marks], y, height - BOTTOM, TOP)
    parts = [_axis(across, x, height - BOTTOM, TOP, True), _axis(up, y, LEFT, width - RIGHT, False)]
    places = [[(across(m.x), up(m.y)) for m in one.marks] for one in kept]
    taken = [(px - 6, py - 6, px + 6, py + 6) for row in places for px, py in row]
    for at, label in posts:
        place, size = across(at), LETTER * len(label)
        left = place + 6 if place + 6 + size < width else place - 6 - size
        parts.append(tag("line", x1=f"{place:.1f}", x2=f"{place:.1f}", y1=TOP, y2=height - BOTTOM, class_="post"))
        parts.append(tag("text", label, x=f"{left:.1f}", y=TOP + 10, class_="tick"))
        taken.append((left, TOP, left + size, TOP + 13))
    for one, spots in zip(kept, places, strict=True):
        if one.joined and len(spots) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in sorted(spots))
            parts.append(tag("polyline", points=path, class_=f"line {one.dress}"))
    for one, spots in zip(kept, places, strict=True):
        for mark, (px, py) in zip(one.marks, spots, strict=True):
            drawn = [_shape(one.shape, px, py, 6.5 if one.strong else 5)]
            place = _free(px, py, mark.label, taken, width, height)
            if place is not None:
                drawn.append(tag("text", mark.label, x=f"{place[0]:.1f}", y=f"{place[1]:.1f}", class_="label"))
            title = tag("title", mark.title or mark.label)
            parts.append(tag("g", title, *drawn, class_=f"mark {one.dress}"))
    return tag(
        "svg",
        tag("title", about),
        *parts,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        class_="plot",
        xmlns="http://www.w3.org/2000/svg",
    )


def key(series: Sequence[Series]) -> Markup:
    """Say which shape and colour stand for which series."""
    return tag("p", *(tag("span", _sample(one), one.name, class_="series-name") for one in series), class_="key")


def _sample(one: Series) -> Markup:
    drawn = tag("g", _shape(one.shape, 8, 8, 5), class_=f"mark {one.dress}")
    return tag("svg", drawn, viewBox="0 0 16 16", width=16, height=16, aria_hidden="true", class_="plot sample")


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _raised(mark: Mark, x: Axis, y: Axis) -> Mark:
    """Move a mark to where its axes begin, and let its label say where it would be."""
    label, places = mark.label, []
    for value, axis in ((mark.x, x), (mark.y, y)):
        below = axis.least is not None and value < axis.least
        places.append(axis.least if below else value)
        label += f" ({axis.write(value)})" if below else ""
    return replace(mark, x=places[0], y=places[1], label=label)


def _scale(values: Sequence[float], axis: Axis, first: float, last: float) -> _Scale:
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    if axis.log:
        ratio = max(high / low, 1.5) ** 0.08
        return _Scale(low / ratio, high * ratio, first, last, True)
    low = min(low, 0.0)
    spread = high - low or 1.0
    return _Scale(low - 0.03 * spread * (low < 0), high + 0.06 * spread, first, last, False)


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Choose round numbers between two others, seven at most."""
    if not log or high / low < 6:
        step = 10.0 ** math.floor(math.log10((high - low) / 2))
        step = next(s * step for s in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / (s * step) <= MOST_TICKS)
        first = math.ceil(low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
        if len(found) <= MOST_TICKS:
            return found
    return found[:: math.ceil(len(found) / MOST_TICKS)]


def _axis(scale: _Scale, axis: Axis, at: float, other: float, horizontal: bool) -> Markup:
    parts = []
    for value in ticks(scale.low, scale.high, scale.log):
        place = f"{scale(value):.1f}"
        if horizontal:
            parts.append(tag("line", x1=place, x2=place, y1=other, y2=at, class_="grid"))
            parts.append(tag("text", axis.write(value), x=place, y=at + 17, text_anchor="middle", class_="tick"))
        else:
            parts.append(tag("line", x1=at, x2=other, y1=place, y2=place, class_="grid"))
            parts.append(
                tag("text", axis.write(value), x=at - 7, y=place, dy="0.35em", text_anchor="end", class_="tick")
            )
    middle = (scale.first + scale.last) / 2
    if horizontal:
        parts.append(tag("text", axis.title, x=middle, y=at + 38, text_anchor="middle", class_="axis"))
    else:
        turned = f"translate(14 {middle:.1f}) rotate(-90)"
        parts.append(tag("text", axis.title, transform=turned, text_anchor="middle", class_="axis"))
    return tag("g", *parts)


def _shape(shape: Shape, x: float, y: float, r: float) -> Markup:
    def path(*points: tuple[float, float]) -> Markup:
        return tag("path", d="M" + "L".join(f"{x + a * r:.1f} {y + b * r:.1f}" for a, b in points) + "Z")

    if shape == "square":
        return path((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
    if shape == "diamond":
        return path((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0))
    if shape == "triangle":
        return path((0, -1.15), (1.1, 0.8), (-1.1, 0.8))
    if shape == "cross":
        arm = 0.35
        half = ((-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm))
        return path(*half, *((-a, -b) for a, b in half))
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=r, class_="hollow" if shape == "ring" else None)


def _free(
    x: float, y: float, label: str, taken: list[tuple[float, float, float, float]], width: int, height: int
) -> tuple[float, float] | None:
    """Find a place beside a point where its label covers nothing, and take it; ``None`` where there is none."""
    if not label:
        return None
    size = LETTER * len(label)
    for left, base in (
        (x + 9, y + 4),
        (x - 9 - size, y + 4),
        (x - size / 2, y - 10),
        (x - size / 2, y + 19),
        (x + 7, y - 8),
        (x + 7, y + 16),
        (x - 7 - size, y - 8),
        (x - 7 - size, y + 16),
    ):
        box = (left, base - 10, left + size, base + 3)
        inside = box[0] >= LEFT + 2 and box[2] <= width - 2 and box[1] >= 0 and box[3] <= height - BOTTOM
        own = (x - 6, y - 6, x + 6, y + 6)
        others = [other for other in taken if other != own]
        if inside and not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others):
            taken.append(box)
            return left, base
    return None
