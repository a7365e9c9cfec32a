"""What the commands do, as functions: open, decompile, score."""

from englishroom.pipeline.decompile import decompile
from englishroom.pipeline.opening import open_talker, open_target
from englishroom.pipeline.scoring import ScoreConfig, score_table
from englishroom.pipeline.settings import DecompileConfig

__all__ = ["DecompileConfig", "ScoreConfig", "decompile", "open_talker", "open_target", "score_table"]
