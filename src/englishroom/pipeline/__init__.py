"""What the commands do, as functions: open, decompile, score."""

from englishroom.pipeline.decompile import DecompileConfig, decompile
from englishroom.pipeline.opening import open_talker, open_target
from englishroom.pipeline.scoring import ScoreConfig, score_table

__all__ = ["DecompileConfig", "ScoreConfig", "decompile", "open_talker", "open_target", "score_table"]
