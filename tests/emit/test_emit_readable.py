"""A readable program as it is emitted: its lines are the program, to the last bit, and say what a reader needs."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitted_tables import looked_into
from englishroom.emit import reasons
from englishroom.emit.lines import Numbers, SumNumbers, Terms, TermSum, curve_text, curve_words, rule_line
from englishroom.emit.prelude import loading
from englishroom.emit.prelude.readable import exact, rules_in
from englishroom.emit.python import Emitted, Header, emit
from englishroom.emit.remarks import remarks
from englishroom.interp import reference
from englishroom.ir.condition import (
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Word,
    WordAt,
    WordEarlier,
    holds,
)
from englishroom.ir.labels import Explanation, Feature, Labels
from englishroom.ir.marks import marks_of
from englishroom.ir.program import Fire, Looks, Lookup, Program, Space, SparseTable, Table, Vote, Votes, tables_of
from englishroom.ir.room import pack
from englishroom.ir.verify import require_valid
from englishroom.names import TABLES
from programs import (
    READABLE_KINDS,
    quoting_tokenizer,
    random_program,
    random_readable,
    run_file,
    tokenizer_for,
    tokens_for,
    write_emitted,
)
from readable import LISTS, induction, sparse, tokens

TESTS = Path(__file__).resolve().parents[1]
HERE = Explanation(Condition(((WordAt((Word(2, "b"),), back=0),),)), 1.0, 0.75, 0.5, 0.6)
LABELS = Labels(
    {
        "lists": tuple(Feature(name, importance=at / 10) for at, name in enumerate(LISTS)),
        "moved.0": tuple(Feature(f"{name}~before", back=(0, 1, 2)) for name in LISTS[:4]),
        "rules.0": (
            Feature("a~then~b", "pairs", 0.25, 0.125, 0.8, (), (), (("~c", 0.8),), HERE, "g a [b]"),
            Feature("first", "places", 0.5, 0.01, 1.0),
        ),
    }
)


def written(folder: Path, program: Program, labels: Labels | None = None) -> Emitted:
    words = tokenizer_for(program.d_vocab)
    data = pack(program, words)[TABLES]
    (folder / TABLES).write_bytes(data)
    found = emit(program, words, Header("tiny"), hashlib.sha256(data).hexdigest(), labels)
    (folder / "program.py").write_text(found.text, encoding="utf-8")
    return found


def gap(folder: Path, program: Program, seed: int = 0) -> float:
    """Say how far the file in a folder is from the reference, in nats."""
    read = tokens_for(program, seed)[0].tolist()
    answers = run_file(folder / "program.py")["log_probs"](read)
    return np.abs(np.array(answers) - reference.log_probs(program, read)).max()


@given(
    kinds=st.lists(st.sampled_from(READABLE_KINDS), max_size=8), seed=st.integers(0, 2**32 - 1), beside=st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_it_says_what_the_program_says(
    kinds: list[str], seed: int, beside: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program, folder = random_program("sparse", kinds, seed, readable=True), tmp_path_factory.mktemp("readable")
    with pytest.MonkeyPatch.context() as patch:
        if beside:
            patch.setattr(loading, "LARGE", 0)
        write_emitted(folder, program)
    assert gap(folder, program, seed % 1000) < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_large_tables_lie_beside_it_and_small_ones_in_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = random_readable(seed) if seed else induction()
    small = write_emitted(tmp_path, program).read_text()
    assert "tables.safetensors" not in small
    (tmp_path / TABLES).unlink()
    assert gap(tmp_path, program) < 1e-9
    monkeypatch.setattr(loading, "LARGE", 0)
    path = write_emitted(tmp_path, program)
    large = path.read_text().replace("LARGE = 2**24 ", "LARGE = 0 ")
    assert "LARGE = 0 " in large
    assert "_lines = r" not in large
    path.write_text(large)
    assert gap(tmp_path, program) < 1e-9


def with_numbers(program: Program, dtype: type, seed: int) -> Program:
    """Put numbers into a program of which no two are alike, in a type, with biases and thresholds in bounds."""
    random = np.random.default_rng(seed)

    def put(value: Any, name: str) -> Any:
        if isinstance(value, Table | SparseTable):
            signed = random.normal(size=value.values.shape)
            return replace(value, values=(np.abs(signed) if name in ("thresholds", "table") else signed).astype(dtype))
        return value

    known: dict[str, Any] = {}
    blocks = []
    for block in program.blocks:
        found = {item.name: put(getattr(block, item.name), item.name) for item in fields(block)}
        found |= {
            name: known.setdefault(table.name, table) for name, table in found.items() if hasattr(table, "values")
        }
        blocks.append(replace(block, **found))
    return replace(program, blocks=tuple(blocks))


@pytest.mark.parametrize("many", [0, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_bit_of_every_weight_is_read_back(
    dtype: type, many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table has few numbers, and where it has many and they are written in full."""
    monkeypatch.setattr("englishroom.emit.lines.MANY", many)
    for seed in range(5):
        program = with_numbers(induction(), dtype, seed)
        written(tmp_path, program)
        names = run_file(tmp_path / "program.py")
        assert gap(tmp_path, program) < 1e-9
        for block in program.blocks:
            own = block.name.replace(".", "_")
            if isinstance(block, Fire):
                reads, biases, thresholds = names[own]
                assert list(biases.values()) == block.biases.values.tolist()
                assert list(thresholds.values()) == block.thresholds.values.tolist()
                assert sorted(w for pairs in reads.values() for _, w in pairs) == numbers_of(block.conditions)
            if isinstance(block, Votes):
                assert sorted(w for pairs in names[own].values() for _, w in pairs) == numbers_of(block.weights)
            if isinstance(block, Looks):
                curves, lone, matches, _ = zip(*names[own], strict=True)
                assert [curve[: block.distance.shape[1]] for curve in curves] == block.distance.values.tolist()
                assert sorted(w for terms in lone for w in terms.values()) == numbers_of(block.lone_keys)
                sides = [side for look in matches for side in look]
                assert sorted(w for terms, *_ in sides for w in terms.values()) == numbers_of(block.queries)
                assert sorted(w for _, _, terms, _ in sides for w in terms.values()) == numbers_of(block.keys)


