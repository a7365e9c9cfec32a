"""From text files to a talker on disk: tokenise, train resumably, write an ordinary GPT-2 folder."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tokenizers
import torch

import englishroom
from englishroom.data.corpus import SEPARATOR, read_documents, split, text_hash
from englishroom.errors import ConfigError
from englishroom.models.adapters import gpt2
from englishroom.models.adapters.mapping import Family, write_weights
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.text import TokenisedText, learn_bpe, tokenise
from englishroom.talkers.train import Run, train

VALIDATION = (
    "nats per token on documents of the training text held out by hash: the first 256 windows of n_ctx + 1 tokens, "
    "each from the start of a document and running into the next, end-of-text tokens included; "
    "not the protocol of score"
)
BPE_DOCUMENTS = 20_000
"""Documents, spread evenly over the text, that the tokenizer is learnt from."""


def build_talker(
    texts: Sequence[Path],
    out: Path,
    config: TrainConfig,
    say: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
    on_step: Callable[[Run, float], None] = lambda _run, _loss: None,
) -> Run:
    """Train a talker on text files and write it to ``out`` as a GPT-2 folder; run again to resume after a kill.

    A file listed twice is seen twice as often. Documents are held out for the validation curve by their own hash.
    Beside the model stand ``tokenizer.json`` and ``training.json`` (settings, seed, text hashes, versions, curve).
    """
    work = _work_folder(out, texts, config)
    if not (work / "text.npz").exists():
        say("reading and tokenising the text")
        _prepare(texts, config, work, progress)
    bpe = tokenizers.Tokenizer.from_file(str(work / "tokenizer.json"))
    with np.load(work / "text.npz") as arrays:
        fit = TokenisedText(arrays["fit_tokens"], arrays["fit_starts"])
        choose = TokenisedText(arrays["choose_tokens"], arrays["choose_starts"])
        hashes = {name: str(arrays[f"{name}_hash"]) for name in ("fit", "choose")}
    say(f"training: {len(fit.tokens):,} tokens of text, {config.n_steps:,} steps")

    def after_step(run: Run, loss: float) -> None:
        progress("training", run.step, config.n_steps)
        on_step(run, loss)

    run = train(config, fit, choose, work / "checkpoint.pt", after_step)
    bpe.save(str(out / "tokenizer.json"))
    start_id = bpe.get_vocab()[SEPARATOR]
    (out / "config.json").write_text(json.dumps(gpt2.config_of(run.spec, start_id), indent=2) + "\n")
    family = Family(run.spec, gpt2.sources(run.spec), ignored=())
    tensors = {name: tensor.half() for name, tensor in write_weights(family, run.weights).items()}
    safetensors.torch.save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    record = {
        "config": asdict(config),
        "texts": [path.name for path in texts],
        "text_sha256": hashes,
        "validation": VALIDATION,
        "versions": {
            "englishroom": englishroom.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "curve": run.curve,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return run


def _work_folder(out: Path, texts: Sequence[Path], config: TrainConfig) -> Path:
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
    identity = _identity(texts, config)
    if mark.exists() and mark.read_text() != identity:
        raise ConfigError(f"{work}: holds a run with other settings or texts; choose another --out or delete {out}")
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(identity)
    return work


def _identity(texts: Sequence[Path], config: TrainConfig) -> str:
    hashes = {path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in set(texts)}
    return hashlib.sha256(json.dumps([[hashes[path] for path in texts], asdict(config)]).encode()).hexdigest()


def _prepare(texts: Sequence[Path], config: TrainConfig, work: Path, progress: Callable[[str, int, int], None]) -> None:
    files = {path: read_documents(path) for path in set(texts)}
    fit, choose = split([document for path in texts for document in files[path]], config.choose_share)
    bpe = learn_bpe(fit[:: max(1, len(fit) // BPE_DOCUMENTS)], config.vocabulary)
    if bpe.get_vocab_size() != config.vocabulary:
        raise ConfigError(
            f"the text yields {bpe.get_vocab_size()} tokens, not {config.vocabulary}; "
            "lower --vocabulary or give more text"
        )
    bpe.save(str(work / "tokenizer.json"))
    encoded = {
        "fit": tokenise(bpe, fit, lambda done, total: progress("tokenising", done, total)),
        "choose": tokenise(bpe, choose),
    }
    part = work / "text.part.npz"
    arrays: dict[str, Any] = {"fit_hash": np.array(text_hash(fit)), "choose_hash": np.array(text_hash(choose))}
    for name, text in encoded.items():
        arrays |= {f"{name}_tokens": text.tokens, f"{name}_starts": text.starts}
    np.savez(part, **arrays)
    part.replace(work / "text.npz")
