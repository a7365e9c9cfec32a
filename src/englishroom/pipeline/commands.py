"""The settings of commands that take many: each is declared here, or beside what it sets, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Lt
from tyro.conf import Positional, arg

from englishroom.bounds import Amount, Count, Settings, Weight
from englishroom.errors import ConfigError
from englishroom.evaluate.config import SampleTextConfig
from englishroom.evaluate.talk import TalkOptions
from englishroom.inside.condition_config import SearchConfig
from englishroom.inside.config import CheckConfig
from englishroom.pipeline.config import ReadBlankLines, TalkerOpening
from englishroom.talkers.shipped import DEFAULT, shipped_room

LEAST_LINES = 180
"""Lines of a sketch that are there whatever it says."""
MOST_BITS_REFITTED = 12
"""Bits of a weight that a refit can round to; see ``SparseConfig.bits``."""
PROMPTS = ("Once upon a time", "Lily and Tom", "")
LABEL_ROWS = 120
"""Documents that features are named on."""


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(Settings):
    """How texts are read."""

    blank_lines: ReadBlankLines = "auto"
    """What becomes of blank lines in texts. keep: texts are read as they are. collapse: white space around a line end
    becomes one line end. auto: keep where the model writes blank lines itself, else collapse; where several models are
    named, the first decides."""


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig(ReadingConfig):
    """On what is measured."""

    text: str = "sampled"
    """Text to measure on: a file, a folder of files, a table (.jsonl, .csv, .parquet), a dataset on the Hugging Face
    hub, or "sampled", stories that come with englishroom."""
    max_documents: Count | None = None
    """Measure on this many documents from the beginning of the text; by default on all."""
    seed: Amount = 0
    """Start of the random numbers; the same seed gives the same result."""


@dataclass(frozen=True)
class SampleConfig(SampleTextConfig):
    """Which talker to sample, and how."""

    talker: Annotated[Positional[str], arg(metavar="[TALKER]")] = DEFAULT
    """What to sample: a room, a sketch, the name of a shipped model, a model folder, a .bin file, or a hub name."""
    opening: TalkerOpening = TalkerOpening()
    """How the talker is opened."""


@dataclass(frozen=True)
class ScoreConfig(MeasuringConfig):
    """What to score, on what, and beside what."""

    talkers: Annotated[Positional[tuple[str, ...]], arg(metavar="TALKER ...", help_behavior_hint="(required)")]
    """Rooms, sketches, shipped models, model folders or .bin files, or hub names; all are compared with the first."""
    baselines: bool = False
    """Measure, for every model named, simple talkers to compare with: the model with layers replaced or with quantised
    or pruned weights, and n-grams."""
    fit: tuple[str, ...] = ("sampled:fit",)
    """Texts that the baselines are fitted on; they must not share a document with --text."""
    choose: str = "sampled:choose"
    """Text that settings of the baselines are chosen on; it must not share a document with --text."""
    greedy_prompts: Amount = 32
    """How many beginnings of documents all talkers continue with the likeliest tokens, to compare their texts; 0 leaves
    that out."""
    opening: TalkerOpening = TalkerOpening()
    """How talkers are opened."""

    def validate(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: a value is out of its bounds, or there is no talker.
        """
        super().validate()
        if not self.talkers:
            raise ConfigError("no talker to score; name at least one room or model")


@dataclass(frozen=True)
class CompareConfig(MeasuringConfig):
    """What to compare, and on what."""

    first: Annotated[Positional[str], arg(metavar="FIRST")]
    """A room, a sketch, a shipped model (tiny-1l, tiny-2l), a model folder, a llama2.c .bin file, or a name on the
    Hugging Face hub. It is called A in what is printed."""
    second: Annotated[Positional[str], arg(metavar="SECOND")]
    """Another one, with the same tokenizer. It is called B."""
    prompts: Annotated[tuple[str, ...], arg(name="prompt")] = PROMPTS
    """Beginnings of stories that both continue; an empty one lets them begin a story."""
    top: Amount = 8
    """How many tokens to show on which A is much better than B, and as many on which B is."""
    opening: TalkerOpening = TalkerOpening()
    """How models are opened."""


@dataclass(frozen=True)
class TalkConfig(Settings):
    """Who talks, from which prompt, and how."""

    talker: Annotated[Positional[str], arg(metavar="[TALKER]")] = ""
    """A room, a sketch, a shipped model (tiny-1l, tiny-2l), a model folder, a llama2.c .bin file, or a name on the
    Hugging Face hub; by default the room that comes with englishroom."""
    prompt: Annotated[Positional[str], arg(metavar="[PROMPT]")] = ""
    """Beginning of the story, which is then continued; by default a new story is begun."""
    choice: TalkOptions = TalkOptions()
    """How the next token is chosen."""
    opening: TalkerOpening = TalkerOpening()
    """How models are opened."""
    explain: bool = False
    """Explain every token: which features are on, which rules fired, which earlier tokens were copied, and how much
    each of them adds to the token's log-probability. Of a readable room: the few features needed for the answer, what
    each votes for, why it is on, and what would be said without it. For rooms of level sparse."""
    told: str | None = None
    """Explain the tokens of this text, and write nothing new."""

    @property
    def name(self) -> str:
        """The name or path of the talker."""
        return self.talker or str(shipped_room())