def numbers_of(table: SparseTable) -> list[float]:
    return sorted(table.values.astype(float).tolist())


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(SINGLE, max_size=6), st.lists(SINGLE, max_size=30), SINGLE, SINGLE.map(abs), st.booleans())
@settings(deadline=None, max_examples=200)
def test_a_rule_of_any_numbers_is_read_back(
    values: list[float], own: list[float], bias: float, low: float, few: bool
) -> None:
    features = [(f"x{at}", value) for at, value in enumerate(values)]
    words = [(word, value) for word, value in zip(("for", "against", "where", *map(str, range(40))), own, strict=False)]
    sets = [tuple(sorted(set(map(abs, own)))), tuple(sorted(set(values)))] if few else [(), ()]
    of_words, of_features = (Numbers(numbers, single=True, read=exact(numbers, True)) for numbers in sets)
    line = rule_line(3, "r:", TermSum(features, words), bias, low, SumNumbers(of_features, of_words), single=True)
    reads, biases, thresholds = rules_in(line + "\n# on 1 % > -> | ... 3", tuple(sets), single=True)
    assert {name: weight for name, ((_, weight),) in reads.items()} == dict(features) | {
        f"word {name}": weight for name, weight in words
    }
    assert (biases, thresholds) == ({"r": bias}, {"r": low})


def plain_line(terms: list[tuple[str, float]], bias: float, low: float, words: Terms = ()) -> str:
    numbers = Numbers.of(np.array([value for _, value in terms]), single=False)
    own = Numbers.of(np.abs([value for _, value in words]), single=False)
    return rule_line(7, "r:", TermSum(terms, words), bias, low, SumNumbers(numbers, own), single=False)


def test_weights_are_in_units_of_what_a_rule_asks_for() -> None:
    """3.5 is asked for: a threshold of 0.5 and a bias of -3."""
    terms = [("x", 0.35), ("y", 7.0), ("z", -3.5)]
    assert plain_line(terms, -3.0, 0.5) == "7 r: y 2 z -1 > 1 | bias -3 threshold 0.5 ... x 0.1"


