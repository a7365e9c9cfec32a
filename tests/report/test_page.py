"""The page: every fact stands in it, nothing that a model says becomes markup, what is missing is said."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from browser import look, photograph
from englishroom.report.inside import readability
from englishroom.report.page import SECTIONS, page
from tiny_facts import bare_facts, full_facts

HOSTILE = "</script></style></title><img src=x onerror=alert(1)>\"'><svg onload=alert(2)>"
VOID = {"meta", "link", "br"}
COLOURS_OF_PNG = b"\x89PNG"


class Outline(HTMLParser):
    """Reads elements and text, and sees that every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_facts_stand_in_the_page() -> None:
    text = Outline(page(full_facts())).text
    for expected in (
        "word, decompiled",
        "31.4 % (29.0 to 33.0)",
        "0.456 nats",
        "+0.500 nats",
        "77.7 %",
        "123rules fire at a position",
        "0.50 times the target's weights",
        "word bigram (n-gram)",
        "englishroom decompile word",
        "rules.0[3]",
        "one dictionary at a time (word)",
        "seed 3",
        "5.00 Mbit",
    ):
        assert expected.replace("5.00", "5") in text, expected
    assert "There is no" not in text
    for _, title, _ in SECTIONS:
        assert title in text


def test_what_is_missing_is_said() -> None:
    text = Outline(page(bare_facts())).text
    for expected in (
        "This room holds no scores.json",
        "No frontier was measured",
        "No categories were measured",
        "there is no labels.json in it",
        "there is no memory.json in it",
        "No stories were told",
        "No sentence was followed",
    ):
        assert expected in text, expected


def test_measures_of_readability_stand_beside_their_nulls() -> None:
    facts = bare_facts()
    assert "How readable this program is was not measured" in page(facts)
    facts["trace"] = {"edges_used": {"mean": 132831.42}, "reads_per_rule": {"median": 8.0, "most": 128.0}}
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", readability(facts))
    assert cells[:3] + cells[4:7] == ["table entries used, mean", "132,831.4", "", "reads of a rule, most", "128.0", ""]
    assert len(cells) == 8
    facts["room"]["evidence"] = {
        "entries_used_mean": 8597.0,
        "entries_used_mean_null": 193329.0,
        "kl_no_voters": 3.9,
        "often_on_share": "nan",
        "explanation_mcc": 0.81,
        "explanation_mcc_shifted": -0.003,
        "explanation_mcc_shuffled": 0.001,
    }
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", readability(facts))
    assert cells[1:3] == ["8,597.0", "193,329.0"]
    assert cells[5:7] == ["3.9", ""]
    assert cells[-3:-1] == ["0.81", "0.001"]
    assert len(cells) == 4 * 4  # entries, KL, most reads by the trace, explanations


def test_memory_reads_alike_with_blanks_in_its_keys() -> None:
    """Rooms of earlier versions have them."""
    texts = []
    for key in ("stored votes", "stored_votes"):
        facts = full_facts()
        facts["memory"] = {"nats": {key: 0.5523}}
        texts.append(Outline(page(facts)).text)
    assert texts[0] == texts[1]
    assert "stored votes" in texts[0]


def test_a_target_without_a_curve_has_no_headline() -> None:
    facts = full_facts()
    facts["scores"]["rows"][1]["training_compute_recovered"] = None
    assert "not known" in Outline(page(facts)).text


@pytest.mark.parametrize("text", [HOSTILE, "&lt;b&gt;", "\x1b[31m\u202e", "]]>--><!--"])
def test_what_a_model_says_is_text(text: str) -> None:
    calm, found = Outline(page(full_facts("x"))), Outline(page(full_facts(text)))
    shapes = [[(tag, set(attributes)) for tag, attributes in one.elements if tag != "text"] for one in (calm, found)]
    assert shapes[0] == shapes[1]  # labels of plots stand where there is room for them
    assert not any(tag in ("script", "img", "iframe", "object") for tag, _ in found.elements)
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    if text == HOSTILE:
        assert found.text.count(HOSTILE) >= 20


def test_the_page_names_no_address() -> None:
    source = page(full_facts())
    for tag, attributes in Outline(source).elements:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#") or value == "data:,", (tag, value)
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert styles
    assert not re.search(r"url\(|@import|expression", styles)
    policy = next(a["content"] for t, a in Outline(source).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


@pytest.mark.parametrize("text", ["word", HOSTILE])
def test_a_browser_shows_it_without_complaint_or_request(text: str, tmp_path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(full_facts(text)), encoding="utf-8")
    seen = look(file, tmp_path)
    assert seen.complaints == []
    assert seen.requests == []
    shown = Outline(seen.dom)
    assert "31.4 % (29.0 to 33.0)" in shown.text
    assert f"{text}, decompiled" in shown.text
    photograph(file, tmp_path / "page.png", tmp_path / "profile", 800, 900)
    data = (tmp_path / "page.png").read_bytes()
    assert data.startswith(COLOURS_OF_PNG)
    assert len(data) > 20_000


def test_the_browser_would_have_seen_a_complaint_and_a_request(tmp_path) -> None:
    file = tmp_path / "bad.html"
    file.write_text('<!doctype html><script>console.error("oops")</script><img src="http://127.0.0.1:9/x.png">')
    seen = look(file, tmp_path)
    assert any("oops" in line for line in seen.complaints)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
