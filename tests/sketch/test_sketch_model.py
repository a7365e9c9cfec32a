"""A sketch as arrays: its gradient, its votes, and that the written file says the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from englishroom.errors import ArtifactError
from englishroom.evaluate.talkers.sketch import SketchTalker
from englishroom.sketch.checkpoint import Growth, load, save
from englishroom.sketch.model import SketchVotes, expected_counts, loss, loss_and_gradient
from englishroom.sketch.rank import rank_gears
from englishroom.sketch.search import search
from englishroom.sketch.studio import Ask, Studio
from englishroom.sketch.votes import ExpectedCounts, grow, importance_of, prune, refit, round_votes
from englishroom.work import Kept
from tiny_sketch import TinyTalker, heard, studio


@pytest.fixture(scope="module")
def made() -> tuple[Studio, SketchVotes]:
    """Return a sketch of the tiny talker with a few hundred votes, rounded."""
    s = studio(Ask(None, 400, words=14, kinds=5))
    votes = s.start()
    tally = ExpectedCounts.of(s.fit, votes, s.usable)
    for _ in range(3):
        votes = refit(grow(votes, tally, s.costs, 60), s.fit, 5)
    return s, round_votes(votes, s.fit)


def test_the_gradient_is_that_of_the_loss(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    _, gradient = loss_and_gradient(votes, s.fit)
    numbers, free = votes.parameters(), np.flatnonzero(votes.free())
    for at in np.random.default_rng(0).choice(free, 12, replace=False):
        sides = [numbers.copy(), numbers.copy()]
        sides[0][at] += 0.05
        sides[1][at] -= 0.05
        up, down = (loss(votes.with_parameters(side), s.fit) for side in sides)
        assert (up - down) / 0.1 == pytest.approx(gradient[at], rel=0.05, abs=0.3)


def test_growing_and_refitting_lower_the_loss_and_pruning_saves(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    assert loss(votes, s.fit) < loss(s.start(), s.fit)
    cost = s.costs.of_entries(votes)
    fewer = prune(votes, s.fit, s.costs, 0.3 * cost.sum())
    assert len(fewer.weights) < len(votes.weights)
    kept = set(zip(fewer.keys, fewer.outputs, strict=True))
    at = [i for i, pair in enumerate(zip(votes.keys, votes.outputs, strict=True)) if pair not in kept]
    worth = importance_of(votes, s.fit)[votes.d_vocab : votes.d_vocab + len(votes.weights)] / cost
    assert worth[at].max() <= np.delete(worth, at).min()


def test_votes_are_whole_half_nats(made: tuple[Studio, SketchVotes]) -> None:
    _, votes = made
    assert (votes.parameters() * 2 % 1 == 0).all()
    assert (votes.weights != 0).all()


def test_expected_counts_are_sums_of_what_the_talker_says(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    counts = expected_counts(votes, s.fit)
    np.testing.assert_allclose(counts[: votes.d_vocab], s.fit.probabilities.sum(0), rtol=1e-3, atol=1e-3)
    key, output = votes.keys[0], votes.outputs[0]
    starts, seen = s.fit.readings.starts, s.fit.readings.seen
    where = [i for i in range(len(starts) - 1) if key in seen[starts[i] : starts[i + 1]]]
    p = s.fit.probabilities[where]
    said = p[:, output].sum() if output < votes.d_vocab else p[:, votes.kind == output - votes.d_vocab].sum()
    assert counts[votes.d_vocab] == pytest.approx(said, rel=1e-3)


def test_the_file_says_what_was_fitted(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    talker = TinyTalker()
    running = SketchTalker(Path("sketch.py"), s.text(votes, ["A sketch."]), talker.tokenizer, talker.n_ctx)
    texts = heard(talker, 200, 5)
    expected = s.answers(votes, s.sample(texts, "reading"))
    for window, counted in zip(texts.windows, texts.counted, strict=True):
        for answer in running.log_probs(np.array([window]))[0, counted:]:
            np.testing.assert_allclose(answer, next(expected), atol=1e-9)
            assert np.exp(answer).sum() == pytest.approx(1, abs=1e-12)
    running.close()


def test_reading_on_gives_what_reading_at_once_gives(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    talker = TinyTalker()
    running = SketchTalker(Path("sketch.py"), s.text(votes), talker.tokenizer, talker.n_ctx)
    tokens = np.array(heard(talker, 50, 6).windows[0])[None]
    reading = running.stream()
    parts = [reading.extend(tokens[:, :3]), reading.extend(tokens[:, 3:])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), running.log_probs(tokens))


def test_the_file_talks_under_a_bare_python(made: tuple[Studio, SketchVotes], tmp_path: Path) -> None:
    s, votes = made
    path = tmp_path / "sketch.py"
    path.write_text(s.text(votes, ["A sketch."]), encoding="utf-8")

    def told(*arguments: str) -> str:
        command = [sys.executable, "-I", "-S", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout

    first = told("Once upon a time", "--seed", "1")
    assert first.startswith("Once upon a time")
    assert len(first) > len("Once upon a time\n")
    assert first == told("Once upon a time", "--seed", "1")
    assert told("--temperature", "0", "--max-words", "5") == told(
        "--temperature", "0", "--max-words", "5", "--seed", "3"
    )
    assert told("Lily", "--max-words", "0") == "Lily\n"


def test_a_sketch_that_stops_says_so() -> None:
    talker = TinyTalker()
    running = SketchTalker(Path("sketch.py"), "raise SystemExit('broken')", talker.tokenizer, talker.n_ctx)
    with pytest.raises(ArtifactError, match=r"sketch.py: stopped with status 1 \(broken\); sketch the talker again"):
        running.log_probs(np.array([[0, 1]]))


def test_a_search_stays_within_its_lines() -> None:
    s = studio(Ask(None, 190, words=14, kinds=5))
    found = search(s)
    assert found.kept
    assert s.text(found.votes, [""] * 10).count("\n") <= 190
    assert found.path[-1].lines <= 190


def test_the_shortest_sketch_that_keeps_a_share() -> None:
    s = studio(Ask(0.15, 400, words=14, kinds=5))
    found = search(s)
    assert found.kept
    assert s.judge(found.votes, s.choose).share >= 0.15
    assert found.path[-1].share < 0.15 or found.path[-1].lines == found.path[0].lines
    hopeless = studio(Ask(0.99, 185, words=14, kinds=5))
    assert not search(hopeless).kept


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    s, grown = studio(Ask(None, 190, words=14, kinds=5)), []
    whole = search(s, grown.append)
    assert len(grown) > 1
    for done, growth in enumerate(grown, 1):  # the last of them included, after which growing ends
        file = Kept(tmp_path / "growing.npz", {"run": 1})
        save(file, growth)
        assert load(replace(file, identity={"run": 2}), s.start()) is None
        kept = load(file, s.start())
        assert kept is not None
        resumed: list[Growth] = []
        again = search(s, resumed.append, kept)
        assert again.path == whole.path
        assert (again.votes.weights == whole.votes.weights).all()
        assert len(resumed) == len(grown) - done
    file.path.write_bytes(b"half of it")
    with pytest.raises(ArtifactError, match=r"growing.npz: damaged"):
        load(file, s.start())


def test_the_share_is_that_of_held_out_text(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    p = s.choose.probabilities.astype(np.float64)
    q = np.stack(list(s.answers(votes, s.choose)))
    kl = (p * (np.log(np.maximum(p, 1e-300)) - q)).sum() / len(p)
    unigram = s.fit.probabilities.mean(0, dtype=np.float64)
    base = (p * (np.log(np.maximum(p, 1e-300)) - np.log(unigram))).sum() / len(p)
    judged = s.judge(votes, s.choose)
    assert judged.kl == pytest.approx(kl, abs=1e-4)
    assert judged.share == pytest.approx(1 - kl / base, abs=1e-3)


def test_ranked_gears_add_up(made: tuple[Studio, SketchVotes]) -> None:
    s, votes = made
    rows = rank_gears(votes, s, s.choose)
    judged = s.judge(votes, s.choose)
    assert rows[0].gear == "words"
    assert sum(row.adds_nats for row in rows) == pytest.approx(judged.unigram_kl - judged.kl, abs=1e-6)
    assert {row.gear for row in rows[1:]} <= set(s.ask.gears)
    assert rows[1].left_out_nats is not None
    assert rows[1].left_out_nats > 0
