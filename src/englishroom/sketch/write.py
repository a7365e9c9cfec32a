"""Write a sketch as one short Python file."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from englishroom.emit.prelude import sketching
from englishroom.emit.source import Verbatim
from englishroom.ir.wording import comment, docstring
from englishroom.sketch.keys import COPYING, Readings
from englishroom.sketch.model import SketchVotes

WIDTH = 120

Row = Mapping[str, int]


@dataclass(frozen=True)
class Tables:
    """What a sketch says, spelled out.

    Attributes:
        words: by kind, the votes that each of its words always has.
        gears: by gear and key, the votes for words and kinds; the most important gear and key first.
    """

    words: Mapping[str, Row]
    gears: Mapping[str, Mapping[str, Row]]

    @property
    def n_entries(self) -> int:
        """Count all votes."""
        rows = [*self.words.values(), *(row for table in self.gears.values() for row in table.values())]
        return sum(map(len, rows))


def spell_out(
    votes: SketchVotes, readings: Readings, words: Sequence[str], kind_names: Sequence[str], importances: np.ndarray
) -> Tables:
    """Name everything in a sketch, the most important first.

    Args:
        words: spelling of every token.
        kind_names: of every kind.
        importances: of every number of the sketch, as in ``SketchVotes.parameters``; rows are sorted by their sum.
    """
    names = [*words, *kind_names]
    d, m = votes.d_vocab, len(votes.weights)
    listed: dict[str, dict[str, int]] = {name: {} for name in kind_names[:-1]}
    for token in map(int, np.argsort(-votes.always, kind="stable")):
        if votes.kind[token] < votes.n_kinds - 1:
            listed[kind_names[int(votes.kind[token])]][words[token]] = _count(votes.always[token])
    rows: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    importance: dict[tuple[str, str], float] = defaultdict(float)
    for at in map(int, np.lexsort((votes.outputs, -votes.weights))):
        key = readings.keys[votes.keys[at]]
        importance[key] += float(importances[d + at])
        rows[key][names[votes.outputs[at]]] = _count(votes.weights[at])
    of_copies = importances[d + m :].reshape(votes.copies.shape)
    for row, kind in zip(*map(list, np.nonzero(votes.copies)), strict=True):
        key = (COPYING, readings.copy_keys[row])
        importance[key] += float(of_copies[row, kind])
        rows[key][kind_names[int(kind)]] = _count(votes.copies[row, kind])
    gears: dict[str, dict[str, Row]] = {}
    for key in sorted(rows, key=lambda key: -importance[key]):
        gears.setdefault(key[0], {})[key[1]] = dict(sorted(rows[key].items(), key=lambda pair: -pair[1]))
    order = sorted(gears, key=lambda gear: -sum(v for (g, _), v in importance.items() if g == gear))
    return Tables({k: row for k, row in listed.items() if row}, {gear: gears[gear] for gear in order})


def _count(vote: np.floating | np.ndarray) -> int:
    return round(float(vote) / sketching.NATS)


def table_text(table: Mapping[str, Row], head: str = "") -> str:
    """Write rows as ``sketching.read_table`` reads them, in full lines, the first behind ``head``."""
    rows = []
    for key, row in table.items():
        items, last = [f"{key}:"], None
        for word, number in row.items():
            if number != last:
                items.append(str(number))
                last = number
            items.append(word)
        rows.append(" ".join(items))
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False, initial_indent=head)
    return "\n".join(wrapper.wrap(" | ".join(rows)))


def source(tables: Tables, summary_lines: Sequence[str], remarks: Mapping[str, str], n_tokens: int, n_ctx: int) -> str:
    """Write the whole file: what it is, its code, its words, and gear by gear a function and its table.

    Args:
        summary_lines: lines of its docstring.
        remarks: what is to be said of each gear, behind what it looks at.
        n_tokens: size of the talker's vocabulary.
        n_ctx: words that a story may have.
    """
    verbatim = Verbatim((sketching,))
    needed = verbatim.needed([*tables.gears, "read_table", "log_probs", "main"])
    pieces = {name: re.sub(r"\n\n+", "\n", verbatim.pieces[name][0]) for name in needed}
    general = [text for name, text in pieces.items() if name not in tables.gears]
    parts = [docstring(summary_lines)]
    parts.append("\n".join(verbatim.imports_of(pieces.values())))
    constants = dict.fromkeys(text for text in general if not text.startswith(("def", "class")))
    parts.append("\n".join([*constants, f"N_TOKENS, N_CTX, GEARS = {n_tokens}, {n_ctx}, {{}}"]))
    parts += [text for text in general if text.startswith(("def", "class"))]
    parts.append("# Words by kind, with the votes that they always have.\n" + _table("WORDS", tables.words))
    for gear, table in tables.gears.items():
        looks_at, code = _gear(pieces[gear])
        remark = textwrap.wrap(f"{gear}: {looks_at} {remarks.get(gear, '')}".strip(), WIDTH - 2)
        parts.append("\n".join([*map(comment, remark), code, _table(f"GEARS[{gear}]", table)]))
    parts.append(_LAST)
    return "\n\n".join(part for part in parts if part) + "\n"


_LAST = """KINDS = {word: kind for kind, row in WORDS.items() for word in row}
KNOWN = {word: 0 for table in GEARS.values() for row in table.values() for word in row if word not in {OTHER, *WORDS}}
KNOWN |= {word: number for row in WORDS.values() for word, number in row.items()}
if __name__ == "__main__":
    main()"""


def _table(name: str, table: Mapping[str, Row]) -> str:
    if not table:
        return f"{name} = {{}}"
    text = table_text(table, f'{name} = read_table("""')
    fits = not text.endswith('"') and len(text.rpartition("\n")[2]) + 4 <= WIDTH
    return text + ('""")' if fits else '\n""")')


def _gear(text: str) -> tuple[str, str]:
    """Split a gear into what it looks at, its docstring, and its code."""
    match = re.fullmatch(r'(.*?\n) *"""(.*?)"""\n(.*)', text, re.DOTALL)
    assert match is not None, "a gear has a docstring"
    return match[2], match[1] + match[3]
