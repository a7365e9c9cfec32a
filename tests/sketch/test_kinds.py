"""Words are sorted into kinds by what they stand between."""

from __future__ import annotations

import numpy as np

from englishroom.sketch.kinds import sort_into_kinds


def test_words_that_are_used_alike_share_a_kind() -> None:
    true = np.arange(40) % 4
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(10), 4)  # of each word in its kind
    follows = np.zeros((40, 40))
    for a in range(40):
        for b in range(40):
            steps = (true[b] - true[a]) % 4
            follows[a, b] = share[true[a], a // 4] * share[true[b], b // 4] * (0.9 if steps == 1 else 0.03)
    found = sort_into_kinds(follows * 1000, np.argsort(-follows.sum(0)), 4)
    assert len({(int(a), int(b)) for a, b in zip(true, found, strict=True)}) == 4


def test_words_left_out_have_no_kind() -> None:
    follows = np.random.default_rng(1).random((10, 10))
    found = sort_into_kinds(follows, np.array([3, 5, 7]), 8)
    assert set(found[[3, 5, 7]]) == set(range(found.max() + 1))
    assert (np.delete(found, [3, 5, 7]) == -1).all()
