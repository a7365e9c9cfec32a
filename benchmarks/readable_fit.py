"""Measure what each step from a target to a readable program costs: KL(target||program) on held-out text.

python benchmarks/readable_fit.py [--fit TEXT ...] [--report TEXT] [--stream-tokens 1000000] [--work FOLDER]

1. Fit pieces, looks and the stream model; measure it as it starts and when it is fitted, with the target's own
   attention in place of looks, and with fewer features on at a time.
2. Write it as edges, with all of them and with those that a fit begins with; fit these for some steps.
3. Leave out, at once and in one group of sums at a time, all edges but those that a readable program ends with, chosen
   by cost (squared weight times mean squared gradient) or by size (squared weight times variance of what is read).
   What is left out stays as its mean; nothing is refitted.

One thread; about a quarter of an hour. With --work it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from englishroom.data.texts import open_text
from englishroom.dictionaries.checkpoint import Resumable, fit_to_end
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.pipeline.opening import open_target
from englishroom.readable.config import StreamConfig, WiringConfig
from englishroom.readable.look_fit import LookFit
from englishroom.readable.pieces import PiecesFit
from englishroom.readable.stream import StreamModel
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.stream_start import start_stream
from englishroom.readable.wiring import WiredModel, is_of_words
from englishroom.readable.wiring_fit import WiringFit
from englishroom.readable.wiring_prune import choose_edges
from englishroom.readable.wiring_start import start_wiring

Show = Callable[[str, Callable[[Tensor, dict[int, Tensor]], Tensor]], None]
START_ROWS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-2l")
    parser.add_argument("--fit", nargs="+", default=["sampled:fit"])
    parser.add_argument("--report", default="sampled:report")
    parser.add_argument("--held-out", type=int, default=40, help="documents to measure on")
    parser.add_argument("--moved", type=int, default=192)
    parser.add_argument("--rules", type=int, default=2560)
    parser.add_argument("--apart-tokens", type=int, default=200_000)
    parser.add_argument("--stream-tokens", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=100, help="of the fit on edges, before they are left out")
    parser.add_argument("--work", type=Path, help="folder to keep fits in")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(given, given.work or Path(folder))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Fit and measure, printing every figure as it comes."""
    target, tokenizer = open_target(given.model)
    documents = [document for name in given.fit for document in open_text(name).documents]
    rows = TokenRows.of(tokenizer, documents, target.spec.n_ctx)
    held_out = TokenRows.of(tokenizer, open_text(given.report).documents[: given.held_out], target.spec.n_ctx)
    tokens, own = (torch.from_numpy(of(range(held_out.n_rows))) for of in (held_out.rows, held_out.mask))
    table = unembedding(target.spec, target.weights)
    layers = range(target.spec.n_layers)
    sites = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]

    @torch.no_grad()
    def show(what: str, run: Callable[[Tensor, dict[int, Tensor]], Tensor]) -> None:
        found = []
        for few, mask in zip(tokens.split(8), own.split(8), strict=True):
            final, values = clean_run(target.spec, target.weights, few, sites, attend=None)
            patterns = {layer: values[site] for layer, site in zip(layers, sites, strict=True)}
            found.append(kl_nats((final @ table).flatten(0, 1), run(few, patterns))[0][mask.flatten()])
        print(f"| {what} | {torch.cat(found).mean():.3f} |", flush=True)

    config = replace(
        StreamConfig(),
        moved=given.moved,
        rules=given.rules,
        apart_tokens=given.apart_tokens,
        look_tokens=given.apart_tokens,
        tokens=given.stream_tokens,
    )

    def fitted(run: Resumable, name: str) -> None:
        fit_to_end(run, folder / f"{name}.pt", lambda _run, _loss: None, 60.0)

    print(f"| {given.model}, KL(target‖program) on {given.report} | nats |\n| -- | -- |", flush=True)
    identity = {"target": target.sha256, "documents": len(documents)}
    pieces, looks = PiecesFit(target, rows, config, identity), LookFit(target, rows, config, identity)
    fitted(pieces, "pieces")
    fitted(looks, "looks")
    first = torch.from_numpy(rows.batch(0, 0, START_ROWS))
    start = start_stream(target, looks.result(), pieces.result(), first, config)
    show("stream model, parts fitted one at a time", lambda few, _: start.logits(start.run(few)))
    together = StreamFit(target, start, rows, config, identity, half=True)
    fitted(together, "stream")
    model = together.result()
    show(f"fitted together, {config.tokens:,} tokens", lambda few, _: model.logits(model.run(few)))
    show("the target's own attention in it", lambda few, known: model.logits(model.run(few, patterns=known)))
    for share in (0.75, 0.5):
        what = f"{share:.0%} of its features on at a time"
        show(what, lambda few, _, share=share: model.logits(model.run(few, active=share)))
    measure_cuts(given, model, rows, show, target, first)


def measure_cuts(
    given: argparse.Namespace, model: StreamModel, rows: TokenRows, show: Show, target: Target, first: Tensor
) -> None:
    """Write the stream model as edges, and leave them out group by group."""
    tokens = 100 * given.steps * WiringConfig().batch * rows.length  # the fit stops long before edges are left out
    short = replace(WiringConfig(), tokens=tokens)
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab).float()
    whole = replace(short, first_reads=2**31, first_words=2**31, first_votes=2**31)
    wired = start_wiring(model, counted, first, whole)
    show("all edges", lambda few, _: wired.run(few, sharp=0))
    wired = start_wiring(model, counted, first, short)
    show("the edges that a fit begins with", lambda few, _: wired.run(few, sharp=0))
    run = WiringFit(target, wired, rows, short, {}, half=True)
    while run.step < given.steps:
        run.update()
    base = run.result()
    show(f"fitted on, {given.steps} steps", lambda few, _: base.run(few, sharp=0))
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        base.run(first, seen.__setitem__, sharp=0)
    variance = seen["features"].var(0)
    sizes = {}
    for name, edges in base.edges.items():
        read = run.frequencies if is_of_words(name) else variance[: edges.n_sources]
        sizes[name] = edges.weights.square() * read[edges.sources]
    groups = [f"{group}.{layer}" for layer in range(target.spec.n_layers) for group in ("moved", "rules")]
    looks = [name for name in base.edges if "queries" in name or "keys" in name]
    for what, of in (("cost", run.costs()), ("size", sizes)):
        kept = choose_edges(base, of, short, 1.0)
        for names in ([g, f"words.{g}"] for g in groups):
            cut(f"few reads and words, {names[0]}, by {what}", base, run, kept, names, show)
        cut(f"few reads and words, looks, by {what}", base, run, kept, looks, show)
        cut(f"{short.votes} votes a feature, by {what}", base, run, kept, ["votes"], show)
        cut(f"{short.follows} words that follow a word, by {what}", base, run, kept, ["follows"], show)
        cut(f"all of these, by {what}", base, run, kept, list(base.edges), show)


def cut(what: str, base: WiredModel, run: WiringFit, kept: dict[str, Tensor], names: list[str], show: Show) -> None:
    """Leave edges of some tables out, and measure what is left."""
    assert run.means is not None
    left = base.keep({name: kept[name] for name in names}, run.means, run.frequencies)
    show(what, lambda few, _: left.run(few, sharp=0))


if __name__ == "__main__":
    main()
