"""Train one TopK dictionary on activations in memory, a few steps at a time, with one trainer.

    PYTHON dictionary_steps.py ours|saelens|saelens-sparse|sparsify SETTINGS.json

Started by ``dictionaries.py`` in the Python that has the trainer; needs nothing of englishroom unless it is ``ours``.
Prints ``ready``; then, for every line on its input, trains for that many steps and prints the seconds and the share of
variance left unexplained.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

Step = Callable[[torch.Tensor, torch.Tensor], float]
"""Trains on a batch, (what is read, what is written); returns the share of variance left unexplained."""


def main() -> None:
    name, settings = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(settings["threads"])
    x, y = (torch.from_numpy(np.load(settings[key])) for key in ("x", "y"))
    said = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what the trainers print
        step = TRAINERS[name](settings, x, y)
        print("ready", file=said, flush=True)
        at = 0
        for line in sys.stdin:
            began, share = time.perf_counter(), 0.0
            for _ in range(int(line)):
                part = slice(at, at + settings["batch"])
                share = step(x[part], y[part])
                at = (at + settings["batch"]) % len(x)
            print(time.perf_counter() - began, share, file=said, flush=True)


def ours(settings: dict, x: torch.Tensor, y: torch.Tensor) -> Step:
    """Take the step that ``englishroom.dictionaries.train.Trainer`` takes on clean values."""
    from englishroom.dictionaries.config import TrainerConfig
    from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
    from englishroom.dictionaries.train import Trainer, start_from, variances

    reads, writes = ("in", "out") if settings["transcode"] else ("in", "in")
    spec = DictionarySpec(reads, (writes,), x.shape[1], y.shape[1], settings["latents"], "topk", settings["k"])
    values = {"in": x, "out": y}
    generator = torch.Generator().manual_seed(0)
    random = Dictionary.random(spec, generator)
    sample = {site: value[: settings["batch"]] for site, value in values.items()}
    trainer = Trainer([start_from(random, sample, generator)], TrainerConfig(), variances(values))

    def step(read: torch.Tensor, written: torch.Tensor) -> float:
        loss, (share,) = trainer.local_losses({"in": read, "out": written})
        trainer.step(loss, 1.0)
        return share

    return step


def saelens(settings: dict, x: torch.Tensor, y: torch.Tensor, sparse: bool = False) -> Step:
    """Take the step of SAELens's ``SAETrainer``: forward, losses, bookkeeping, backward, clipping, Adam, schedules."""
    del y
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    sizes = {"d_in": x.shape[1], "d_sae": settings["latents"], "k": settings["k"]}
    # the sparse way has no gradient on the CPU where latents are ranked by what they write
    options = {"use_sparse_activations": sparse, "rescale_acts_by_decoder_norm": not sparse}
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, **options))
    config = SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=settings["batch"],
        lr=3e-4,
        lr_end=3e-5,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, iter(()))
    variance = float((x - x.mean(0)).pow(2).sum(1).mean())

    def step(read: torch.Tensor, written: torch.Tensor) -> float:
        del written
        found = trainer.step(read)
        trainer.n_training_steps += 1
        return float(found.losses["mse_loss"].detach()) / variance

    return step


def sparsify(settings: dict, x: torch.Tensor, y: torch.Tensor) -> Step:
    """Take the step of sparsify's ``Trainer.fit`` with its parts, in its order and with its default optimiser.

    The trainer itself cannot be stepped without a language model around it.
    """
    from schedulefree import ScheduleFreeWrapper
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    torch.manual_seed(0)
    transcode, latents = settings["transcode"], settings["latents"]
    coder = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=latents, k=settings["k"], transcode=transcode))
    if transcode:
        coder.encoder.bias.data = -x[: settings["batch"]].mean(0) @ coder.encoder.weight.data.T
    coder.b_dec.data = (y if transcode else x)[: settings["batch"]].mean(0)
    groups = [{"params": coder.parameters(), "lr": 5e-3 / (latents / 2**14) ** 0.5}]
    optimiser = ScheduleFreeWrapper(SignSGD(groups), momentum=0.95)
    optimiser.train()
    silent = torch.zeros(latents, dtype=torch.long)

    def step(read: torch.Tensor, written: torch.Tensor) -> float:
        target = written if transcode else read
        if not transcode:
            coder.set_decoder_norm_to_unit_norm()
        variance = (target - target.mean(0)).pow(2).sum()
        out = coder(x=read, y=target, dead_mask=silent > 10_000_000, total_variance=variance)
        fired = torch.zeros(latents, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        share = float(out.fvu.detach())
        (out.fvu + out.auxk_loss / 32).backward()
        if not transcode:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        silent.add_(len(read))
        silent[fired] = 0
        return share

    return step


TRAINERS: dict[str, Callable[..., Step]] = {
    "ours": ours,
    "saelens": saelens,
    "saelens-sparse": lambda *given: saelens(*given, sparse=True),
    "sparsify": sparsify,
}


if __name__ == "__main__":
    main()
