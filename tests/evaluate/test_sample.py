"""Sampling: the talker's own distribution, the same text for the same seed, files that survive a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from englishroom.cli import main
from englishroom.data.corpus import document_marks, text_hash
from englishroom.data.documents import read_documents
from englishroom.data.texts import PARTS, part_file, ready_folder
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.evaluate.config import SampleOptions, SampleTextConfig
from englishroom.evaluate.sample import choose_tokens, random_stream, samples
from englishroom.evaluate.sample_file import PARTS_RECORD, SampledModel, write_parts, write_sample
from englishroom.evaluate.talk import choose
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.lower.lift import lift
from englishroom.pipeline import open_target
from tiny import CASES, make_gpt2, tensors_of, write_tensors

SOURCE = SampledModel("tiny", "0" * 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random GPT-2 that ends about one document in ten early: its start token is made likelier."""
    folder = make_gpt2(tmp_path_factory.mktemp("model") / "tiny", n_positions=24, tie_word_embeddings=False)
    tensors = tensors_of(folder)
    tensors["lm_head.weight"] *= 0.3
    tensors["lm_head.weight"][0] *= 4
    write_tensors(folder, tensors)
    return folder


@pytest.fixture(scope="module")
def talker(model: Path) -> TargetTalker:
    return TargetTalker(*open_target(str(model)))


def settings(
    documents: int | None = None, parts: tuple[int, int, int] | None = None, unfinished: Any = "keep", **options: Any
) -> SampleTextConfig:
    return SampleTextConfig(documents, parts, unfinished, drawing=SampleOptions(**options))


def told(talker: Any, count: int, batch: int | None = None, **options: Any) -> list[tuple[tuple[int, ...], bool]]:
    drawn = samples(talker, range(count), SampleOptions(**options), batch)
    return [(sample.tokens, sample.finished) for sample in drawn]


def test_a_seed_gives_the_same_documents_in_any_batch(talker) -> None:
    expected = told(talker, 30, seed=3)
    assert len({tokens for tokens, _ in expected}) > 25
    assert {finished for _, finished in expected} == {True, False}
    for batch in (1, 7, 29):
        assert told(talker, 30, batch, seed=3) == expected
    assert told(talker, 12, seed=3) == expected[:12], "how many are asked for changes none of them"
    later = samples(talker, range(18, 30), SampleOptions(seed=3))
    assert [(sample.tokens, sample.finished) for sample in later] == expected[18:]
    assert told(talker, 30, seed=4) != expected


@pytest.mark.parametrize("name", ["gpt_neo-local", "llama-grouped-tied", "llama2c-grouped-untied"])
def test_families_with_windows_rotations_and_shared_keys(name: str, tmp_path: Path) -> None:
    talker = TargetTalker(*open_target(str(CASES[name].write(tmp_path / "model"))))
    assert told(talker, 12, 12) == told(talker, 12, 5)


def test_a_program_tells_what_its_target_tells(model: Path, talker) -> None:
    target, tokenizer = open_target(str(model))
    program = ProgramTalker("program", lift(target)[0], tokenizer, np.float64)
    assert told(program, 12, seed=1) == told(talker, 12, seed=1)
    assert told(program, 12, 5, seed=1) == told(talker, 12, seed=1)


def test_documents_end_at_a_stop_token_or_with_the_context(talker) -> None:
    stops = set(talker.tokenizer.stop_ids)
    for tokens, finished in told(talker, 60):
        assert not stops & set(tokens)
        assert len(tokens) < talker.n_ctx if finished else len(tokens) == talker.n_ctx
    short = told(talker, 60, max_tokens=3)
    for (whole, finished), (cut, ended) in zip(told(talker, 60), short, strict=True):
        assert cut == whole[:3]
        assert ended == (finished and len(whole) < 3)