def test_small_terms_stand_behind_a_mark() -> None:
    assert plain_line([("x", 0.1), ("y", 2.0)], -2.0, 0.0) == "7 r: y 1 > 1 | bias -2 ... x 0.05"


def test_words_that_one_rule_alone_reads_stand_in_its_line() -> None:
    words = [("girl", 2.4), ("mom", 0.1), (".", -1.6), ("lily", 2.2)]
    assert plain_line([("m1.40", 1.6), ("r0.3", -1.0)], -2.0, 0.0, words) == (
        "7 r: for girl 1.2 lily 1.1 | against . 0.8 | m1.40 0.8 r0.3 -0.5 > 1 | bias -2 ... for mom 0.05"
    )


def test_long_lines_go_on_in_lines_that_begin_with_spaces() -> None:
    words = [(f"word{at}", 1.0 + at / 64) for at in range(40)]
    line = plain_line([("x", 2.0), ("y", 0.001)], -2.0, 0.0, words)
    assert max(map(len, line.splitlines())) <= 120
    assert len(line.splitlines()) > 4
    assert all(part.startswith("    ") for part in line.splitlines()[1:])
    assert line.splitlines()[-1] == "    ... y 0.0005"
    reads, *_ = rules_in(line, (tuple(weight for _, weight in words), (0.001, 2.0)), single=False)
    assert {name: weight for name, ((_, weight),) in reads.items()} == {"x": 2.0, "y": 0.001} | {
        f"word {name}": weight for name, weight in words
    }


def test_small_terms_of_matches_stand_behind_a_mark_too(tmp_path: Path) -> None:
    program = induction()
    block = next(block for block in program.blocks if block.name == "moved.1")
    assert isinstance(block, Looks)
    queries = SparseTable("moved.1.queries", np.array([0, 2, 2, 2, 2]), np.array([0, 4]), np.array([0.05, 1.0]), 12)
    blocks = tuple(replace(b, queries=queries) if b is block else b for b in program.blocks)
    text = written(tmp_path, replace(program, blocks=blocks), LABELS).text
    assert "match here names 1 ... a 0.05 | bias 0\n    -> there a~before 8.79 | bias -4.394449154672439\n" in text
    assert gap(tmp_path, replace(program, blocks=blocks)) < 1e-9


def test_a_rule_that_asks_for_next_to_nothing_has_its_weights_as_they_are() -> None:
    assert plain_line([("x", 4.0), ("y", 2.0)], -0.125, 0.0) == "7 r: x 4 y 2 > 0.125 | bias -0.125"


def test_a_rule_that_is_on_by_itself_asks_for_less_than_nothing() -> None:
    assert plain_line([("x", -4.0)], 2.0, 0.0) == "7 r: x -2 > -1 | bias 2"
    assert plain_line([("x", -4.0)], 0.0, 0.0) == "7 r: x -4 > 0 | bias 0"


def test_numbers_have_as_many_digits_as_it_takes() -> None:
    """Three digits, where the table has no nearer number."""
    near = np.array([0.5, 1.2341, 1.2343])
    assert Numbers.of(near, single=False).words(near) == ["0.5", "1.23", "1.2343"]
    alone = np.array([0.5, 1.2341])
    assert Numbers.of(alone, single=False).words(alone) == ["0.5", "1.23"]


def test_a_curve_is_said_in_words_and_folded() -> None:
    curve = np.array([0.0, np.log(6), 0.0, 0.0])
    assert curve_words(np.array([0.0, 2.0, -1.0, -1.0])) == "curve 0 2 -1*2"
    assert curve_text(curve, 4) == (
        "By distance alone its weight falls 67% on the word 1 back, 11% on the word here, 11% on the word 2 back, "
        "half of it within 1 back and nine tenths within 3, of 3 at most."
    )
    assert curve_text(np.array([0.5]), 6) == "It goes by no distance: alike to all of the last 6 positions."


