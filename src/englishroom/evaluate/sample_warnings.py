"""Say what the samples of a model cannot stand for, by the counts of their record.

A program is fitted on what its target says where no text is given. That is the target's own text only if the target
was trained to say it: a model that was trained to answer (a sum, a majority, a label) was never taught to make the
questions, and its samples say nothing of the answers that it gives to real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from englishroom.data.corpus import BlankLines

CUT_SHARE = 0.99
"""Samples cut at the limit from which on all count as cut."""
DIFFERENT_SHARE = 0.1
"""Different samples below which they count as all alike."""
COMMONEST_SHARE = 0.8
"""Share of a sample's commonest token, in the mean, above which samples count as of one kind."""
MIN_SAMPLES = 20
CHANGED_SHARE = 0.05
"""Line ends, beginnings or ends of samples that collapsing may change; where more would, samples are kept."""


def warnings_of(name: str, counts: Mapping[str, Any], limited: bool = False) -> list[str]:
    """Return a line for each reason to doubt that a model can make its own inputs.

    Args:
        name: of the model.
        counts: what the record of the samples says of a text; records of earlier versions lack some.
        limited: whether it was asked to cut them short.
    """
    n = counts["sampled_documents"]
    if n < MIN_SAMPLES:
        return []
    found = []
    if not limited and counts["sampled_unfinished"] >= CUT_SHARE * n:
        cut = counts["sampled_unfinished"]
        found.append(f"{cut:,} of {n:,} samples of {name} were cut at the end of its context, not ended by it")
    if (different := counts.get("sampled_different", n)) < DIFFERENT_SHARE * n:
        found.append(f"only {different:,} of {n:,} samples of {name} are different")
    if (share := counts.get("sampled_commonest_token", 0.0)) > COMMONEST_SHARE:
        found.append(f"samples of {name} are of one kind: one token makes up {share:.0%} of a sample in the mean")
    advice = (
        "if it was trained to answer inputs that it does not make itself, a program fitted and measured on its samples "
        "is one of something else: give texts of its own task"
    )
    return [f"{line}; {advice}" for line in found]


def blank_lines_of(counts: Mapping[str, Any]) -> BlankLines:
    """Say whether samples are collapsed when they are read: where that changes next to nothing that was said.

    Records of earlier versions say nothing of it; their samples were collapsed when they were written.
    """
    return "keep" if max(counts.get("white_space", {"none": 0.0}).values()) > CHANGED_SHARE else "collapse"
