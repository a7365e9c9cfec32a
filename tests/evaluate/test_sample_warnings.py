"""Warnings about samples that a model was not trained to make, and how its samples are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from englishroom.data.documents import read_documents
from englishroom.evaluate.config import SampleOptions, SampleTextConfig
from englishroom.evaluate.sample_file import SampledModel, write_sample
from englishroom.evaluate.sample_warnings import blank_lines_of, warnings_of
from englishroom.ir.tokenizer import Tokenizer

PIECES = (b"<s>", b"a", b"b", b"\n", b"<|endoftext|>")


class Majority:
    """A talker that always goes on with what stands there, and ends nothing; or says what it is told."""

    def __init__(self, again: float = 0.97, script: bytes = b"") -> None:
        ids = [-1] * 256
        for token in (1, 2, 3):
            ids[PIECES[token][0]] = token
        self.name, self.n_ctx, self.again, self.script = "majority", 12, again, script
        self.tokenizer = Tokenizer("byte_bpe", PIECES, (), (), tuple(ids), (0,), 0, (0,), False)

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = np.full((*tokens.shape, len(PIECES)), 1e-12)
        for place in np.ndindex(tokens.shape):
            token, at = int(tokens[place]), place[-1]
            if self.script:
                says = PIECES.index(self.script[at : at + 1]) if at < len(self.script) else 0
                answer[(*place, says)] = 1.0
            elif token:
                answer[(*place, token)], answer[(*place, 3 - token)] = self.again, 1 - self.again
            else:
                answer[(*place, slice(1, 3))] = 0.5
        return np.log(answer)

    def stream(self) -> Any:
        talker, read = self, []

        class Stream:
            def extend(self, tokens: np.ndarray) -> np.ndarray:
                read.append(tokens)
                return talker.log_probs(np.concatenate(read, axis=1))[:, -tokens.shape[1] :]

        return Stream()


def record(talker: Majority, out: Path, **options: Any) -> dict[str, Any]:
    config = SampleTextConfig(60, drawing=SampleOptions(**options))
    return write_sample(talker, SampledModel("m", "0" * 64), config, out)


def test_a_model_that_cannot_make_its_inputs_is_warned_about(tmp_path: Path) -> None:
    counts = record(Majority(), tmp_path / "text.txt")
    lines = warnings_of("m", counts)
    assert lines[0].startswith("60 of 60 samples of m were cut at the end of its context, not ended by it; if it was")
    assert "samples of m are of one kind: one token makes up 9" in lines[1]
    assert all("give texts of its own task" in line for line in lines)
    alike = warnings_of("m", record(Majority(script=b"ab"), tmp_path / "alike.txt"))
    assert [line.partition(";")[0] for line in alike] == ["only 1 of 60 samples of m are different"]
    limited = record(Majority(0.5), tmp_path / "limited.txt", max_tokens=8)
    assert warnings_of("m", limited, limited=True) == []
    assert len(warnings_of("m", limited)) == 1


def test_records_of_earlier_versions_and_few_samples_are_no_reason() -> None:
    assert warnings_of("m", {"sampled_documents": 400, "sampled_unfinished": 60}) == []
    assert blank_lines_of({"sampled_documents": 400}) == "collapse", "they were collapsed when they were written"
    assert warnings_of("m", {"sampled_documents": 5, "sampled_unfinished": 5}) == []


@pytest.mark.parametrize(
    ("script", "how"),
    [(b"a\n\nb", "keep"), (b"\na", "keep"), (b"a\n", "keep"), (b"a\nb", "collapse"), (b"ab", "collapse")],
)
def test_what_a_model_says_is_kept_as_it_said_it(tmp_path: Path, script: bytes, how: str) -> None:
    counts = record(Majority(script=script), tmp_path / "text.txt")
    assert read_documents(tmp_path / "text.txt", "keep") == [script.decode()] * 60
    assert counts["blank_lines"] == "keep"
    assert blank_lines_of(counts) == how
    collapsed = write_sample(
        Majority(script=script),
        SampledModel("m", "0" * 64),
        SampleTextConfig(2, blank_lines="collapse"),
        tmp_path / "c.txt",
    )
    assert collapsed["blank_lines"] == "collapse"
    assert read_documents(tmp_path / "c.txt", "keep") == [script.decode().strip().replace("\n\n", "\n")] * 2
