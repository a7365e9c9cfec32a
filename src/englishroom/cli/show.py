"""englishroom show"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import show
from englishroom.pipeline.commands import ShowConfig


@dataclass(frozen=True)
class Command:
    """Show what is in a room: its model, its level, its files, how the program was made, and what was measured.

    Every file is checked against the hash in the manifest of the room.
    """

    config: Annotated[ShowConfig, arg(name="")]

    def run(self) -> None:
        from englishroom.ir.program import reads_of, tables_of
        from englishroom.ir.room import load_program
        from englishroom.number import NONE, count, number
        from englishroom.store import read_room

        path = self.config.room
        room = read_room(path)  # every file is checked against its hash
        manifest = room.manifest
        program, tokenizer = load_program(path)
        target = manifest.target
        show(f"{path}: {manifest.level} program of {target['name']} ({count(target.get('parameters'))} parameters)")
        show(f"  target sha256  {target.get('sha256', NONE)}")
        show(f"  vocabulary     {program.d_vocab:,} tokens ({tokenizer.kind}), context {program.n_ctx}")
        kinds = Counter(type(block).__name__.lower() for block in program.blocks)
        show(f"  blocks         {len(program.blocks)}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
        show(f"  tables         {len(program.tables())}, {program.n_entries:,} numbers")
        for name in sorted(manifest.files):
            show(f"  file           {name}, {len(room.contents[name]):,} bytes")
        for name, value in manifest.evidence.items():
            show(f"  measured       {name} = {f'{value:.3g}' if isinstance(value, float) else value}")
        for record in manifest.records:
            cost = "not measured" if record["cost_nats"] is None else f"{number(record['cost_nats'], '.4f')} nats"
            show(f"  pass           {record['made_by']}: {len(record['rewrites'])} rewrites, cost {cost}")
            for rewrite in record["rewrites"] if self.config.records else ():
                show(f"                   {rewrite}")
        if self.config.blocks:
            for block in program.blocks:
                sizes = ", ".join(f"{t.name} {list(t.shape)}" for t in tables_of(block))
                reads = ", ".join(reads_of(block)) or "the input"
                show(f"  {block.name}: {type(block).__name__.lower()} of {reads}" + (f"; {sizes}" if sizes else ""))
