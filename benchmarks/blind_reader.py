"""Ask a reader when features of a readable program are on, from their lines alone, and score what the reader says.

    python benchmarks/blind_reader.py ask ROOM --text TEXT --out FOLDER [--features 32] [--documents 200] [--seed 0]
    python benchmarks/blind_reader.py score FOLDER/answers.txt

1. Run the program of the room over the first documents of a text that it was not fitted on.
2. Draw features that are on often enough, as many of each layer's moved features as of its rules.
3. For each draw 8 places: 4 where it is on; 2 hard ones where it is off although the word here is that of one of the
   4; 2 others where it is off. Where there are too few hard ones, others take their places.
4. Write ``questions.md``, which is all that the reader gets: every feature as ``program.py`` prints it, and its places
   in no order; and ``key.json``, which the reader must not see.
5. The reader writes ``answers.txt`` beside them, a line a feature: ``3: + - + + - - - +``.
6. ``score`` counts right answers, beside what one gets who always says that it is on, and beside the same answers
   given to other features of the same kind (the mean over all of these), which is what knowing no line brings.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.texts import Text
from englishroom.emit.readable import ReadableEmitter
from englishroom.errors import ArtifactError, ConfigError, EnglishRoomError, one_line
from englishroom.inside.activations import features_on
from englishroom.ir.labels import load_labels
from englishroom.ir.program import Fire, Looks
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import escaped
from englishroom.names import PROGRAM, TABLES
from englishroom.pipeline.labelling import rows_of
from englishroom.pipeline.texts import open_again
from englishroom.store import read_manifest

ON, HARD, OFF = "on", "off, the same word here", "off, others"
N_ON, N_HARD, N_PLACES = 4, 2, 8
OFTEN = 5e-4
"""Share of all places at which a feature must be on to be asked for."""
LONGEST = 60
"""Words of the vocabulary that a place shows."""
WIDTH = 120
QUESTIONS, KEY, ANSWERS = "questions.md", "key.json", "answers.txt"
INSTRUCTION = """\
# Is it on?

A program reads a text word by word. What it knows are features; each is on at some places of a text, and off at the
others. Below stand {n} of them, one after the other, as the program's own file prints them: first, behind #, what was
seen of the feature on another text, and then the line that decides when it is on.

Under each feature stand {places} places in texts that the program was not fitted on. Each ends with the word here, in
brackets. Long and rare words are several words to the program, and marks are words, too; so the word here may be the
beginning of a longer one, for what came next is not shown. Two dots say that more stood before, `\\n` is a line end,
and `{start}` the beginning of a text. At some of the places the feature is on, at some it is off, in no order.

Say for every place whether the feature is on at the word in brackets: `+` where it is on, `-` where it is off. Guess
where you do not know. Write one line for each feature: its number, a colon, and {places} marks in the order of the
places, as

```text
3: + - + + - - - +
```

This is how the program's file says that its lines are read:

