"""Which features are on: rules and moved features, in both forms of the sparse level, as the interpreter says."""

from __future__ import annotations

import numpy as np
import pytest

from englishroom.inside.activations import features_on
from englishroom.interp.reference import run
from englishroom.ir.program import Program
from readable import induction
from readable import tokens as letters
from staged import rows, staged


@pytest.mark.parametrize(
    ("program", "texts"),
    [(staged(0), rows(3)), (induction(), [letters("abcab"), letters("dcd")])],
    ids=["rules over heads", "looks and rules"],
)
def test_features_are_on_where_the_reference_says(program: Program, texts: list) -> None:
    found = features_on(program, texts)
    assert list(found) == ["moved.0", "rules.0", "moved.1", "rules.1"]
    told = [run(program, text.tolist()) for text in texts]
    for name, values in found.items():
        assert np.allclose(values.toarray(), np.concatenate([variables[name] for variables in told]), atol=1e-5)
        assert values.nnz > 0
