"""The names of a room's files, and what each holds."""

from collections.abc import Mapping
from types import MappingProxyType

MANIFEST = "manifest.json"
"""What the room says of itself; the only file that it does not list."""
PROGRAM, ORIGINS = "program.py", "origins.json"
CODE, TABLES, TOKENIZER = "program.ir", "tables.safetensors", "tokenizer.json"
LABELS, MEMORY, TRACE = "labels.json", "memory.json", "trace.json"
SCORES, FIDELITY, PROBES, CIRCUITS = "scores.json", "fidelity.json", "interventions.json", "circuits.json"
FRONTIER, SLICE, EXPLAINED = "frontier.json", "slice.json", "explained.json"
READABILITY = "readability.json"
LATENTS, EXAMPLES = "latents.parquet", "examples.parquet"

EVERY_ROOM: Mapping[str, str] = MappingProxyType(
    {
        PROGRAM: "the emitted program; standard library only; reads the tables beside it, after checking their sha256",
        TABLES: "every table by name, in the target's own precision (half precision is widened to float32)",
        CODE: "the program in the decompiler's own language",
        TOKENIZER: "the tokenizer, field by field (not in Hugging Face's format)",
        ORIGINS: "for runs of lines of the emitted program, `first` to `last` (from 1), the pass and the block "
        "that they come from (`made_by`, `block`)",
        MANIFEST: "what was decompiled, how, with which versions, and what was measured; the sha256 of all other files",
    }
)
"""What the files hold that stand in every room."""
SOME_ROOMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        SCORES: ("featured, sparse", "the table of `englishroom score` for target and program, categories included"),
        FIDELITY: (
            "featured",
            "the three protocols; per site the fraction of variance unexplained; per dictionary `l0` and `frac_alive`",
        ),
        PROBES: (
            "featured, readable",
            "heads and MLPs switched off in target and program: correlation and slope of effects, by kind and by part",
        ),
        CIRCUITS: (
            "featured",
            "head detectors on target and program, copying, composition, strongest pairs of features per head (QK), "
            "what moves become (OV), what the busiest rules read and vote for, edges predicted and verified",
        ),
        LATENTS: ("featured", "evidence for every latent, a row each; read by `englishroom features`"),
        EXAMPLES: ("featured", "examples of every latent in their context, a row each"),
        LABELS: ("sparse", "for every feature its label, its group, the evidence of both, and when it is on"),
        MEMORY: ("sparse", "bits and nats of what is stored and of what is worked out"),
        TRACE: (
            "sparse",
            "rules, how many fired, how many features they and head dimensions read, and the rules, features and edges "
            "that work at a position",
        ),
        READABILITY: (
            "readable",
            "how readable the program is: every measure and its null, the entries used by table, and the positions at "
            "which voters and entries needed were counted, with the counts",
        ),
        FRONTIER: ("after `englishroom frontier --store`", "what fidelity costs, point by point"),
        EXPLAINED: (
            "of `englishroom explained`",
            "what the explanations come to as they are and fitted, and what each costs in place of its feature",
        ),
        SLICE: ("of `englishroom slice`", "what was kept of how much, the gap, and the steps of the search"),
    }
)
"""Which rooms hold the other files, and what these hold."""
