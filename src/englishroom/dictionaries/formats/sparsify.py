"""Sparsify folders: ``<hookpoint>/cfg.json`` and ``sae.safetensors``; the folder's name is a Hugging Face module.

Its forward pass is ``topk(relu((x - a * b_dec) @ encoder.weight.T + encoder.bias)) @ W_dec + b_dec + x @ W_skip.T``,
with a = 1 for autoencoders and 0 for transcoders. It knows no thresholds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats.files import check_keys, checked_tensors, make_dictionary, tensors_to_bytes
from englishroom.dictionaries.formats.fold import check_holds, shift_input
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat, in_new_folder
from englishroom.dictionaries.formats.sites import module_path, module_sites
from englishroom.errors import UnsupportedModelError
from englishroom.models.adapters.mapping import Config
from englishroom.models.load import read_safetensors
from englishroom.models.weight_files import read_json

NAME = "sparsify"
MARKER = "sae.safetensors"
CONFIG = "cfg.json"
_REQUIRED = ("d_in", "k")
_OPTIONAL = (
    "activation",
    "expansion_factor",
    "normalize_decoder",  # a rule of training
    "num_latents",
    "multi_topk",  # a further loss in training
    "skip_connection",
    "transcode",
    "signed",
    "embed_skip",
    "gram_lookup",
    "lookup_max_order",
    "gram_table_hash",
)


def read(folder: Path) -> list[Dictionary]:
    """Read the dictionary of one hookpoint.

    Raises:
        UnsupportedModelError: it is of a kind that a :class:`Dictionary` cannot hold exactly.
        ArtifactError: its files are damaged, incomplete or contradict each other.
    """
    where = folder / CONFIG
    values = read_json(where)
    check_keys(values, _REQUIRED, _OPTIONAL, where)
    config = Config(values, str(where))
    config.require("activation", ("topk",), "topk")
    for key in ("signed", "embed_skip", "gram_lookup"):
        config.require(key, (False,), False)
    transcodes, skip = config.flag("transcode", False), config.flag("skip_connection", False)
    d, k = config.size("d_in"), config.size("k")
    n = config.size("num_latents") if values.get("num_latents") else d * config.size("expansion_factor", 32)
    reads, writes = module_sites(folder.resolve().name, where)
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (n, d),
        "encoder.bias": (n,),
        "W_dec": (n, d),
        "b_dec": (d,),
    }
    if skip:
        shapes["W_skip"] = (d, d)
    theirs = checked_tensors(read_safetensors(folder / MARKER), shapes, folder / MARKER)
    w = {"W_enc": theirs["encoder.weight"].T, "b_enc": theirs["encoder.bias"]}
    w |= {name: theirs[name] for name in ("W_dec", "b_dec")}
    if not transcodes:
        w = shift_input(w, w["b_dec"])
    if skip:
        w["W_skip"] = theirs["W_skip"].T
    spec = {"reads": reads if transcodes else writes, "writes": (writes,), "d_in": d, "d_out": d, "n_latents": n}
    return [make_dictionary({**spec, "activation": "topk", "k": k, "skip": skip}, w, folder)]


def contents(dictionaries: Sequence[Dictionary], model: CodedModel) -> dict[str, bytes]:
    """Lay dictionaries out as files, each in the folder of its module.

    Args:
        family: of the target, whose modules the folders are named after.

    Raises:
        UnsupportedModelError: no module stands where one of them does, two stand at one, or one is no TopK dictionary.
    """
    files: dict[str, bytes] = {}
    for dictionary in dictionaries:
        spec = dictionary.spec
        check_holds(dictionary, NAME)
        if spec.activation != "topk":
            raise UnsupportedModelError(f"{spec.name}: sparsify knows TopK only, not {spec.activation}; use saelens")
        folder = module_path(spec.reads, spec.writes[0], model.family)
        if f"{folder}/{CONFIG}" in files:
            raise UnsupportedModelError(f"{spec.name}: another dictionary stands at {folder}; write them apart")
        transcodes = spec.reads != spec.writes[0]
        w = {name: tensor.detach() for name, tensor in dictionary.weights.items()}
        if not transcodes:
            w = shift_input(w, -w["b_dec"])
        tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
        if spec.skip:
            tensors["W_skip"] = w["W_skip"].T
        cfg: dict[str, Any] = {
            "activation": "topk",
            "expansion_factor": max(1, spec.n_latents // spec.d_in),
            "normalize_decoder": False,
            "num_latents": spec.n_latents,
            "k": spec.k,
            "multi_topk": False,
            "skip_connection": spec.skip,
            "transcode": transcodes,
            "d_in": spec.d_in,
        }
        files[f"{folder}/{CONFIG}"] = json.dumps(cfg, indent=1).encode()
        files[f"{folder}/{MARKER}"] = tensors_to_bytes(tensors)
    return files


FORMAT = DictionaryFormat("sparsify", MARKER, read, in_new_folder(contents))