def test_the_file_says_what_the_hand_set_program_does(tmp_path: Path) -> None:
    text = written(tmp_path, induction(), LABELS).text
    assert text.isascii()
    lines = text.splitlines()
    assert "4 names: ~a 1 ~b 1" in lines
    at = lines.index("match here a 1 | bias 0")
    assert lines[at + 1] == "    -> there a~before 8.79 | bias -4.394449154672439"
    assert "0 a~before: where look 0.0 looks a 2 > 1 | bias 0 threshold 0.5" in lines
    at = lines.index("0 a~then~b: a~before 1.14 b 0.286 > 1 | bias -3 threshold 0.5")
    assert lines[at - 4 : at] == [
        "# a~then~b",
        '#   on at 12.50% of places | says "~c" +0.8',
        "#   e.g. g a [b]",
        "#   when b here (held out: precision 0.75, recall 0.50, MCC 0.60)",
    ]
    assert "#   on when 1 back (0 to 2) stands what it finds" in lines
    assert "# pairs: 1, 0.25 nats together." in lines
    assert "12 a~then~b: ~c 1" in lines
    assert any(line.startswith("# rules_0: rules; ") and line.endswith("About 0.75 nats hang on it.") for line in lines)


def test_a_condition_that_tells_little_is_said_to() -> None:
    word = Condition(((WordAt((Word(2, "~b"),)),),))
    for mcc, lead in ((0.3, "#   when ~b here"), (0.29, "#   no short condition says when; the best: ~b here")):
        told = remarks("r0.1", Feature("r0.1", explanation=Explanation(word, 1.0, 0.5, 0.25, mcc)), [])
        assert told == ["# r0.1", f"{lead} (held out: precision 0.50, recall 0.25, MCC {mcc:.2f})"]


def test_the_header_walks_through_a_line_of_the_program(tmp_path: Path) -> None:
    told = (ast.get_docstring(ast.parse(written(tmp_path, induction(), LABELS).text)) or "").replace("\n", " ")
    assert "One line, of rules_0:     # a~then~b     #   on at 12.50% of places" in told
    assert " 0 a~then~b: a~before 1.14 b 0.286 > 1 | bias" in told
    assert "It adds up 1.14 times a~before, 0.286 times b, each as strong as it is on" in told
    assert "With a~before on at strength 1 the sum is 1.14, so it is on." in told
    assert "It is then on as strongly as 3.5 times the sum, minus 3: from 0.5 upwards." in told


def own_lists(seed: int) -> Program:
    """Make a program whose rules and looks have word lists of their own, with weight 1 or -1."""
    random, known = np.random.default_rng(seed), {}
    program = induction()
    n_own = 38
    lists = next(block for block in program.blocks if block.name == "lists")
    assert isinstance(lists, Lookup)
    n_words, n_shared = lists.table.shape
    dense = np.concatenate([lists.table.dense(), np.zeros((n_words, n_own))], axis=1)
    dense[:, n_shared:] = np.abs(random.normal(size=(n_words, n_own))) * (random.random((n_words, n_own)) < 0.4)
    free = iter(random.permutation(n_own).tolist())
    known["lists"] = dense

    def widened(table: SparseTable, own: bool) -> SparseTable:
        rows = np.insert(table.dense(), [n_shared] * n_own, 0.0, axis=1)
        for row in range(len(rows) if own else 0):
            for sign, at in zip((1.0, -1.0), free, strict=False):
                rows[row, n_shared + at] = sign
        found = [{column: row[column] for column in np.flatnonzero(row)} for row in rows]
        entries = {(at, int(column)): float(v) for at, row in enumerate(found) for column, v in row.items()}
        return sparse(table.name, *rows.shape, entries)

    blocks = []
    for block in program.blocks:
        changed = block
        if block.name == "lists":
            entries = {(int(w), int(c)): float(dense[w, c]) for w, c in zip(*np.nonzero(dense), strict=True)}
            changed = replace(block, space="lists.read", table=sparse("lists.read", *dense.shape, entries))
        elif isinstance(block, Looks | Fire) and "lists" in block.reads:
            parts = ("queries", "keys", "lone_keys", "conditions") if isinstance(block, Looks) else ("conditions",)
            changed = replace(block, **{part: widened(getattr(block, part), part != "lone_keys") for part in parts})
        elif isinstance(block, Votes) and "lists" in block.reads:
            rows = np.insert(block.weights.dense(), [n_shared] * n_own, 0.0, axis=0)
            entries = {(int(r), int(c)): float(rows[r, c]) for r, c in zip(*np.nonzero(rows), strict=True)}
            changed = replace(block, weights=sparse(block.weights.name, *rows.shape, entries))
        blocks.append(changed)
    spaces = (*program.spaces, Space("lists.read", n_shared + n_own))
    return require_valid(Program("sparse", program.n_ctx, spaces, tuple(blocks)))


