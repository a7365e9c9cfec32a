"""englishroom show"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import show


@dataclass(frozen=True)
class Command:
    """Say what is in a room: level, blocks, sizes, what was done and what was measured."""

    room: tyro.conf.Positional[Path]
    """The room."""
    blocks: bool = False
    """List every block."""
    records: bool = False
    """List every rewrite of every pass."""

    def run(self) -> None:
        from englishroom.ir.program import reads_of, tables_of
        from englishroom.ir.room import load_program
        from englishroom.number import NONE, count, number
        from englishroom.store import read_room

        room = read_room(self.room)  # every file is checked against its hash
        manifest = room.manifest
        program, tokenizer = load_program(self.room)
        target = manifest.target
        show(
            f"{self.room}: {manifest.level} program of {target['name']} ({count(target.get('parameters'))} parameters)"
        )
        show(f"  target sha256  {target.get('sha256', NONE)}")
        show(f"  vocabulary     {program.d_vocab:,} tokens ({tokenizer.kind}), context {program.n_ctx}")
        kinds = Counter(type(block).__name__.lower() for block in program.blocks)
        show(f"  blocks         {len(program.blocks)}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
        show(f"  tables         {len(program.tables())}, {program.n_entries:,} numbers")
        for name in sorted(manifest.files):
            show(f"  file           {name}, {len(room.contents[name]):,} bytes")
        for name, value in manifest.evidence.items():
            show(
                f"  measured       {name} = {value:.3g}"
                if isinstance(value, float)
                else f"  measured       {name} = {value}"
            )
        for record in manifest.records:
            cost = "not measured" if record["cost_nats"] is None else f"{number(record['cost_nats'], '.4f')} nats"
            show(f"  pass           {record['made_by']}: {len(record['rewrites'])} rewrites, cost {cost}")
            for rewrite in record["rewrites"] if self.records else ():
                show(f"                   {rewrite}")
        if self.blocks:
            for block in program.blocks:
                sizes = ", ".join(f"{t.name} {list(t.shape)}" for t in tables_of(block))
                reads = ", ".join(reads_of(block)) or "the input"
                show(f"  {block.name}: {type(block).__name__.lower()} of {reads}" + (f"; {sizes}" if sizes else ""))
