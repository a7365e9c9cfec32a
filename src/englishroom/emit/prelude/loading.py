"""Reading the tables that stand beside an emitted program."""

import hashlib
import json
import sys
from array import array
from pathlib import Path

LARGE = 2**24  # bytes of tables above which memory counts more than speed


def load_tables(program, sha256):
    """Read the safetensors file beside a program (header length, JSON header, numbers) as name -> (flat, shape)."""
    path = Path(program).with_name("tables.safetensors")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SystemExit(
            f"{path}: {error.strerror}; the program needs its tables beside it, restore the room"
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{path}: not the tables this program was written with (sha256 differs); restore the room")
    start = 8 + int.from_bytes(data[:8], "little")
    tables = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            low, high = entry["data_offsets"]
            kind = {"F32": "f", "F64": "d", "I32": "i", "I64": "q"}[entry["dtype"]]
            flat = array(kind, data[start + low : start + high])
            if sys.byteorder == "big":
                flat.byteswap()
            # a list is a quarter faster, an array takes an eighth of the memory
            tables[name] = (flat.tolist() if len(data) < LARGE else flat, entry["shape"])
    return tables


def rows(name):
    """Return a table as its rows (as its numbers, where it has one axis)."""
    flat, shape = TABLES[name]
    return flat if len(shape) == 1 else [flat[start : start + shape[1]] for start in range(0, len(flat), shape[1])]


def columns(name):
    """Return a table as its columns."""
    flat, shape = TABLES[name]
    return [flat[column :: shape[1]] for column in range(shape[1])]


def sparse_rows(name):
    """Return a sparse table as its list of rows, each a list of (column, value)."""
    starts, at, values = (TABLES[f"{name}:{part}"][0] for part in ("starts", "columns", "values"))
    return [list(zip(at[low:high], values[low:high])) for low, high in zip(starts, starts[1:])]


def pairs(name):
    """Return a table as its list of rows, each a list of (column, value) for the values that are not zero."""
    return [[(column, value) for column, value in enumerate(row) if value] for row in rows(name)]


def float32(*numbers):
    """Round numbers to the float32 values that they abbreviate."""
    return array("f", numbers).tolist()


def numbers(text, kind=float):
    """Read numbers separated by white space."""
    return tuple(map(kind, text.split()))
