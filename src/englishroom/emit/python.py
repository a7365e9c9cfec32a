"""Write a program as one Python file that imports only the standard library, in the form that suits it."""

from __future__ import annotations

from englishroom.emit.emitter import Emitted, Emitter, Header
from englishroom.emit.explained import ExplainedEmitter
from englishroom.emit.readable import ReadableEmitter
from englishroom.emit.sparse import SparseEmitter, is_staged
from englishroom.ir.labels import Labels
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer

__all__ = ["Emitted", "Header", "emit"]


def emit(
    program: Program, tokenizer: Tokenizer, header: Header, tables_sha256: str, labels: Labels | None = None
) -> Emitted:
    """Write a program as Python: header, how it thinks block by block, its arithmetic, its tokenizer, its tables.

    Args:
        tables_sha256: hash of the file ``tables.safetensors`` that will stand beside it.
        labels: what features are called; without them they go by their numbers.
    """
    if program.level == "sparse" and program.is_readable:
        return ReadableEmitter(program, tokenizer, labels or Labels()).emit(header, tables_sha256)
    if program.level == "explained":
        return ExplainedEmitter(program, tokenizer, labels or Labels()).emit(header, tables_sha256)
    if is_staged(program):
        return SparseEmitter(program, tokenizer, labels or Labels()).emit(header, tables_sha256)
    return Emitter(program, tokenizer).emit(header, tables_sha256)