@dataclass(frozen=True)
class ShowConfig(Settings):
    """What to show of a room."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """The room: a folder that englishroom decompile wrote."""
    blocks: bool = False
    """List the blocks of the program, too: its steps, with what each reads and the sizes of its tables."""
    records: bool = False
    """List every single change, too, that the passes of the decompilation made to the program."""


@dataclass(frozen=True)
class MemoryConfig(Settings):
    """What to measure, and on what."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room of level sparse."""
    text: str = "sampled"
    """Text to measure the loss on, which the room was not fitted on: a file, a folder of files, a table, a dataset on
    the Hugging Face hub, or "sampled", stories that come with englishroom."""
    fit: str | None = None
    """Where features are taken out, each is replaced by its mean on this text; by default the text that the room was
    fitted on."""


@dataclass(frozen=True)
class LabelConfig(Settings):
    """What to name, after which text."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room of level sparse. Its program, labels and manifest are written anew."""
    text: str | None = None
    """Text on which is seen what each feature does; by default the one that the room was fitted on. The text that the
    room is judged on is refused."""
    rows: Count = LABEL_ROWS
    """Read this many documents from the beginning of the text."""


@dataclass(frozen=True)
class ExplainCheckConfig(ReadingConfig):
    """What to check, on what, and how strictly."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room of level sparse."""
    text: str = "sampled"
    """Text of which tokens are explained: a file, a folder of files, a table, a dataset on the Hugging Face hub, or
    "sampled", stories that come with englishroom."""
    check: CheckConfig = CheckConfig()
    """How much is checked, and what passes."""