@pytest.mark.parametrize("seed", range(4))
def test_lists_of_one_sum_stand_in_its_line_and_others_in_their_section(seed: int, tmp_path: Path) -> None:
    program = own_lists(seed)
    text = written(tmp_path, program).text
    assert gap(tmp_path, program, seed) < 1e-12
    section = text[text.index("\nlists_lines = ") :].partition('"""\n')[2].partition('"""')[0]
    assert {int(line.split()[0]) for line in section.splitlines()} == set(range(6))
    assert "where look 0.0 looks for " in text
    assert " | against " in text
    names = run_file(tmp_path / "program.py")
    words = {word: at for at, word in enumerate(names["WORDS"])}
    block = next(block for block in program.blocks if block.name == "rules.0")
    assert isinstance(block, Fire)
    lists = next(block for block in program.blocks if isinstance(block, Lookup) and block.name == "lists")
    own = lists.table.dense()[:, 6:] @ block.conditions.dense()[:, 6:44].T  # [word, rule]
    found = np.zeros_like(own)
    for feature, pairs in names["rules_0"][0].items():
        if feature.startswith("word "):
            for rule, weight in pairs:
                found[words[feature.removeprefix("word ")], int(rule.partition("[")[2][:-1])] += weight
    assert np.array_equal(own, found)


def test_the_weightiest_section_comes_first(tmp_path: Path) -> None:
    """By nats where there are labels: lists 1.5, rules.0 0.75; then by numbers: moved.1 before moved.0."""
    text = written(tmp_path, induction(), LABELS).text
    at = [text.index(f"\n{name}_lines = ") for name in ("lists", "rules_0", "moved_1", "moved_0", "rules_1")]
    assert at == sorted(at)
    rules = text.index("1 first: "), text.index("0 a~then~b: a", text.index("rules_0_lines"))
    assert rules[0] < rules[1]


def test_labels_change_nothing_but_names(tmp_path: Path) -> None:
    read = tokens("abcabca").tolist()
    awkward = Labels({"rules.0": (Feature("> | -> ..."), Feature("..."))})
    answers = []
    for labels in (None, LABELS, awkward):
        written(tmp_path, induction(), labels)
        answers.append(looked_into(tmp_path / "program.py", read)[0])
    assert answers[0] == answers[1] == answers[2]


