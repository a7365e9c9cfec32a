"""From text files to a talker on disk: tokenise, train resumably, write an ordinary GPT-2 folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tokenizers

from englishroom.data.corpus import SEPARATOR, split, text_hash, write_documents
from englishroom.data.documents import read_documents
from englishroom.data.overlap import MARKS_FILE, write_marks
from englishroom.data.texts import open_text, text_identity
from englishroom.disk import is_leftover, locked, make_folder, replace_file, replace_files
from englishroom.errors import ConfigError
from englishroom.manifest import versions_of
from englishroom.models.adapters import gpt2
from englishroom.models.adapters.mapping import Family, write_weights
from englishroom.steps import Progress, Say, silent
from englishroom.talkers.config import TalkerConfig
from englishroom.talkers.record import FILE, json_bytes, read_training
from englishroom.talkers.text import TokenisedText, learn_bpe, tokenise
from englishroom.talkers.train import Run, train
from englishroom.work import MARK, Work

Measure = Callable[[Run, Path, Sequence[str]], dict[str, float]]
"""Measures a run on held-out documents, given the folder of its ``tokenizer.json`` and ``config.json``."""

BPE_DOCUMENTS = 20_000
"""Documents, spread evenly over the text, that the tokenizer is learnt from."""
CURVE_DOCUMENTS = 256
"""Held-out documents, spread evenly, that the curve is measured on."""


def build_talker(
    config: TalkerConfig,
    out: Path,
    measure: Measure,
    say: Say = silent,
    progress: Progress = silent,
    on_step: Callable[[Run, float], None] = silent,
) -> Run:
    """Train a talker on texts and write it to ``out`` as a GPT-2 folder; run again to resume after a kill.

    A text listed twice is seen twice as often. Documents are held out for the validation curve by their own hash.
    Beside the model stand ``tokenizer.json``, ``training.json`` (settings, seed, text hashes, versions, curve) and the
    marks of the documents it was trained on, by which ``score`` knows them again.

    Raises:
        ConfigError: settings or a text cannot work, or ``out`` holds something else.
    """
    config.validate()
    _check_out(out)
    make_folder(out.absolute().parent)
    with locked(out), _work(out, config).held() as kept:
        training = config.training
        work = kept.folder
        if not (work / "text.npz").exists():  # it is written last
            say("reading and tokenising the text")
            _prepare(config, work, progress)
        bpe = tokenizers.Tokenizer.from_file(str(work / "tokenizer.json"))
        settings = json.dumps(gpt2.config_of(training.spec(), bpe.get_vocab()[SEPARATOR]), indent=2) + "\n"
        replace_file(work / "config.json", settings.encode())
        choose = read_documents(work / "choose.txt", "keep")
        held = choose[:: max(1, len(choose) // CURVE_DOCUMENTS)][:CURVE_DOCUMENTS]
        with np.load(work / "text.npz") as arrays:
            fit = TokenisedText(arrays["fit_tokens"], arrays["fit_starts"])
            fit_hash = str(arrays["fit_hash"])
        say(f"training: {len(fit.tokens):,} tokens of text, {training.n_steps:,} steps")

        def measure_and_keep(run: Run) -> dict[str, float]:
            path = checkpoint_path(out, run.step)
            make_folder(path.parent)
            replace_file(path, weights_of(run))
            return measure(run, work, held)

        def after_step(run: Run, loss: float) -> None:
            progress("training", run.step, training.n_steps)
            on_step(run, loss)

        run = train(training, fit, work / "checkpoint.pt", measure_and_keep, after_step, identity=kept.identity)
        curve: dict[str, Any] = {
            "text": "held out of the training text by hash",
            "sha256": text_hash(held),
            "documents": len(held),
            "points": run.curve,
        }
        record = {
            "config": asdict(training),
            "texts": [_short_name(name) for name in config.texts],
            "fit_sha256": fit_hash,
            "blank_lines": config.blank_lines,
            "versions": versions_of("torch") | {"device": run.device.type},
            "curves": [curve, *_other_curves(out, curve)],
        }
        replace_files(
            out,
            {
                "tokenizer.json": bpe.to_str(pretty=True).encode(),
                "config.json": settings.encode(),
                MARKS_FILE: (work / MARKS_FILE).read_bytes(),
                "model.safetensors": weights_of(run),
                FILE: json_bytes(record),
            },
        )
        return run


def _other_curves(out: Path, own: dict[str, Any]) -> list[Any]:
    """Return the curves on other texts that a finished run was given since."""
    record = read_training(out)
    return [] if record is None else [curve for curve in record["curves"] if curve["sha256"] != own["sha256"]]


def checkpoint_path(out: Path, step: int) -> Path:
    """Return where the weights after a step are kept, for curves on other texts."""
    return out / "work" / "checkpoints" / f"step-{step:07}.safetensors"


def weights_of(run: Run) -> bytes:
    """Lay the weights of a run out as a safetensors file, in float16, as GPT-2 names them."""
    family = Family(run.spec, gpt2.sources(run.spec), ignored=())
    weights = {name: weight.detach().cpu() for name, weight in run.weights.items()}
    tensors = {name: tensor.half().contiguous() for name, tensor in write_weights(family, weights).items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def _short_name(name: str) -> str:
    """Name a text in the record: of a path only its last part."""
    return Path(name).name if Path(name).exists() else name


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; choose another --out")


def _work(out: Path, config: TalkerConfig) -> Work:
    """Name the work of a run, tied to its texts and settings so that two runs never mix.

    Raises:
        ConfigError: ``out`` holds another run, or things that are not of a run.
    """
    work = out / "work"
    others = (
        [entry.name for entry in out.iterdir() if entry != work and not is_leftover(entry.name)] if out.is_dir() else []
    )
    if others and not (work / MARK).is_file():
        raise ConfigError(f"{out}: holds other things, and no run to go on with; choose another --out")
    hashes = {name: text_identity(name) for name in set(config.texts)}
    texts = [hashes[name] for name in config.texts]
    return Work(work, {"config": asdict(config.training), "texts": texts, "blank_lines": config.blank_lines})


def _prepare(config: TalkerConfig, work: Path, progress: Progress) -> None:
    vocabulary = config.training.vocabulary
    read = {name: open_text(name, progress, blank_lines=config.blank_lines).documents for name in set(config.texts)}
    every = [document for name in config.texts for document in read[name]]
    fit, choose = split(every, config.training.choose_share)
    bpe = learn_bpe(fit[:: max(1, len(fit) // BPE_DOCUMENTS)], vocabulary)
    if bpe.get_vocab_size() != vocabulary:
        raise ConfigError(
            f"the text yields {bpe.get_vocab_size()} tokens, not {vocabulary}; lower --vocabulary or give more text"
        )
    replace_file(work / "tokenizer.json", bpe.to_str(pretty=True).encode())
    write_documents(work / "choose.txt", choose)
    write_marks(work / MARKS_FILE, fit)
    text = tokenise(bpe, fit, partial(progress, "tokenising"))
    data = io.BytesIO()
    np.savez(data, fit_hash=np.array(text_hash(fit)), fit_tokens=text.tokens, fit_starts=text.starts)
    replace_file(work / "text.npz", data.getvalue())