def test_texts_are_the_tokens_decoded(talker) -> None:
    texts = [sample.text for sample in samples(talker, range(5), SampleOptions(seed=2, max_tokens=4))]
    assert texts == [talker.tokenizer.decode(tokens) for tokens, _ in told(talker, 5, seed=2, max_tokens=4)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_are_as_frequent_as_they_are_probable(talker, temperature: float) -> None:
    """Compare counts of the first token, and of the second one after any first, with their probabilities.

    The seed is fixed and a fault gives far smaller p-values than bad luck, so the limit is low.
    """

    def shares(tokens: np.ndarray, temperature: float = temperature) -> np.ndarray:
        powers = np.exp(talker.log_probs(tokens)[:, -1].astype(np.float64) / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    count, d_vocab = 6000, len(talker.tokenizer.pieces)
    start, stops = talker.tokenizer.start_id, list(talker.tokenizer.stop_ids)
    begun = np.array([[start, token] for token in range(d_vocab)])
    first, after = shares(begun[:1, :1])[0], shares(begun)
    other = shares(begun[:1, :1], 1.6 - temperature)[0], shares(begun, 1.6 - temperature)
    for begins in (after, other[1]):
        begins[stops] = 0  # the document has ended
    drawn = told(talker, count, seed=11, temperature=temperature, max_tokens=2)
    for place, (expected, wrong) in enumerate(((first, other[0]), (first @ after, other[0] @ other[1]))):
        tokens = [tokens[place] for tokens, _ in drawn if len(tokens) > place]
        seen = np.bincount(tokens, minlength=d_vocab).astype(float)
        ended = sum(finished and len(tokens) == place for tokens, finished in drawn)
        assert stats.binomtest(ended, count, expected[stops].sum()).pvalue > 1e-6
        seen, expected, wrong = (np.delete(values, stops) for values in (seen, expected, wrong))
        often = count * expected >= 8
        seen = np.append(seen[often], seen[~often].sum())

        def p_value(shares: np.ndarray, often=often, seen=seen) -> float:
            pooled = np.append(shares[often], shares[~often].sum()) / shares.sum()
            return stats.chisquare(seen, pooled * seen.sum()).pvalue

        assert p_value(expected) > 1e-6
        assert p_value(wrong) < 1e-12, "the test tells this temperature from another"


def test_choice_is_that_of_talking() -> None:
    rng = np.random.default_rng(0)
    scores, chances = rng.normal(0, 3, (200, 50)), rng.random(200)
    chances[:2] = 0.0, np.nextafter(1.0, 0.0)
    for temperature in (1.0, 0.3, 2.5, 1e-3):
        expected = [choose(row, chance, temperature, None) for row, chance in zip(scores, chances, strict=True)]
        assert choose_tokens(scores, chances, temperature).tolist() == expected
    assert choose_tokens(scores, chances, 0.0).tolist() == scores.argmax(axis=1).tolist()


def test_random_streams_differ_by_seed_and_number_and_grow_at_the_end() -> None:
    assert random_stream(1, 2, 9)[:4].tolist() == random_stream(1, 2, 4).tolist()
    streams = [random_stream(seed, number, 1)[0] for seed in (0, 1, 2**32, 2**32 + 1) for number in range(50)]
    assert len(set(streams)) == len(streams)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "--seed is -1, expected 0 or more"),
        ({"temperature": -0.5}, "--temperature is -0.5, expected 0 or more"),
        ({"temperature": float("nan")}, "--temperature is nan"),
        ({"max_tokens": 0}, "--max-tokens is 0, expected 1 or more"),
    ],
)
def test_options_out_of_range(talker, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        told(talker, 1, **options)


def test_a_batch_below_one(talker) -> None:
    with pytest.raises(ConfigError, match="--batch is 0, expected 1 or more"):
        told(talker, 1, 0)


def test_a_file_and_its_record(talker, tmp_path: Path) -> None:
    out = tmp_path / "new" / "text.txt.xz"
    record = write_sample(talker, SOURCE, settings(40, seed=5), out)
    documents = read_documents(out, "keep")
    assert record == json.loads((tmp_path / "new" / "text.txt.xz.json").read_text())
    assert record["text_sha256"] == text_hash(documents)
    assert record["bytes"] == sum(len(document.encode()) for document in documents)
    assert record["model"] == {"name": "tiny", "sha256": "0" * 64}
    assert (record["seed"], record["temperature"], record["sampled_documents"]) == (5, 1.0, 40)
    assert record["documents"] == len(documents) == 40 - record["dropped_empty"]
    expected = told(talker, 40, seed=5)
    assert record["sampled_tokens"] == sum(len(tokens) + finished for tokens, finished in expected)
    assert record["sampled_unfinished"] == sum(not finished for _, finished in expected) > 0
    assert len(record["unfinished"].split()) == record["sampled_unfinished"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["text.txt.xz", "text.txt.xz.json"]

    again = write_sample(talker, SOURCE, settings(40, seed=5), out)  # a file of ours is replaced
    assert again == record


def test_unfinished_documents_can_be_dropped_and_are_counted(talker, tmp_path: Path) -> None:
    both = [
        write_sample(talker, SOURCE, settings(40, unfinished=cut), tmp_path / f"{cut}.txt") for cut in ("keep", "drop")
    ]
    kept, dropped = ([*read_documents(tmp_path / f"{cut}.txt", "keep")] for cut in ("keep", "drop"))
    cut = [int(number) for number in both[0]["unfinished"].split()]
    assert dropped == [document for i, document in enumerate(kept) if i not in cut]
    assert both[1]["dropped_unfinished"] == both[0]["sampled_unfinished"] == len(cut)
    assert both[1]["unfinished"] == ""


def stop_after(count: int) -> Callable[[str, int, int], None]:
    def progress(_step: str, done: int, _total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def test_a_killed_run_goes_on_to_the_same_file(talker, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.txt", tmp_path / "parts.txt"
    write_sample(talker, SOURCE, settings(50), whole)
    with pytest.raises(KeyboardInterrupt):
        write_sample(talker, SOURCE, settings(50), parts, progress=stop_after(20))
    assert not parts.exists()
    part = tmp_path / "parts.txt.part"
    assert len(part.read_bytes().splitlines()) == 21
    part.write_bytes(part.read_bytes()[:-9])  # killed in the middle of a line

    seen = []
    write_sample(talker, SOURCE, settings(50), parts, progress=lambda _step, done, _total: seen.append(done))
    assert seen == list(range(19, 51))
    assert parts.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_a_run_of_other_settings_a_damaged_one_and_one_under_way_are_refused(talker, tmp_path: Path) -> None:
    out, part = tmp_path / "text.txt", tmp_path / "text.txt.part"
    with pytest.raises(KeyboardInterrupt):
        write_sample(talker, SOURCE, settings(9), out, progress=stop_after(5))
    for source, config in ((SOURCE, settings(9, seed=1)), (SampledModel("tiny", "1" * 64), settings(9))):
        with pytest.raises(ConfigError, match=r"text.txt.part: an unfinished sample of another model, seed or sett"):
            write_sample(talker, source, config, out)
    with locked(out), pytest.raises(ConfigError, match=r"text.txt: another englishroom is writing there"):
        write_sample(talker, SOURCE, settings(9), out)
    part.write_bytes(part.read_bytes() + b'{"text": 1\n')
    with pytest.raises(ConfigError, match=r"text.txt.part: damaged; delete it to start again"):
        write_sample(talker, SOURCE, settings(9), out)


def test_places_that_hold_other_things(talker, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("diary")
    (tmp_path / "precious.txt.part").touch()
    for out, said in (
        (precious, "is there already, and not written by englishroom sample"),
        (tmp_path / "text.md", "expected a name that ends in .txt or .xz"),
        (tmp_path / "text", "expected a name that ends in .txt or .xz"),
    ):
        with pytest.raises(ConfigError, match=said):
            write_sample(talker, SOURCE, settings(3), out)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        write_sample(talker, SOURCE, settings(3), tmp_path / "folder.txt")
    with pytest.raises(ConfigError, match="is a file, expected a folder"):
        write_parts(talker, SOURCE, settings(parts=(3, 3, 3)), precious)
    (tmp_path / "choose.txt.xz").write_text("precious")
    with pytest.raises(ConfigError, match=r"choose.txt.xz: is there already"):
        write_parts(talker, SOURCE, settings(parts=(3, 3, 3)), tmp_path)
    assert precious.read_text() == "diary"
    with pytest.raises(ConfigError, match="--documents is 0, expected 1 or more"):
        write_sample(talker, SOURCE, settings(0), tmp_path / "new.txt")
    with pytest.raises(ConfigError, match="--parts is 3 0 3, expected 1 or more"):
        write_parts(talker, SOURCE, settings(parts=(3, 0, 3)), tmp_path / "new")


def test_parts_share_no_document_and_add_up(talker, tmp_path: Path) -> None:
    config = settings(parts=(60, 30, 40), seed=7, max_tokens=2, temperature=0.7)  # few different documents
    record = write_parts(talker, SOURCE, config, tmp_path / "corpus")
    assert record == json.loads((tmp_path / "corpus" / PARTS_RECORD).read_text())
    texts = [read_documents(part_file(tmp_path / "corpus", part), "keep") for part in PARTS]
    marks = [document_marks(documents) for documents in texts]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert len(np.intersect1d(marks[i], marks[j])) == 0
    collided = 0
    for i, (part, size) in enumerate(zip(PARTS, (60, 30, 40), strict=True)):
        counts = record["parts"][part]
        assert counts["seed"] == 7 + i
        assert counts["text_sha256"] == text_hash(texts[i])
        collided += counts["dropped_in_earlier_part"]
        assert counts["documents"] + counts["dropped_in_earlier_part"] + counts["dropped_empty"] == size
    assert record["parts"]["fit"]["dropped_in_earlier_part"] == 0 < collided
    names = sorted(path.name for path in (tmp_path / "corpus").iterdir())
    assert names == ["choose.txt.xz", "fit.txt.xz", "parts.json", "report.txt.xz"]
    assert write_parts(talker, SOURCE, config, tmp_path / "corpus") == record


def test_killed_parts_go_on(talker, tmp_path: Path) -> None:
    sizes = (9, 30, 9)
    whole = write_parts(talker, SOURCE, settings(parts=sizes), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        write_parts(talker, SOURCE, settings(parts=sizes), tmp_path / "killed", progress=stop_after(20))
    assert write_parts(talker, SOURCE, settings(parts=sizes), tmp_path / "killed") == whole


def test_parts_that_cannot_differ_and_samples_without_text(talker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the 5 documents sampled for 'choose' can be used"):
        write_parts(talker, SOURCE, settings(parts=(5, 5, 5), temperature=0.0), tmp_path)
    with pytest.raises(ConfigError, match="tiny: none of 2 sampled documents has text"):
        write_sample(EndsAtOnce(talker), SOURCE, settings(2), tmp_path / "empty.txt")


class EndsAtOnce:
    """A talker that has nothing to say."""

    def __init__(self, talker: TargetTalker) -> None:
        self.name, self.tokenizer, self.n_ctx = "ends", talker.tokenizer, talker.n_ctx

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = np.full((*tokens.shape, len(self.tokenizer.pieces)), -np.inf)
        answer[..., self.tokenizer.stop_ids[0]] = 0
        return answer

    def stream(self) -> Any:
        return self

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        return self.log_probs(tokens)


def test_from_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "text.txt"
    assert main(["sample", str(model), "--documents", "20", "--seed", "2", "--out", str(out), "--no-check"]) == 0
    printed = capsys.readouterr().out
    documents = read_documents(out, "keep")
    assert printed.startswith(f"wrote {out}: {len(documents)} documents, ")
    assert "of 20 sampled were cut before their end" in printed
    record = json.loads((tmp_path / "text.txt.json").read_text())
    assert record["model"] == {"name": "tiny", "sha256": open_target(str(model))[0].sha256}

    folder = tmp_path / "corpus"
    parts = ["sample", str(model), "--parts", "8", "3", "4", "--out", str(folder), "--no-check"]
    assert main(parts) == 0
    assert f"wrote {folder / PARTS_RECORD}" in capsys.readouterr().out
    assert main([*parts, "--documents", "5"]) == 1
    assert "--parts says how many documents each part has" in capsys.readouterr().err


def test_a_room_is_named_by_its_manifest(model: Path, tmp_path: Path) -> None:
    room, out = tmp_path / "room", tmp_path / "text.txt"
    assert main(["decompile", str(model), "--level", "exact", "--out", str(room), "--no-check"]) == 0
    assert main(["sample", str(room), "--documents", "3", "--out", str(out)]) == 0
    record = json.loads((tmp_path / "text.txt.json").read_text())
    assert record["model"]["sha256"] == json.loads((room / "manifest.json").read_text())["sha256"]


def test_the_ready_corpus_is_small_disjoint_and_as_recorded() -> None:
    if not (ready_folder() / PARTS_RECORD).exists():
        pytest.skip("this tree has no ready corpus yet; docs/reference/texts.md says how to make it")
    record = json.loads((ready_folder() / PARTS_RECORD).read_text())
    texts = {part: read_documents(part_file(ready_folder(), part)) for part in PARTS}
    for part, documents in texts.items():
        assert record["parts"][part]["text_sha256"] == text_hash(documents)
    assert sum(path.stat().st_size for path in ready_folder().iterdir()) < 1_000_000
    marks = [document_marks(documents) for documents in texts.values()]
    assert [len(np.intersect1d(marks[i], marks[j])) for i, j in ((0, 1), (0, 2), (1, 2))] == [0, 0, 0]
