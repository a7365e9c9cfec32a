"""What the commands do, as functions: open, decompile, score."""

from englishroom.pipeline.commands import ScoreConfig
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.decompile import decompile
from englishroom.pipeline.opening import open_talker, open_target
from englishroom.pipeline.presets import preset_of
from englishroom.pipeline.scoring import score_table

__all__ = ["DecompileConfig", "ScoreConfig", "decompile", "open_talker", "open_target", "preset_of", "score_table"]
