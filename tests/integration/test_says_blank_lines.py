"""A model that says blank lines between paragraphs, from its training to programs that say them where it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.data.corpus import write_documents
from englishroom.evaluate.sample import SampleOptions, samples
from englishroom.pipeline import open_talker
from englishroom.store import read_manifest

SHAPE = "--n-layers 1 --d-model 16 --n-heads 2 --n-ctx 48 --vocabulary 272 --batch 8 --tokens 300000"
FITS = (
    "--moved 32 --moved-active 8 --rules 64 --rules-active 16 --local-tokens 4000 --joint-tokens 20000 --kinds 272 "
    "--kinds-active 8 --sparse-tokens 20000 --edges 8000 --samples 150 30 30 --probe-rows 3"
)
WORSE_NATS = 0.01
"""How much larger KL(target‖program) may be in the mean behind a blank line than elsewhere."""


def story(seed: int) -> str:
    """Make paragraphs with a blank line between them; one in two has a line end inside, behind a colon."""
    rng = np.random.default_rng(seed)
    paragraphs = []
    for _ in range(4):
        name, did = rng.choice(["Lily", "Tom", "Mia"]), rng.choice(["ran.", "sat.", "saw a dog."])
        paragraphs.append(f"{name} said:\nMom {did}" if rng.random() < 0.5 else f"{name} {did}")
    return "\n\n".join(paragraphs)


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("says")
    write_documents(folder / "text.txt", [story(seed) for seed in range(400)])
    training = ["train", str(folder / "text.txt"), "--out", str(folder / "talker"), "--blank-lines", "keep"]
    assert main([*training, *SHAPE.split(), "--precision", "float32"]) == 0
    return folder / "talker"


@pytest.mark.parametrize("level", ["exact", "sparse"])
def test_programs_say_blank_lines_where_the_model_does(talker: Path, tmp_path: Path, level: str) -> None:
    """A sparse program is fitted and measured on what the model says itself, with no option for blank lines."""
    room = tmp_path / "room"
    options = FITS.split() if level == "sparse" else []
    assert main(["decompile", str(talker), "--level", level, "--out", str(room), "--no-check", *options]) == 0
    texts = read_manifest(room).evidence.get("texts", {})
    assert [text["blank_lines"] for text in texts.values()] == ["keep"] * (3 if level == "sparse" else 0)

    target, program = open_talker(str(talker), check=False), open_talker(str(room))
    (newline,) = target.tokenizer.encode("\n")
    behind, elsewhere, chances = [], [], []
    for seed in range(1000, 1030):
        tokens = np.array([target.tokenizer.start_id, *target.tokenizer.encode(story(seed))][: target.n_ctx])
        theirs, ours = (one.log_probs(tokens[None])[0].astype(np.float64) for one in (target, program))
        kl = (np.exp(theirs) * (theirs - ours)).sum(-1)
        line_end = tokens == newline
        blank_line = line_end & np.roll(line_end, 1)  # the second newline of two
        behind += kl[blank_line].tolist()
        elsewhere += kl[~blank_line].tolist()
        first = line_end & ~blank_line
        chances += np.exp([theirs[first, newline], ours[first, newline]]).T.tolist()  # of a second newline
    theirs, ours = np.array(chances).T
    assert set(np.round(theirs, 1)) == {0, 1}, "the model knows that a blank line comes behind a full stop only"
    np.testing.assert_allclose(ours, theirs, atol=0.05)
    assert len(behind) > 60
    assert np.mean(behind) < np.mean(elsewhere) + WORSE_NATS
    told = [sampled.text for sampled in samples(program, range(10), SampleOptions())]
    assert all("\n\n" in text and "said:\n\n" not in text for text in told)