@dataclass(frozen=True)
class FrontierConfig(MeasuringConfig):
    """What to sweep, and on what to measure."""

    rooms: Annotated[Positional[tuple[Path, ...]], arg(metavar="ROOM ...", help_behavior_hint="(required)")]
    """Rooms of one model; the program of the first sparse one is quantised and pruned in steps."""
    bits: tuple[str, ...] = ("8", "6", "5", "4", "3", "2", "ternary")
    """Bits of each number that the program is quantised to, one program for each: 1 to 16, or ternary."""
    keep: tuple[Annotated[float, Interval(gt=0, le=1)], ...] = (0.8, 0.6, 0.4, 0.2)
    """Shares of its edges that the program is pruned to, one program for each."""
    refit: Amount = 0
    """Tokens on which each of these programs is fitted to the model again while it is made smaller; 0 refits none."""
    baselines: bool = True
    """Measure the model with quantised and with pruned weights, and n-grams, too; --no-baselines leaves them out."""
    fit: str = "sampled:fit"
    """Text that n-grams and averages are counted on, and programs are refitted on."""
    choose: str = "sampled:choose"
    """Text that settings of the baselines are chosen on."""
    model: str | None = None
    """The model that the rooms were made from, if it is no longer found under the name that it had then."""
    store: bool = False
    """Keep the result in the first sparse room (or else the first room) too; englishroom report shows it from there."""

    def validate(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: a value is out of its bounds, or there is no room.
        """
        super().validate()
        for word in self.bits:
            if word != "ternary" and not (word.isdigit() and 1 <= int(word) <= 16):
                raise ConfigError(f"--bits has {word!r}, expected 1 to 16, or ternary")
            if self.refit and word != "ternary" and int(word) > MOST_BITS_REFITTED:
                raise ConfigError(f"--bits has {word!r}, expected 1 to {MOST_BITS_REFITTED}, or ternary, with --refit")
        if not self.rooms:
            raise ConfigError("no room to sweep; name one or more")

    @property
    def precisions(self) -> list[int | Literal["ternary"]]:
        """The precisions to sweep."""
        return ["ternary" if word == "ternary" else int(word) for word in self.bits]


@dataclass(frozen=True)
class SketchConfig(ReadingConfig):
    """What to sketch, on what, and how short."""

    talker: Annotated[Positional[str], arg(metavar="[TALKER]")] = DEFAULT
    """What to sketch: a room, a shipped model, a model folder or .bin file, or a hub name."""
    share: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the talker's behaviour to keep in as few lines as possible, 1 - KL(talker‖sketch) / KL(talker‖unigram);
    by default as much as fits into --lines."""
    lines: Annotated[int, Ge(LEAST_LINES)] = 299
    """The most lines that the file may have."""
    fit: tuple[str, ...] = ("sampled:fit",)
    """Texts to fit on: files, folders, hub datasets, or parts of the ready corpus."""
    choose: str = "sampled:choose"
    """Text that the number of lines is chosen on; it must not share a document with the others."""
    report: str = "sampled:report"
    """Text that is reported on; it must not share a document with the others."""
    positions: Annotated[int, Ge(1000)] = 40_000
    """Tokens of --fit to fit on."""
    report_positions: Annotated[int, Ge(100)] = 20_000
    """Tokens of --report to measure on."""
    words: Annotated[int, Ge(2)] | None = None
    """How many words the sketch knows; by default a number that suits --lines."""
    kinds: Annotated[int, Ge(2)] | None = None
    """How many kinds these words are sorted into; by default a number that suits --lines."""
    opening: TalkerOpening = TalkerOpening()
    """How the talker is opened."""


@dataclass(frozen=True)
class ConditionsConfig(Settings):
    """Whose conditions to search or to run, and on what."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room of the sparse level, with labels."""
    text: str | None = None
    """Text to search or fit on, never the one that the room is judged on; by default the one fitted on."""
    held_out: str = "sampled"
    """Text to measure on: a file, a folder, a hub dataset, or "sampled", the ready corpus."""
    rows: Count = 600
    """Documents of --text to read."""
    held_out_rows: Count = 100
    """Documents of --held-out to read."""


@dataclass(frozen=True)
class ExplainFeaturesConfig(ConditionsConfig):
    """Whose features to explain, on what, and how."""

    features: Count | None = None
    """Explain only so many features of each variable, the most important ones; by default all."""
    nulls: Amount = 60
    """Features for which the search is done again on activations shifted against the text, to show what chance makes of
    it."""
    seed: Amount = 0
    """Seed of the shuffles and shifts."""
    search: Annotated[SearchConfig, arg(name="")] = SearchConfig()
    """How conditions are searched."""


@dataclass(frozen=True)
class ReadabilityConfig(Settings):
    """What to measure, and on what."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room that was made with --level readable. Its manifest is written anew."""
    text: str = "sampled"
    """Text to measure on, which the room was not fitted on: a file, a folder of files, a table, a dataset on the
    Hugging Face hub, or "sampled", stories that come with englishroom."""
    max_documents: Count = 100
    """Measure on this many documents from the beginning of the text."""
    positions: Count = 80
    """Positions at which the voters and the table entries that are needed are counted, spread over the documents."""
    seed: Amount = 0
    """Start of the random numbers: which positions, and how the null is shuffled."""


@dataclass(frozen=True)
class ExplainedConfig(ConditionsConfig):
    """Whose explanations to write as a program, and on what to fit and measure it."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A readable room, explained by englishroom explain-features."""
    rows: Count = 1_300
    """Documents of --text to read."""
    steps: Amount = 1_500
    """Steps in which votes are fitted, each on 1,024 places in the text; 0 leaves votes as they are."""
    measured: Amount = 20
    """Features for which it is measured what their explanation costs; for all it is estimated."""
    listed: Amount = 10
    """Features to print, those whose explanations cost most."""
    seed: Amount = 0
    """Start of the random numbers."""


@dataclass(frozen=True)
class SliceConfig(Settings):
    """What to slice, for which text, and how near it stays."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """A room of the sparse level."""
    text: str
    """The text itself (no file name), as it stands at the beginning of a document."""
    tolerance: Weight = 0.05
    """Nats by which the slice may differ from the program at any position of the text; 0 allows no difference."""
    same: Literal["tokens", "distributions"] = "tokens"
    """What must stay the same: the log-probability of each token of the text, or the whole distribution (KL)."""
    evaluations: Count = 1000
    """How many smaller programs to try at most; more find smaller slices."""
    fold: bool = True
    """Add to the biases what the left-out entries add on average; --no-fold leaves that out."""
    seed: Amount = 0
    """Seed of the tokens that are drawn to find out how important entries are."""


@dataclass(frozen=True)
class ReportConfig(Settings):
    """What to report on, and what to measure for it."""

    room: Annotated[Positional[Path | None], arg(metavar="[ROOM]")] = None
    """The room; by default the one that ships with englishroom."""
    text: Annotated[str | None, arg(name="report")] = None
    """Measure on this text, the table of scores too; by default only what the room does not hold is measured, on the
    text that the room was measured on."""
    max_documents: Count | None = None
    """Measure on only so many documents, the first of the text; by default all."""
    frontier: Path | None = None
    """Result of englishroom frontier (frontier.json or its folder); by default the one in the room."""
    model: str | None = None
    """The model that the room was made from, if it is no longer found under the name that it had then."""
    prompts: Annotated[tuple[str, ...], arg(name="prompt")] = PROMPTS
    """Prompts that the model and the program both continue; an empty one begins a new story."""
    seed: Amount = 0
    """Seed of the stories and of the intervals."""

    @property
    def path(self) -> Path:
        """The folder of the room."""
        return shipped_room() if self.room is None else self.room