def floats(value: object) -> Iterator[float]:
    """Yield the numbers that a value holds, but for positions and numbers of words."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        yield from (number for pair in value.items() for part in pair for number in floats(part))
    elif isinstance(value, list | tuple):
        yield from (number for part in value for number in floats(part))


def test_there_is_no_number_in_it_that_the_program_lacks(tmp_path: Path) -> None:
    """Lists that are read and voted for are arranged both ways; all else is there once."""
    program = with_numbers(induction(), np.float64, 3)
    written(tmp_path, program)
    names = run_file(tmp_path / "program.py")
    for name in ("__builtins__", *(name for module in reasons.MODULES for name in vars(module) if name.isupper())):
        names.pop(name, None)  # bounds of explanations among them
    found = [number for value in names.values() for number in floats(value)]
    lists = next(block.table for block in program.blocks if isinstance(block, Lookup) and block.name == "lists")
    assert len(found) == program.n_entries + lists.n_entries
    assert set(found) <= {float(v) for table in program.tables().values() for v in table.values.flat}


def test_every_table_has_a_say(tmp_path: Path) -> None:
    """Changing any table changes what the file says, as it changes what the program says."""
    program, read = with_numbers(random_readable(3), np.float64, 5), tokens_for(random_readable(3))[0].tolist()
    written(tmp_path, program)
    own = np.array(run_file(tmp_path / "program.py")["log_probs"](read))
    said = 0
    for table in program.tables().values():
        louder = replace(table, values=table.values * 1.5)
        blocks = [
            replace(b, **{f.name: louder for f in fields(b) if getattr(b, f.name) == table}) for b in program.blocks
        ]
        changed = replace(program, blocks=tuple(blocks))
        expected = reference.log_probs(changed, read)
        written(tmp_path, changed)
        answers = np.array(run_file(tmp_path / "program.py")["log_probs"](read))
        assert np.abs(answers - expected).max() < 1e-9, table.name
        said += bool(np.abs(answers - own).max() > 0)
    assert said > len(program.tables()) / 3


def test_lines_lead_to_the_block_that_they_spell(tmp_path: Path) -> None:
    program = random_readable(4)
    file = written(tmp_path, program)
    lines = file.text.splitlines()
    assert file.origins[-1]["last"] == len(lines)
    for block in program.blocks:
        runs = [run for run in file.origins if (run["made_by"], run["block"]) == (block.origin.made_by, block.name)]
        own = [line for run in runs for line in lines[int(str(run["first"])) - 1 : int(str(run["last"]))]]
        assert sum("_lines = r" in line for line in own) >= bool(not isinstance(block, Vote))
        assert any(line.startswith("    ") for line in own)
    others = [run for run in file.origins if run["made_by"] == "emit"]
    assert not any("_lines = " in line for run in others for line in lines[run["first"] - 1 : run["last"]])  # type: ignore[operator]


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib\n"
        "from programs import emitted, random_readable\n"
        "print(hashlib.sha256(emitted(random_readable(1)).text.encode()).hexdigest())\n"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


def test_only_the_standard_library_is_imported(tmp_path: Path) -> None:
    module = ast.parse(written(tmp_path, random_readable(2)).text)
    modules = {alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in modules} <= sys.stdlib_module_names
    assert len(list(tables_of(random_readable(2).blocks[0]))) == 1


@st.composite
def random_conditions(draw: st.DrawFn) -> Condition:
    listed = st.lists(st.sampled_from(range(12)), min_size=1, max_size=3, unique=True).map(
        lambda found: tuple(Word(token, f"w{token}") for token in found)
    )
    terms = st.one_of(
        st.builds(WordAt, listed, st.integers(0, 3), st.booleans()),
        st.builds(WordEarlier, listed, st.sampled_from(("text", "sentence", "quote", 1, 3)), st.booleans()),
        st.builds(InQuotes, st.booleans()),
        st.builds(IntoSentence, st.integers(1, 4), st.booleans()),
        st.builds(Repeated, st.booleans()),
    )
    return Condition(tuple(draw(st.lists(st.lists(terms, min_size=1, max_size=3).map(tuple), max_size=3))))


@given(conditions=st.lists(random_conditions(), min_size=1, max_size=2), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_conditions_in_the_file_hold_where_they_are_said_to(
    conditions: list[Condition], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program, words = induction(), quoting_tokenizer()
    features = [Feature(f"r0.{at}:x", explanation=replace(HERE, condition=c)) for at, c in enumerate(conditions)]
    labels = Labels({"rules.0": (*features, *[Feature("r0.1")][: 2 - len(features)])})
    text = emit(program, words, Header("tiny"), "0" * 64, labels).text
    names: dict[str, Any] = {"__name__": "program", "__file__": "program.py"}
    exec(compile(text, "program.py", "exec", dont_inherit=True), names)
    read = np.random.default_rng(seed).integers(0, program.d_vocab, program.n_ctx).tolist()
    for at, condition in enumerate(conditions):
        for end in range(len(read)):
            found = names["holds"](f"r0.{at}", read[: end + 1])
            assert found == holds(condition, read, end, marks_of(words))
    with pytest.raises(ValueError, match=r"'r9\.9' has no condition"):
        names["holds"]("r9.9", read)
