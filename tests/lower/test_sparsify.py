"""A sparse program says what its sparse model says, whatever runs it, and holds no matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from englishroom.interp.reference import log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.levels import SMALL_MATRIX, SPARSE_ROW_ENTRIES
from englishroom.ir.program import Rules, SparseTable, Table, tables_of
from englishroom.lower.sparsify import run_as, sparsify
from englishroom.models.spec import ModelSpec
from tiny_features import SPEC
from tiny_sparse import pruned, rotary, windowed


@pytest.mark.parametrize("spec", [SPEC, windowed(), rotary()], ids=["gpt2", "gpt_neo", "llama"])
def test_the_program_says_what_the_sparse_model_says(spec: ModelSpec) -> None:
    model = pruned(spec)
    program, record = sparsify(model)
    tokens = np.array([0, 5, 9, 3, 3, 17, 29, 1])
    expected = run_as(model, tokens[None])[0]
    assert program.level == "sparse"
    assert record.made_by == "sparsify"
    assert np.abs(log_probs(program, tokens) - expected).max() < 1e-9
    fast = Interpreter(program, np.float64).log_probs(tokens[None])[0]
    assert np.abs(fast - expected).max() < 1e-9


def test_no_table_is_a_matrix() -> None:
    model = pruned(SPEC)
    program, _ = sparsify(model)
    for block in program.blocks:
        for table in tables_of(block):
            if isinstance(table, Table):
                assert table.values.ndim == 1 or table.name.endswith("distance")
            else:
                assert isinstance(table, SparseTable)
                assert np.diff(table.starts).max(initial=0) <= SPARSE_ROW_ENTRIES
                size = table.shape[0] * table.shape[1]
                assert size <= SMALL_MATRIX or table.n_entries <= size // 2
    rules = [block for block in program.blocks if isinstance(block, Rules)]
    assert len(rules) == 2 * SPEC.n_layers
    for block in rules:  # a bias of every rule stands among its conditions
        assert np.diff(block.conditions.starts).max() <= 8 + 1


def test_float32_and_float64_agree() -> None:
    model = pruned(SPEC)
    tokens = torch.randint(0, SPEC.d_vocab, (1, 10), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        single = model.run(tokens).log_softmax(-1).numpy()
    assert np.abs(single - run_as(model, tokens.numpy())[0]).max() < 1e-3
