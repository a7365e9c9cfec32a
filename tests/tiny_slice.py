"""A small sparse program with many rules, a tokenizer for it, and the room of both, without fitting anything."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from englishroom.emit.python import Header, emit
from englishroom.ir.labels import Labels
from englishroom.ir.program import Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.lower.sparsify import sparsify
from englishroom.names import LABELS, TABLES
from englishroom.sparse.edges import Edges
from englishroom.store import SCHEMA_VERSION, Manifest, sha256, write_room
from programs import tokenizer_for
from tiny_features import SPEC
from tiny_sparse import started, text, transcoded

D_VOCAB = 26


@cache
def small_program() -> Program:
    """Make a sparse program of a random model: 26 words, two layers, of each table the heaviest edges."""
    spec = replace(SPEC, d_vocab=D_VOCAB)
    model = started(transcoded(spec), text(spec))
    tables = tuple({source: heaviest(edges) for source, edges in stage.items()} for stage in model.tables)
    return sparsify(replace(model, kinds=heaviest(model.kinds), said=heaviest(model.said), tables=tables))[0]


def heaviest(edges: Edges, share: float = 0.35) -> Edges:
    """Keep the heaviest edges, a share of all that could be."""
    matrix = torch.zeros(len(edges.starts) - 1, edges.n_columns)
    matrix[edges.sources.long(), edges.columns.long()] = edges.weights.detach()
    flat = matrix.abs().flatten()
    least = flat.kthvalue(max(1, int((1 - share) * len(flat)))).values
    return Edges.of(torch.where(matrix.abs() > least, matrix, 0.0))


def small_texts(n_texts: int, seed: int = 0) -> list[NDArray[np.integer]]:
    """Draw texts that fill the context, start token first."""
    rng = np.random.default_rng(seed)
    return [np.append(0, rng.integers(1, D_VOCAB, SPEC.n_ctx)) for _ in range(n_texts)]


def write_small_room(
    path: Path, program: Program, tokenizer: Tokenizer | None = None, labels: Labels | None = None
) -> Path:
    """Write the room of a program, with nothing measured in it."""
    tokenizer = tokenizer or tokenizer_for(program.d_vocab)
    files = pack(program, tokenizer)
    emitted = emit(program, tokenizer, Header("tiny"), sha256(files[TABLES]), labels)
    files |= {"program.py": emitted.text.encode()} | ({} if labels is None else {LABELS: labels.to_json()})
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        level=program.level,
        target={"name": "tiny", "sha256": "0" * 64, "parameters": 1},
        config={},
        seed=0,
        records=[{"made_by": "lift", "options": {}, "rewrites": [], "seconds": 0.0, "cost_nats": None}],
        evidence={},
        versions={},
    )
    write_room(path, files.items(), lambda _folder: manifest)
    return path