```text
{guide}
```
"""


class HeldOut:
    """A text that the program was not fitted on, its documents end to end.

    Attributes:
        within: of each position, which of its document it is; 0 is the start token.
    """

    def __init__(self, rows: Sequence[NDArray[np.integer]], tokenizer: Tokenizer) -> None:
        self.tokens = np.concatenate(rows)
        self.within = np.concatenate([np.arange(len(row)) for row in rows])
        self._pieces = tokenizer.pieces

    def shown(self, at: int) -> str:
        """Show a position and what stands before it, the word here in brackets."""
        first = max(at - int(self.within[at]), at - LONGEST + 1)
        before, here = self._text(first, at), self._text(at, at + 1)
        word = here.lstrip(" ")
        return one_line(f"{'..' if self.within[first] else ''}{before}{here[: len(here) - len(word)]}[{word}]")

    def _text(self, low: int, high: int) -> str:
        return b"".join(self._pieces[token] for token in self.tokens[low:high].tolist()).decode("utf-8", "replace")

    def draw(self, on: NDArray[np.integer], rng: np.random.Generator) -> list[tuple[str, str]]:
        """Draw the places of a feature, no two of which look alike; fewer than it takes where there are no more.

        Args:
            on: the positions at which it is on.

        Returns:
            what is shown, and which kind of place it is, in no order.
        """
        drawn: dict[str, tuple[int, str]] = {}

        def take(count: int, kind: str, positions: NDArray[np.integer]) -> None:
            for at in rng.permutation(positions[self.within[positions] > 0]).tolist():
                if len(drawn) >= count:
                    return
                drawn.setdefault(self.shown(at), (at, kind))

        off = np.setdiff1d(np.arange(len(self.tokens)), on)
        take(N_ON, ON, on)
        words = self.tokens[[at for at, _ in drawn.values()]]
        for word in np.tile(rng.permutation(words), N_HARD):
            take(min(len(drawn) + 1, N_ON + N_HARD), HARD, off[self.tokens[off] == word])
        take(N_PLACES, OFF, off)
        places = [(shown, kind) for shown, (_, kind) in drawn.items()]
        return [places[at] for at in rng.permutation(len(places))]


def ask(given: argparse.Namespace) -> None:
    """Write the questions and their key."""
    if min(given.features, given.documents) < 1:
        raise ConfigError("--features and --documents must be 1 or more")
    if (given.out / ANSWERS).exists():
        raise ConfigError(f"{given.out / ANSWERS}: answers stand here already; give --out another folder")
    program, tokenizer = load_program(given.room)
    if program.level != "sparse" or not program.is_readable:
        raise ConfigError(f"{given.room}: its program is not readable; give a room of decompile --level readable")
    labels = load_labels(given.room, program)
    if not labels.features:
        raise ConfigError(f"{given.room}: its features have no labels; give englishroom label {given.room} first")
    text = open_held_out(given, tokenizer)
    rows = rows_of(text, program, tokenizer, given.documents)
    held_out, on = HeldOut(rows, tokenizer), features_on(program, rows)
    kinds = {b.name: kind_of(b) for b in program.blocks if isinstance(b, Looks | Fire)}
    rng, source = np.random.default_rng(given.seed), (given.room / PROGRAM).read_text(encoding="utf-8")
    asked: list[dict[str, Any]] = []
    for number, (variable, kind) in enumerate(kinds.items()):
        share = (given.features + number) // len(kinds)  # these add up to all features
        often = np.diff(on[variable].indptr) >= OFTEN * len(held_out.tokens)
        usable = drawable(rng.permutation(np.flatnonzero(often)).tolist(), held_out, on[variable], rng)
        for _, (index, places) in zip(range(share), usable, strict=False):
            name = labels.of(variable, index)
            asked.append({"feature": name, "kind": kind, "lines": lines_of(source, name, given.room), "places": places})
    if not asked:
        raise ConfigError(f"{text.name}: no feature is on at {N_ON} of its places and at {OFTEN:.2%}; give more text")
    guide = "\n".join(ReadableEmitter.GUIDE[:-2])  # the last line says how to ask the program, not how to read it
    start = tokenizer.pieces[tokenizer.start_id].decode("utf-8", "replace")
    questions = [INSTRUCTION.format(n=len(asked), places=N_PLACES, guide=guide, start=start)]
    questions += [question(number, one) for number, one in enumerate(asked, 1)]
    key = {
        "room": str(given.room),
        "tables_sha256": read_manifest(given.room).files[TABLES],
        "text": text.about(),
        "seed": given.seed,
        "features": [
            {"feature": one["feature"], "kind": one["kind"], "places": [kind for _, kind in one["places"]]}
            for one in asked
        ],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / QUESTIONS).write_text("\n".join(questions), encoding="utf-8")
    (given.out / KEY).write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print(f"{given.out / QUESTIONS}: {len(asked)} features, {N_PLACES} places each; answers go to {ANSWERS} beside it")


def open_held_out(given: argparse.Namespace, tokenizer: Tokenizer) -> Text:
    """Open the first documents of the text, with line ends as the room read those that it is judged on."""
    reported = read_manifest(given.room).evidence.get("texts", {}).get("report", {})
    about = {"name": given.text, "blank_lines": reported.get("blank_lines")}
    return open_again(about, tokenizer, lambda *_: None, given.documents)


def kind_of(block: Looks | Fire) -> str:
    """Say which kind of feature a block has."""
    return f"{'moved features' if isinstance(block, Looks) else 'rules'} of layer {block.name.rpartition('.')[2]}"


def drawable(
    features: Sequence[int], held_out: HeldOut, on: Any, rng: np.random.Generator
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Yield features of which there are places enough, with these.

    Args:
        on: how strongly all features are on, [pos, feature], stored by columns.
    """
    for index in features:
        places = held_out.draw(on.indices[on.indptr[index] : on.indptr[index + 1]], rng)
        if len(places) == N_PLACES and sum(kind == ON for _, kind in places) == N_ON:
            yield index, places


def lines_of(source: str, name: str, room: Path) -> str:
    """Return what the file of a program says of a feature: its remarks, and its line."""
    found = re.search(rf"^# {re.escape(escaped(name))}\n(?:#   .*\n)+\d+ .*\n(?:    .*\n)*", source, re.MULTILINE)
    if found is None:
        raise ArtifactError(f"{room / PROGRAM}: has no line with remarks on {name}; give englishroom label {room}")
    return found[0]


