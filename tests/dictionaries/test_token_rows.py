"""Rows of text: where they begin."""

from __future__ import annotations

import numpy as np

from englishroom.dictionaries.token_rows import TokenRows

ROWS = TokenRows(np.arange(40, dtype=np.int32), np.arange(0, 40, 8), 6, (0,))
"""Five documents of eight tokens; a token is its own place."""


def test_rows_begin_where_documents_begin() -> None:
    first = ROWS.batch(seed=3, step=0, size=5)[:, 0]
    assert sorted(first) == [0, 8, 16, 24, 32]


def test_a_share_of_the_rows_begins_inside_a_document() -> None:
    usual = np.concatenate([ROWS.batch(3, step, 5) for step in range(200)])
    rows = np.concatenate([ROWS.batch(3, step, 5, inside=0.5) for step in range(200)])
    assert (rows == (rows[:, :1] + np.arange(6)) % 40).all()
    assert (rows[:, 0] // 8 == usual[:, 0] // 8).all()  # each in its own document
    later = rows[:, 0] % 8
    assert abs((later > 0).mean() - 0.5 * 7 / 8) < 0.05  # one place in eight is the beginning
    assert set(later) == set(range(8))
    assert (ROWS.batch(3, 7, 5, inside=0.5) == ROWS.batch(3, 7, 5, inside=0.5)).all()
