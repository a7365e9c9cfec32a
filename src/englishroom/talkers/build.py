"""From text files to a talker on disk: tokenise, train resumably, write an ordinary GPT-2 folder."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tokenizers
import torch

import englishroom
from englishroom.data.corpus import SEPARATOR, BlankLines, split, text_hash, write_documents
from englishroom.data.documents import read_documents
from englishroom.data.overlap import MARKS_FILE, write_marks
from englishroom.data.texts import open_text, text_identity
from englishroom.errors import ConfigError
from englishroom.models.adapters import gpt2
from englishroom.models.adapters.mapping import Family, write_weights
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.record import FILE, read_training, write_json
from englishroom.talkers.text import TokenisedText, learn_bpe, tokenise
from englishroom.talkers.train import Run, train

Measure = Callable[[Run, Path, Sequence[str]], dict[str, float]]
"""Measures a run on held-out documents, given the folder of its ``tokenizer.json`` and ``config.json``."""

BPE_DOCUMENTS = 20_000
"""Documents, spread evenly over the text, that the tokenizer is learnt from."""
CURVE_DOCUMENTS = 256
"""Held-out documents, spread evenly, that the curve is measured on."""


def build_talker(
    texts: Sequence[str | Path],
    out: Path,
    config: TrainConfig,
    measure: Measure,
    say: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
    on_step: Callable[[Run, float], None] = lambda _run, _loss: None,
    blank_lines: BlankLines = "collapse",
) -> Run:
    """Train a talker on texts and write it to ``out`` as a GPT-2 folder; run again to resume after a kill.

    A text listed twice is seen twice as often. Documents are held out for the validation curve by their own hash.
    Beside the model stand ``tokenizer.json``, ``training.json`` (settings, seed, text hashes, versions, curve) and the
    marks of the documents it was trained on, by which ``score`` knows them again.

    Args:
        texts: as :func:`open_text` names them: files, folders, datasets on the hub.
        blank_lines: whether white space around line ends is collapsed or kept.
    """
    work = _work_folder(out, texts, config, blank_lines)
    if not (work / "text.npz").exists():
        say("reading and tokenising the text")
        _prepare(texts, config, work, progress, blank_lines)
    bpe = tokenizers.Tokenizer.from_file(str(work / "tokenizer.json"))
    settings = json.dumps(gpt2.config_of(config.spec(), bpe.get_vocab()[SEPARATOR]), indent=2) + "\n"
    (work / "config.json").write_text(settings)
    choose = read_documents(work / "choose.txt", "keep")
    held = choose[:: max(1, len(choose) // CURVE_DOCUMENTS)][:CURVE_DOCUMENTS]
    with np.load(work / "text.npz") as arrays:
        fit = TokenisedText(arrays["fit_tokens"], arrays["fit_starts"])
        fit_hash = str(arrays["fit_hash"])
    say(f"training: {len(fit.tokens):,} tokens of text, {config.n_steps:,} steps")

    def measure_and_keep(run: Run) -> dict[str, float]:
        write_checkpoint(run, checkpoint_path(out, run.step))
        return measure(run, work, held)

    def after_step(run: Run, loss: float) -> None:
        progress("training", run.step, config.n_steps)
        on_step(run, loss)

    run = train(config, fit, work / "checkpoint.pt", measure_and_keep, after_step)
    bpe.save(str(out / "tokenizer.json"))
    (out / "config.json").write_text(settings)
    write_checkpoint(run, out / "model.safetensors")
    curve: dict[str, Any] = {
        "text": "held out of the training text by hash",
        "sha256": text_hash(held),
        "documents": len(held),
        "points": run.curve,
    }
    record = {
        "config": asdict(config),
        "texts": [_short_name(name) for name in texts],
        "fit_sha256": fit_hash,
        "blank_lines": blank_lines,
        "versions": {
            "englishroom": englishroom.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": run.device.type,
        },
        "curves": [curve, *_other_curves(out, curve)],
    }
    write_json(out / FILE, record)
    shutil.copyfile(work / MARKS_FILE, out / MARKS_FILE)
    return run


def _other_curves(out: Path, own: dict[str, Any]) -> list[Any]:
    """Return the curves on other texts that a finished run was given since."""
    record = read_training(out)
    return [] if record is None else [curve for curve in record["curves"] if curve["sha256"] != own["sha256"]]


def checkpoint_path(out: Path, step: int) -> Path:
    """Return where the weights after a step are kept, for curves on other texts."""
    return out / "work" / "checkpoints" / f"step-{step:07}.safetensors"


def write_checkpoint(run: Run, path: Path) -> None:
    """Write the weights of a run in float16, as GPT-2 names them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    family = Family(run.spec, gpt2.sources(run.spec), ignored=())
    weights = {name: weight.detach().cpu() for name, weight in run.weights.items()}
    tensors = {name: tensor.half().contiguous() for name, tensor in write_weights(family, weights).items()}
    part = path.with_suffix(".part")
    safetensors.torch.save_file(tensors, part, metadata={"format": "pt"})
    part.replace(path)


def _short_name(name: str | Path) -> str:
    """Name a text in the record: of a path only its last part."""
    return Path(name).name if Path(name).exists() else str(name)


def _work_folder(out: Path, texts: Sequence[str | Path], config: TrainConfig, blank_lines: BlankLines) -> Path:
    """Return the folder of a run's intermediate files, tied to its texts and settings so that two runs never mix.

    Raises:
        ConfigError: ``out`` holds another run, or things that are not of a run.
    """
    if not texts:
        raise ConfigError("no text to train on; give at least one text file")
    config.check()
    work = out / "work"
    mark = work / "identity"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; choose another --out")
    if out.is_dir() and any(out.iterdir()) and not mark.exists():
        raise ConfigError(f"{out}: holds other things, and no run to go on with; choose another --out")
    identity = _identity(texts, config, blank_lines)
    if mark.exists() and mark.read_text() != identity:
        raise ConfigError(f"{work}: holds a run with other settings or texts; choose another --out or delete {out}")
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(identity)
    return work


def _identity(texts: Sequence[str | Path], config: TrainConfig, blank_lines: BlankLines) -> str:
    kept = [] if blank_lines == "collapse" else [blank_lines]
    hashes = {name: text_identity(name) for name in set(texts)}
    return hashlib.sha256(json.dumps([[hashes[name] for name in texts], asdict(config), *kept]).encode()).hexdigest()


def _prepare(
    texts: Sequence[str | Path],
    config: TrainConfig,
    work: Path,
    progress: Callable[[str, int, int], None],
    blank_lines: BlankLines,
) -> None:
    documents = {name: open_text(name, progress, blank_lines=blank_lines).documents for name in set(texts)}
    fit, choose = split([document for name in texts for document in documents[name]], config.choose_share)
    bpe = learn_bpe(fit[:: max(1, len(fit) // BPE_DOCUMENTS)], config.vocabulary)
    if bpe.get_vocab_size() != config.vocabulary:
        raise ConfigError(
            f"the text yields {bpe.get_vocab_size()} tokens, not {config.vocabulary}; "
            "lower --vocabulary or give more text"
        )
    bpe.save(str(work / "tokenizer.json"))
    write_documents(work / "choose.txt", choose)
    write_marks(work / MARKS_FILE, fit)
    text = tokenise(bpe, fit, lambda done, total: progress("tokenising", done, total))
    part = work / "text.part.npz"
    np.savez(part, fit_hash=np.array(text_hash(fit)), fit_tokens=text.tokens, fit_starts=text.starts)
    part.replace(work / "text.npz")
