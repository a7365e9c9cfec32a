"""How many bits describe a talker: the same code for programs, targets, compressed targets and n-gram tables.

A description is a text and some arrays. The text (a program in the language, the shape of a transformer, whatever says
how the arrays are used) and the arrays' names and shapes are compressed; every array is sent by ``code_lengths``.

The receiver knows Python's standard library, the language of programs, the forward pass of a transformer by its
``ModelSpec``, and the tokenizer, which is not counted for anyone. So a program pays for its blocks as a target pays for
its shape, and neither for the interpreter that runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.tables import is_literal
from englishroom.errors import ConfigError
from englishroom.evaluate.code_lengths import Length, bytes_bits, floats, integers, natural_bits, positions_bits
from englishroom.evaluate.condition_code import conditions_length
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.sketch import SketchTalker
from englishroom.ir.program import AnyTable, Conditions, Program, SparseTable, Table
from englishroom.ir.text import print_code

if TYPE_CHECKING:  # torch loads only where a target is described
    from englishroom.models.compress.quantise import QuantisedTarget
    from englishroom.models.load import Target


@runtime_checkable
class Tabulated(Protocol):
    """A talker that is its tables."""

    def arrays(self) -> Mapping[str, NDArray]:
        """Return everything that it answers by, by name."""
        ...


@dataclass(frozen=True)
class Description:
    """The length of a talker, part by part.

    Attributes:
        tables: by name of table or weight.
        source_bits: the compressed text, names and shapes included.
    """

    tables: Mapping[str, Length] = field(default_factory=dict)
    source_bits: int = 0

    @property
    def table_bits(self) -> int:
        return sum(length.bits for length in self.tables.values())

    @property
    def bits(self) -> int:
        """The ``description_bits`` of reports."""
        return self.table_bits + self.source_bits


def describe(thing: object) -> Description:
    """Describe a program, a target (quantised or not), a talker that runs one, or a talker that has tables.

    Raises:
        ConfigError: it is nothing of these.
    """
    if isinstance(thing, ProgramTalker):
        return describe_program(thing.interpreter.program)
    if isinstance(thing, SketchTalker):
        return describe_arrays({}, thing.source)
    if isinstance(thing, Program):
        return describe_program(thing)
    if isinstance(thing, Tabulated):
        return describe_arrays(thing.arrays())
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.models.compress.quantise import QuantisedTarget
    from englishroom.models.load import Target

    if isinstance(thing, TargetTalker):
        return describe_target(thing.target)
    if isinstance(thing, QuantisedTarget):
        return describe_quantised(thing)
    if isinstance(thing, Target):
        return describe_target(thing)
    name = getattr(thing, "name", type(thing).__name__)
    raise ConfigError(f"{name}: found no tables to count; give a program, a target or a talker with arrays()")


def describe_arrays(arrays: Mapping[str, NDArray], source: str = "") -> Description:
    """Describe arrays of whole numbers or floats, and a text that says how they are used."""
    tables = {name: _array(name, array) for name, array in arrays.items()}
    return Description(tables, _source_bits(source, {name: array.shape for name, array in arrays.items()}))


def describe_program(program: Program, source: str | None = None) -> Description:
    """Describe a program: its tables, those that blocks share once, and its blocks in the language.

    Args:
        source: what to count in place of the blocks in the language: the text of ``program.py``, for example, with its
            comments, interpreter and tokenizer. Vectors that it spells out are then counted as part of it.
    """
    tables = program.tables()
    if source is not None:
        tables = {name: table for name, table in tables.items() if not is_literal(table)}
    lengths = {name: _table(table) for name, table in tables.items()}
    if source is None:
        told = [block for block in program.blocks if isinstance(block, Conditions)]
        lengths |= {f"{b.name}:conditions": conditions_length(b.conditions, program.d_vocab) for b in told}
    text = print_code(_untold(program)) if source is None else source
    return Description(lengths, _source_bits(text, {name: table.shape for name, table in tables.items()}))


def _untold(program: Program) -> Program:
    """Leave out conditions, which have a code of their own."""
    blocks = [replace(block, conditions=()) if isinstance(block, Conditions) else block for block in program.blocks]
    return replace(program, blocks=tuple(blocks))


def describe_target(target: Target) -> Description:
    """Describe a target by its weights, at the smallest precision that holds each of them exactly; pruned ones too."""
    arrays = {name: tensor.numpy() for name, tensor in target.weights.items()}
    return describe_arrays(arrays, json.dumps(asdict(target.spec)))


def describe_quantised(quantised: QuantisedTarget) -> Description:
    """Describe a quantised target: codes and scales of its matrices, everything else as it is."""
    arrays: dict[str, NDArray] = {}
    for name, tensor in quantised.target.weights.items():
        coded = quantised.matrices.get(name)
        if coded is None:
            arrays[name] = tensor.numpy()
        else:
            arrays |= {f"{name}:codes": coded.codes.numpy(), f"{name}:scales": coded.scales.numpy()}
    layout = {name: (coded.n_levels, coded.channel) for name, coded in quantised.matrices.items()}
    return describe_arrays(arrays, json.dumps([asdict(quantised.target.spec), layout]))


def _table(table: AnyTable) -> Length:
    match table:
        case Table():
            return _array(table.name, table.values)
        case SparseTable(starts=starts, columns=columns, values=values):
            n_rows = len(starts) - 1
            rows = np.repeat(np.arange(n_rows), np.diff(starts))
            what = floats(values)
            where = positions_bits(rows * table.n_columns + columns, (n_rows, table.n_columns))
            return Length(where + what.bits, f"{len(values)} of {n_rows} x {table.n_columns}, {what.form}")


def _array(name: str, array: NDArray) -> Length:
    if array.dtype.kind == "f":
        return floats(array)
    if array.dtype.kind in "iub":
        return integers(array)
    raise ConfigError(f"table {name}: holds {array.dtype}, expected whole numbers or floats; store it as one of them")


def _source_bits(text: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the length of a text, with the names and shapes of the arrays below it."""
    head = "\n".join([*(f"{name} {' '.join(map(str, shape))}" for name, shape in shapes.items()), text])
    data = head.encode()
    return natural_bits(len(data)) + bytes_bits(data)
