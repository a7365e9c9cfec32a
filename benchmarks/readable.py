"""Measure how fast the emitted file of a readable program reads, in pure Python on one core; print one table.

    python benchmarks/readable.py [--tokens 256]

The program is random and as large as one of tiny-2l: two layers of five looks, 600 moved features and 2,500 rules in
all, of which about 60 and 100 are on at a position, and 150,000 votes. The aim is 60 tokens a second over a full
context.
"""

from __future__ import annotations

import argparse
import runpy
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from table import Row, describe_machine, limit_threads, print_table

N_CTX, D_VOCAB, N_LISTS, LISTS_OF_WORD = 256, 2048, 1024, 4
N_LOOKS, N_MATCHES, N_MOVED, N_RULES = 5, 8, 60, 1250
READS, MATCH_READS, LONE_READS, VOTES, FOLLOWS = 6, 24, 64, 36, 16
MOVED_ON, RULES_ON = 0.1, 0.04


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=N_CTX, help="tokens that are read")
    given = parser.parse_args()
    limit_threads(1)
    print(describe_machine(1))
    print_table(rows(given.tokens))


def rows(n_tokens: int) -> Iterator[Row]:
    import numpy as np

    from englishroom.emit.python import Header, emit
    from englishroom.interp.vectorised import Interpreter
    from englishroom.ir.room import pack
    from englishroom.names import PROGRAM, TABLES
    from englishroom.store import sha256

    program = random_program(0)
    tokens = np.random.default_rng(1).integers(0, D_VOCAB, n_tokens)
    on = Interpreter(program, np.float64).variables(tokens)
    n_on = {kind: sum((on[f"{kind}.{layer}"] != 0).sum(-1).mean() for layer in (0, 1)) for kind in ("moved", "rules")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PROGRAM
        files = pack(program, tokenizer())
        path.with_name(TABLES).write_bytes(files[TABLES])
        began = time.process_time()
        text = emit(program, tokenizer(), Header("random"), sha256(files[TABLES])).text
        written = time.process_time() - began
        path.write_text(text, encoding="utf-8")
        began = time.process_time()
        names = runpy.run_path(str(path))
        imported = time.process_time() - began
        began = time.process_time()
        answers = names["log_probs"](tokens.tolist())
        rate = n_tokens / (time.process_time() - began)
    gap = np.abs(np.array(answers) - on["log_probs"]).max()
    beside = f"{n_on['moved']:.0f} moved features and {n_on['rules']:.0f} rules on at a position"
    yield Row(f"tokens a second over {n_tokens}", f"{rate:.0f}", beside, f"{rate / 60:.1f}", "60")
    yield Row("seconds to import", f"{imported:.2f}", f"{len(text) / 1e6:.1f} MB of text", "", "")
    yield Row("seconds to write", f"{written:.1f}", "", "", "")
    yield Row("nats from the interpreter", f"{gap:.1g}", "", "", "1e-9")


def tokenizer():
    from englishroom.ir.tokenizer import Tokenizer

    pieces = tuple(f" word{number}".encode() for number in range(D_VOCAB))
    return Tokenizer("byte_bpe", pieces, (), (), (0,) * 256, (0,), 0, (0,), False)


def random_program(seed: int):
    """Make the program that the module describes; biases are such that features are as often on as they shall be."""
    import numpy as np

    from englishroom.interp.vectorised import Interpreter
    from englishroom.ir.program import Fire, Linear, Looks, Lookup, Program, Space, SparseTable, Table, Vote, Votes

    random = np.random.default_rng(seed)
    palette = np.unique(random.lognormal(-0.5, 0.7, 32).astype(np.float16)).astype(np.float32)
    text = random.integers(0, D_VOCAB, (4, N_CTX))

    def sparse(name: str, n_rows: int, n_columns: int, each: int, negative: float = 0.0) -> SparseTable:
        columns = np.concatenate([np.sort(random.permutation(n_columns)[:each]) for _ in range(n_rows)])
        values = random.choice(palette, n_rows * each)
        values[random.random(len(values)) < negative] *= -1
        return SparseTable(name, np.arange(n_rows + 1) * each, columns, values, n_columns)

    def vector(name: str, values) -> Table:
        return Table(name, np.asarray(values, np.float16).astype(np.float32))

    lists = sparse("lists.words", D_VOCAB, N_LISTS, LISTS_OF_WORD)
    follows = sparse("follows.words", D_VOCAB, D_VOCAB, FOLLOWS)
    blocks = [
        Lookup(name="lists", space="lists", index="token", table=lists),
        Lookup(name="follows", space="vocab", index="token", table=follows),
    ]
    sizes = {"vocab": D_VOCAB, "lists": N_LISTS}
    vote = Vote(name="log_probs", space="vocab", reads=("follows",))

    def calibrated(block, share: float):
        """Set the biases of a block so that each of its features is on at such a share of the positions."""
        spaces = tuple(Space(name, size) for name, size in sizes.items())
        interpreter = Interpreter(Program("sparse", N_CTX, spaces, (*blocks, block, vote)), np.float64)
        found = np.concatenate([interpreter.variables(row)[block.name] for row in text])
        biases = vector(block.biases.name, -np.quantile(found, 1 - share, axis=0))
        return type(block)(**{**vars(block), "biases": biases})

    read = ["lists"]
    for layer in (0, 1):
        n_read = sum(sizes[name] for name in read)
        name, n_moved, n_matches = f"moved.{layer}", N_LOOKS * N_MOVED, N_LOOKS * N_MATCHES
        back = np.arange(N_CTX)
        curves = [-2.0 * np.abs(back - 1), -0.3 * back, -np.log1p(back), -0.01 * back, 0.0 * back]
        sizes[name] = n_moved
        looks = Looks(
            name=name,
            space=name,
            reads=tuple(read),
            queries=sparse(f"{name}.queries", n_matches, n_read, MATCH_READS, 0.3),
            query_biases=vector(f"{name}.query_biases", np.full(n_matches, 0.2)),
            keys=sparse(f"{name}.keys", n_matches, n_read, MATCH_READS, 0.3),
            key_biases=vector(f"{name}.key_biases", np.full(n_matches, 0.2)),
            matches=(N_MATCHES,) * N_LOOKS,
            lone_keys=sparse(f"{name}.lone_keys", N_LOOKS, n_read, LONE_READS, 0.5),
            distance=Table(f"{name}.distance", np.array(curves, np.float16).astype(np.float32)),
            conditions=sparse(f"{name}.conditions", n_moved, n_read, READS),
            biases=vector(f"{name}.biases", np.zeros(n_moved)),
            thresholds=vector(f"{name}.thresholds", np.zeros(n_moved)),
            moved=(N_MOVED,) * N_LOOKS,
        )
        blocks.append(calibrated(looks, MOVED_ON))
        read.append(name)
        name = f"rules.{layer}"
        sizes[name] = N_RULES
        fire = Fire(
            name=name,
            space=name,
            reads=tuple(read),
            conditions=sparse(f"{name}.conditions", N_RULES, sum(sizes[r] for r in read), READS, 0.1),
            biases=vector(f"{name}.biases", np.zeros(N_RULES)),
            thresholds=vector(f"{name}.thresholds", np.zeros(N_RULES)),
        )
        blocks.append(calibrated(fire, RULES_ON))
        read.append(name)
    n_read = sum(sizes[name] for name in read)
    blocks += [
        Votes(
            name="list_votes",
            space="lists",
            reads=tuple(read),
            weights=sparse("list_votes.weights", n_read, N_LISTS, 2),
        ),
        Linear(name="votes_of_lists", space="vocab", reads="list_votes", weight=lists, transposed=True),
        Votes(
            name="votes", space="vocab", reads=tuple(read), weights=sparse("votes.weights", n_read, D_VOCAB, VOTES, 0.4)
        ),
        Vote(name="log_probs", space="vocab", reads=("follows", "votes_of_lists", "votes")),
    ]
    spaces = tuple(Space(name, size) for name, size in sizes.items())
    return Program("sparse", N_CTX, spaces, tuple(blocks))


if __name__ == "__main__":
    main()
