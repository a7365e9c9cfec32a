"""The settings of a decompilation: each is declared here, or in the config of what it sets, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from tyro.conf import Positional, arg

from englishroom.bounds import Amount, Count, Settings
from englishroom.dictionaries.config import DictionariesConfig, FitConfig
from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec
from englishroom.readable.config import ReadableConfig
from englishroom.sparse.config import SparseConfig, StartConfig
from englishroom.talkers.shipped import DEFAULT

ReadBlankLines = Literal["auto", "keep", "collapse"]
OWN_SAMPLES = "samples of"
"""How the names of texts begin that a model told for its own decompilation."""


@dataclass(frozen=True)
class Opening(Settings):
    """How models are opened."""

    tokenizer: str | None = None
    """Tokenizer of a model that has none beside its weights: a tokenizer.json, a folder with one, a llama2.c tokenizer
    file, or a hub name."""
    context: Annotated[int, Ge(2)] | None = None
    """The most tokens that a model reads at once, where it was trained on shorter texts than its configuration says; by
    default as many as the configuration says."""
    check: bool = True
    """Compare our forward pass of a model with that of transformers first; --no-check leaves that out."""


@dataclass(frozen=True)
class TalkerOpening(Opening):
    """How rooms, models and sketches are opened."""

    run_code: bool = False
    """Run a sketch that was not written on this machine; it is Python code, so read its sketch.py first."""


@dataclass(frozen=True)
class TextsConfig(Settings):
    """Which texts are used, and how much of them."""

    fit: tuple[str, ...] = ()
    """Texts to fit on: files (plain or .xz), folders of them, hub datasets, or "sampled:fit", the ready corpus. By
    default documents are sampled from the model itself."""
    choose: str | None = None
    """Text to choose settings on; it must not share a document with the others."""
    report: str | None = None
    """Text that every number is reported on; it must not share a document with the others."""
    blank_lines: ReadBlankLines = "auto"
    """Keep white space around line ends of texts, or collapse it to one newline; auto keeps it for models that say
    blank lines."""
    samples: tuple[Count, Count, Count] = (2_000, 200, 200)
    """How many documents to sample from the model where no texts are named: to fit on, to choose on, to report on."""
    report_documents: Count = 400
    """Documents of the reporting text to measure on, from its beginning."""


@dataclass(frozen=True)
class MeasureReadableConfig(Settings):
    """What is measured of how readable a readable program is, and on how much of the reporting text."""

    readability_documents: Count = 20
    """Documents from the beginning of the reporting text on which table entries used are counted."""
    readability_positions: Count = 10
    """Positions in these documents at which the voters and the table entries that are needed are counted."""
    explain: Annotated[bool, arg(name="explain-features")] = False
    """Search on the fitting text, for each feature, a condition that says when it is on, as englishroom
    explain-features does; a quarter of an hour for thousands of features."""


@dataclass(frozen=True)
class MeasureConfig(Settings):
    """How much is measured of the program."""

    evidence_rows: Count = 200
    """Documents of the fitting text from which examples are collected: tokens at which each latent is active."""
    greedy_prompts: Amount = 8
    """How many beginnings of documents the model and the program both continue, to compare what they say."""
    probe_rows: Count = 12
    """Documents on which two things are measured: what changes when a head or an MLP is switched off in the model and
    in the program, and how many rules fire."""
    readable: MeasureReadableConfig = MeasureReadableConfig()
    """How much is measured of how readable a program is (level readable)."""


@dataclass(frozen=True)
class DecompileConfig(Settings):
    """What to decompile, how far, and with how much work; the defaults are those of the preset fast, level sparse."""

    model: Annotated[Positional[str], arg(metavar="MODEL")] = DEFAULT
    """A shipped model (tiny-1l, tiny-2l), a Hugging Face folder or hub name (gpt2, gpt_neo, llama), or a llama2.c .bin
    file."""
    level: Literal["exact", "featured", "sparse", "readable"] = "sparse"
    """How far to go. exact: the weights, one to one. featured: dictionaries replace the MLPs and the outputs of
    attention, and are fitted to work together. sparse: most edges between features are left out too, and the rest is
    fitted again. readable, an experiment: looks, rules of few reads and votes, with no dimension of a head left."""
    seed: Amount = 0
    """Seed of everything that is drawn at random (all levels but exact)."""
    opening: Opening = Opening()
    """How the model is opened."""
    texts: TextsConfig = TextsConfig()
    """Texts (all levels but exact)."""
    dictionaries: DictionariesConfig = DictionariesConfig()
    """Dictionaries (levels featured and sparse)."""
    fit: FitConfig = FitConfig()
    """Fit of the dictionaries (levels featured and sparse)."""
    start: StartConfig = StartConfig()
    """Start of the sparse model (level sparse)."""
    sparse: SparseConfig = SparseConfig()
    """Pruning of the sparse model (level sparse)."""
    readable: ReadableConfig = ReadableConfig()
    """The readable program (level readable)."""
    measure: MeasureConfig = MeasureConfig()
    """Measures (all levels but exact)."""

    def validate(self) -> None:
        """Refuse settings that cannot work, whatever the model.

        Raises:
            ConfigError: a value is out of its bounds, or settings contradict each other.
        """
        super().validate()
        chosen = self.dictionaries
        if self.level != "sparse" or chosen.folder is not None:
            return
        for name, value, fits in (
            ("moved", chosen.moved, chosen.moved > 0),
            ("rules", chosen.rules, chosen.rules > 0),
            ("moved-from", chosen.moved_from, chosen.moved_from == 0),
            ("skip", chosen.skip, not chosen.skip),
        ):
            if not fits:
                raise ConfigError(
                    f"--{name} is {value}; a sparse program starts from a dictionary for every attention output and a "
                    "transcoder without a matrix for every MLP; correct it, or take --level featured"
                )

    def without_effect(self) -> set[str]:
        """Return the flags of the settings that change nothing at this level."""
        sparse, fitted = [self.start, self.sparse], [self.dictionaries, self.fit]
        measured = [self.texts, self.measure]
        groups = {
            "exact": [*measured, *fitted, *sparse, self.readable],
            "featured": [*sparse, self.readable, self.measure.readable],
            "sparse": [self.readable, self.measure.readable],
            "readable": [*fitted, *sparse],
        }[self.level]
        return {flag for group in groups for flag in group.flags()} | ({"--seed"} if self.level == "exact" else set())

    def validate_for(self, spec: ModelSpec) -> None:
        """Refuse settings that cannot work for a model of this shape.

        Raises:
            ConfigError: no dictionary would be left.
        """
        chosen = self.dictionaries
        if self.level in ("exact", "readable") or chosen.folder is not None:
            return
        if chosen.moved and not chosen.rules and chosen.moved_from >= spec.n_layers:
            raise ConfigError(
                f"--moved-from is {chosen.moved_from} and --rules is 0, leaving no dictionary in {spec.n_layers} layers"
            )
