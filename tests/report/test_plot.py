"""Plots: every point in its place, labels that cover nothing, ticks that are round."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from englishroom.number import between, bits, count, number, share, short
from englishroom.report.frontier import FIRED, LENGTH, figure, picture, table
from englishroom.report.markup import Markup, joined, tag
from englishroom.report.plot import Axis, Mark, Series, scatter, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(series: list[Series], x: Axis, y: Axis) -> ET.Element:
    return ET.fromstring(scatter(series, x, y, 600, 400, "a plot"))


def circles(root: ET.Element) -> list[tuple[float, float]]:
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]


def test_points_lie_in_order_on_both_axes() -> None:
    marks = [Mark(1, 1, "a"), Mark(10, 2, "b"), Mark(100, 4, "c")]
    root = drawn([Series("s", marks, joined=True)], Axis("x", log=True), Axis("y"))
    places = circles(root)
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
    assert places[0][1] > places[1][1] > places[2][1]
    assert places[1][1] - places[2][1] == pytest.approx(2 * (places[0][1] - places[1][1]), abs=0.2)
    assert len(next(root.iter(f"{SVG}polyline")).attrib["points"].split()) == 3
    assert {t.text for t in root.iter(f"{SVG}text")} >= {"a", "b", "c", "x", "y"}


def test_what_a_logarithm_cannot_show_is_left_out() -> None:
    root = drawn([Series("s", [Mark(0, 1), Mark(5, 1), Mark(float("nan"), 1)])], Axis("x", log=True), Axis("y"))
    assert len(circles(root)) == 1


def test_what_lies_below_an_axis_is_drawn_at_its_beginning_and_says_so() -> None:
    marks = [Mark(0.001, 1, "a"), Mark(0.1, 1, "b"), Mark(10, 1, "c")]
    root = drawn([Series("s", marks)], Axis("x", log=True, least=0.1), Axis("y"))
    places = circles(root)
    assert places[0] == places[1]
    assert places[0][0] < places[2][0]
    assert "a (0.001)" in {t.text for t in root.iter(f"{SVG}text")}


def test_labels_cover_no_other_label() -> None:
    marks = [Mark(i, i % 3, f"label number {i}") for i in range(30)]
    root = drawn([Series("s", marks)], Axis("x"), Axis("y"))
    boxes = [
        (float(t.attrib["x"]), float(t.attrib["y"]), 6.4 * len(t.text or ""))
        for t in root.iter(f"{SVG}text")
        if t.attrib.get("class") == "label"
    ]
    assert 5 < len(boxes) < 30
    for i, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[:i]:
            assert abs(y - other_y) >= 13 or x + width <= other_x or other_x + other_width <= x
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert titles == ["a plot", *(mark.label for mark in marks)]


@given(st.floats(1e-6, 1e9), st.floats(1.6, 1e6), st.booleans())
def test_ticks_are_few_and_inside(low: float, ratio: float, log: bool) -> None:
    found = ticks(low, low * ratio, log)
    assert 1 <= len(found) <= 8
    assert found == sorted(set(found))
    assert all(low * 0.999 <= value <= low * ratio * 1.001 for value in found)


POINTS = [
    {"name": "p", "kind": "sparse", "kl_target_talker": 0.5, "ce_increase": 0.4, "description_bits": 2.5e6,
     "rules_fired_mean": 90.0, "open": "points/p"},
    {"name": "q", "kind": "target", "kl_target_talker": 0.0, "ce_increase": 0.0, "description_bits": 9e6},
]  # fmt: skip


def test_a_point_that_has_no_rules_is_not_in_the_plot_of_rules() -> None:
    assert "q:" not in picture(POINTS, FIRED)
    assert "p: KL 0.5000 nats, CE +0.4000, 2.5 Mbit, 90 rules fired" in picture(POINTS, LENGTH)
    assert "No point has both numbers" in figure(POINTS[1:], FIRED, "rules")
    assert 'class="post"' in picture(POINTS, LENGTH)
    assert 'class="post"' not in picture(POINTS, FIRED)
    assert "points/p" in table(POINTS)


def test_a_picture_stands_by_itself() -> None:
    root = ET.fromstring(picture(POINTS, LENGTH).encode())
    assert root.tag == f"{SVG}svg"
    style = next(root.iter(f"{SVG}style")).text or ""
    assert "prefers-color-scheme" in style
    assert not re.search(r"url\(|@import", style)


def test_whatever_is_not_markup_is_escaped() -> None:
    assert tag("b", "<i>", Markup("<i>"), 3, None, ["&"]) == "<b>&lt;i&gt;<i>3&amp;</b>"
    assert tag("a", href='"x', class_="c", hidden=True, title=None) == '<a href="&quot;x" class="c" hidden></a>'
    assert joined("\x00\u202e") == "\\x00\\u202e"
    assert tag("br") == "<br>"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (number(None), "–"),
        (number("nan"), "–"),
        (number(-0.5), "−0.500"),
        (count(1234.6), "1,235"),
        (bits(12_494_947), "12.5 Mbit"),
        (bits(900), "900 bits"),
        (bits(1500), "1.5 kbit"),
        (share(0.31415), "31.4 %"),
        (share(0.0012), "0.12 %"),
        (share(1.0), "100 %"),
        (between([0.1, 0.2]), "0.100 to 0.200"),
        (between(["nan", 0.2]), ""),
        (short("/a/b/c.txt (first 3 documents)"), "c.txt (first 3 documents)"),
        (short("owner/name"), "owner/name"),
    ],
)
def test_numbers_are_written_for_readers(found: str, expected: str) -> None:
    assert found == expected
