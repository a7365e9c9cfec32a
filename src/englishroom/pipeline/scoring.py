"""From talkers and a text to the table of what they score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from englishroom.data.overlap import overlap_warning, read_marks
from englishroom.data.texts import Text, check_name
from englishroom.errors import ConfigError
from englishroom.evaluate.rising_loss import rising_loss
from englishroom.pipeline.commands import ScoreConfig
from englishroom.pipeline.opening import open_talker
from englishroom.pipeline.texts import TalkerTexts
from englishroom.steps import Progress, Say, silent
from englishroom.talker import Talker
from englishroom.talkers.ladder import read_runs
from englishroom.talkers.record import find_curve, read_training
from englishroom.talkers.shipped import marks_path

if TYPE_CHECKING:  # torch loads only where a target is needed
    from englishroom.evaluate.score_table import ScoreRow, ScoreTable
    from englishroom.evaluate.tabulate import Known, ScoredTalker
    from englishroom.evaluate.talkers.target import TargetTalker


def score_table(config: ScoreConfig, say: Say = silent, progress: Progress = silent) -> ScoreTable:
    """Score talkers on a text, the first of them as the target; with baselines, every model beside its own.

    1. Open the talkers, and read the texts as these say blank lines; none may share a document with the one that is
       reported on.
    2. Warn where a model saw the text in training.
    3. Make the baselines of every model.
    4. Judge all that read the same tokens side by side, and say what each number is worth.

    Raises:
        EnglishRoomError: a text, a talker or a setting will not do.
    """
    from englishroom.evaluate.score_table import ScoreTable
    from englishroom.evaluate.tabulate import ScoredTalker, tabulate

    config.validate()
    for name in (config.text, *((*config.fit, config.choose) if config.baselines else ())):
        check_name(name)
    talkers = [open_talker(name, say=say, **asdict(config.opening)) for name in config.talkers]
    texts = TalkerTexts(talkers, config.blank_lines, say, progress)
    text = texts.open(config.text, "--text", config.max_documents)
    beside = _Beside.read(config, text, texts) if config.baselines else None
    notes = [line for talker in talkers if (line := _overlap(talker, text)) is not None]
    notes += [line for talker in filter(_is_model, talkers) if (line := rising_loss(talker, text.documents, False))]
    for line in notes:
        say(line)
    rows, categories = [], []
    for lead, others in _groups(talkers, every_model=beside is not None):
        entries = [ScoredTalker.of(lead, "target"), *map(ScoredTalker.of, others)]
        if beside is not None:
            say(f"{lead.name}: making the baselines, fitted on {beside.fit.name}")
            entries += beside.baselines(lead, config.seed, progress)
        found = tabulate(entries, lead, text, known_of(lead, text), config.greedy_prompts, config.seed, progress)
        rows += found.rows
        categories += found.categories
        notes += found.settings["notes"]
        if beside is not None:
            rows.append(beside.hindsight(lead, text, progress))
    settings = {flag.removeprefix("--").replace("-", "_"): value for flag, value in config.flags().items()}
    if beside is not None:
        settings |= {"fit_sha256": beside.fit.sha256, "choose_sha256": beside.choose.sha256}
    return ScoreTable(text.about() | {"bytes": text.n_bytes}, rows, categories, settings | {"notes": notes})


@dataclass(frozen=True)
class _Beside:
    """The texts of the baselines."""

    fit: Text
    choose: Text

    @classmethod
    def read(cls, config: ScoreConfig, report: Text, texts: TalkerTexts) -> _Beside:
        from englishroom.evaluate.baselines import check_texts

        found = cls(texts.joined(config.fit, "--fit"), texts.open(config.choose, "--choose"))
        check_texts(found.fit, found.choose, report)
        return found

    def baselines(self, lead: Talker, seed: int, progress: Progress) -> list[ScoredTalker]:
        from englishroom.evaluate.baselines import baselines

        return list(baselines(_model(lead), self.fit, self.choose, seed, progress))

    def hindsight(self, lead: Talker, text: Text, progress: Progress) -> ScoreRow:
        from englishroom.evaluate.baselines import hindsight_row

        return hindsight_row(_model(lead), self.fit, text, progress)


def _groups(talkers: Sequence[Talker], every_model: bool) -> list[tuple[Talker, list[Talker]]]:
    """Say who is compared with whom: all with the first; or every model by itself, and rooms with the first model."""
    if not every_model:
        return [(talkers[0], list(talkers[1:]))]
    models = [talker for talker in talkers if _is_model(talker)]
    if not models:
        raise ConfigError("--baselines are made of a model, and none is named; name the model beside the room")
    rooms = [talker for talker in talkers if not _is_model(talker)]
    return [(model, rooms if model is models[0] else []) for model in models]


def _is_model(talker: Talker) -> bool:
    return hasattr(talker, "target")


def _model(talker: Talker) -> TargetTalker:
    from englishroom.evaluate.talkers.target import TargetTalker

    assert isinstance(talker, TargetTalker)
    return talker


def _overlap(talker: Talker, text: Text) -> str | None:
    if not _is_model(talker) or (marks := marks_path(_model(talker).target.path)) is None:
        return None
    return overlap_warning(talker.name, read_marks(marks), text)


def known_of(talker: Talker, text: Text) -> Known:
    """Look up what is known of a model's training: its curve on a text, and the ladder that read the same text."""
    from englishroom.evaluate.tabulate import Known

    if not _is_model(talker):
        return Known()
    target = _model(talker).target
    record = read_training(target.path)
    if record is None or target.cut_from is not None:  # a curve was measured with the whole context
        return Known()
    ladder = [run for run in read_runs() if run.fit_sha256 == record["fit_sha256"]]
    return Known(find_curve(record, text.sha256), ladder)