def question(number: int, asked: dict[str, Any]) -> str:
    """Lay out a feature and its places."""
    places = [
        textwrap.fill(shown, WIDTH, initial_indent=f"{at}. ", subsequent_indent="   ", break_long_words=False)
        for at, (shown, _) in enumerate(asked["places"], 1)
    ]
    lines = "\n".join(places)
    return f"## {number}\n\n```text\n{asked['lines']}```\n\nIs it on?\n\n```text\n{lines}\n```\n"


def score(given: argparse.Namespace) -> None:
    """Print how many answers are right, over all, by kind of feature and by kind of place."""
    features = read_key(given.answers.with_name(KEY))
    said = read_answers(given.answers, len(features))
    on = np.array([[kind == ON for kind in one["places"]] for one in features])
    kind_of_feature = np.array([[one["kind"]] * N_PLACES for one in features])
    kind_of_place = np.array([one["places"] for one in features])
    shuffled = np.full(on.shape, np.nan)
    for at, own in enumerate(kind_of_feature[:, 0]):
        others = (kind_of_feature[:, 0] == own) & (np.arange(len(features)) != at)
        if others.any():
            shuffled[at] = (said[others] == on[at]).mean(0)
    parts = {"all": np.ones(on.shape, bool)}
    parts |= {kind: kind_of_feature == kind for kind in dict.fromkeys(kind_of_feature[:, 0].tolist())}
    parts |= {kind: kind_of_place == kind for kind in (ON, HARD, OFF)}
    print("| places | right | of | 95 % of such features | always on | answers to other features |")
    print("|" + " -- |" * 6)
    for name, part in parts.items():
        if part.any():
            right = (said == on) & part
            each = right.sum(1)[part.any(1)] / part.sum(1)[part.any(1)]
            about = f"± {1.96 * each.std(ddof=1) / len(each) ** 0.5:.1%}" if len(each) > 1 else ""
            known = part & ~np.isnan(shuffled)
            null = f"{shuffled[known].mean():.1%}" if known.any() else ""
            share = right.sum() / part.sum()
            print(f"| {name} | {share:.1%} | {part.sum()} | {about} | {on[part].mean():.1%} | {null} |")


def read_key(path: Path) -> list[dict[str, Any]]:
    """Read which kind of feature and of places each question is about."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["features"]
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); answers stand beside what ask wrote") from None
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{path}: is not what ask writes; ask again") from None


def read_answers(path: Path, n_features: int) -> NDArray[np.bool_]:
    """Read what a reader said, [feature, place].

    Raises:
        EnglishRoomError: the file cannot be read, a line is of another form, or a feature has no line or two.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); give a file of UTF-8 text") from None
    form = f'a number from 1 to {n_features}, a colon and {N_PLACES} marks + or -, such as "3: + - + + - - - +"'
    said: dict[int, list[bool]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(rf"\s*(\d{{1,9}})\s*:((?:\s*[+-]){{{N_PLACES}}})\s*", line)
        if found is None or not 1 <= int(found[1]) <= n_features:
            raise ConfigError(f"{path}, line {number}: found {line!r}, expected {form}")
        if int(found[1]) in said:
            raise ConfigError(f"{path}, line {number}: answers {found[1]} a second time, expected one line a feature")
        said[int(found[1])] = [mark == "+" for mark in found[2] if not mark.isspace()]
    if missing := [str(number) for number in range(1, n_features + 1) if number not in said]:
        raise ConfigError(f"{path}: no line for {', '.join(missing)}, expected one for each of {n_features} features")
    return np.array([said[number] for number in range(1, n_features + 1)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    asking = commands.add_parser("ask", help="write questions for a reader, and their key")
    asking.add_argument("room", type=Path)
    asking.add_argument("--text", required=True, help="that the room was not fitted on")
    asking.add_argument("--out", type=Path, required=True, help=f"folder for {QUESTIONS} and {KEY}")
    asking.add_argument("--features", type=int, default=32)
    asking.add_argument("--documents", type=int, default=200, help="of the text, the first ones")
    asking.add_argument("--seed", type=int, default=0)
    asking.set_defaults(run=ask)
    scoring = commands.add_parser("score", help="score the answers of a reader")
    scoring.add_argument("answers", type=Path, help=f"beside {KEY}")
    scoring.set_defaults(run=score)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except EnglishRoomError as error:
        raise SystemExit(f"blind_reader: {error}") from None


if __name__ == "__main__":
    main()
