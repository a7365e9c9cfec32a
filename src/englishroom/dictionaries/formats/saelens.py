"""SAELens folders: ``cfg.json`` and ``sae_weights.safetensors``, as its version 6 writes them.

Read: ``standard``, ``jumprelu``, ``topk`` and ``gated`` autoencoders, and ``transcoder``, ``skip_transcoder`` and their
``jumprelu_`` kinds. Their forward pass is ``act((x - a * b_dec) @ W_enc + b_enc) @ W_dec + b_dec``, with a = 0 or 1
(``apply_b_dec_to_input``; 0 for transcoders), and ``+ x @ W_skip.T``. Any kind may name another site to write,
``metadata.hook_name_out``; that is how a TopK transcoder is written, for which there is no kind of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats.files import check_keys, checked_tensors, make_dictionary, tensors_to_bytes
from englishroom.dictionaries.formats.fold import check_holds, scale_latents, shift_input, thresholds, ungate
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat, in_new_folder
from englishroom.dictionaries.formats.sites import lens_pair, to_lens
from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.models.adapters.mapping import Config
from englishroom.models.load import read_safetensors
from englishroom.models.weight_files import read_json

NAME = "SAELens"
MARKER = "sae_weights.safetensors"
CONFIG = "cfg.json"
VERSION = "6.0.0"
"""The version whose layout is written; SAELens takes files without one for older ones."""
_REQUIRED = ("architecture", "d_in", "d_sae", "metadata")
_OPTIONAL = ("dtype", "device", "apply_b_dec_to_input", "normalize_activations", "reshape_activations")
_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "standard": (),
    "jumprelu": (),
    "gated": (),
    "topk": ("k", "rescale_acts_by_decoder_norm"),
    "transcoder": ("d_out",),
    "skip_transcoder": ("d_out",),
    "jumprelu_transcoder": ("d_out",),
    "jumprelu_skip_transcoder": ("d_out",),
}


def read(folder: Path) -> list[Dictionary]:
    """Read the dictionary of one folder.

    Raises:
        UnsupportedModelError: it is of a kind, or was trained in a way, that a :class:`Dictionary` cannot hold exactly.
        ArtifactError: its files are damaged, incomplete or contradict each other.
    """
    where = folder / CONFIG
    values = read_json(where)
    if "metadata" not in values:
        raise UnsupportedModelError(f"{where}: has no metadata, so an older SAELens wrote it; save it with SAELens 6")
    config = Config(values, str(where))
    kind = config.require("architecture", tuple(_OF_KIND), None)
    check_keys(values, (*_REQUIRED, *_OF_KIND[kind]), _OPTIONAL, where)
    metadata = values["metadata"]
    if not isinstance(metadata, dict):
        raise ArtifactError(f"{where}: metadata is {metadata!r}, expected names with values; repair the config")
    config.require("normalize_activations", ("none",), "none")
    config.require("reshape_activations", ("none",), "none")
    if metadata.get("hook_head_index") is not None:
        raise UnsupportedModelError(f"{where}: reads one head (metadata.hook_head_index); supported: whole sites")
    transcodes = kind.endswith("transcoder")
    shifted = config.flag("apply_b_dec_to_input", not transcodes)
    if shifted and transcodes:
        raise UnsupportedModelError(f"{where}: apply_b_dec_to_input is true, which no {kind} has; repair the config")
    reads, writes = lens_pair(metadata, where)
    d_in, n = config.size("d_in"), config.size("d_sae")
    d_out = config.size("d_out") if transcodes else d_in
    spec: dict[str, Any] = {"reads": reads, "writes": (writes,), "d_in": d_in, "d_out": d_out, "n_latents": n}
    spec |= {"activation": "jumprelu", "k": None, "skip": "skip" in kind}

    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, n), "W_dec": (n, d_out), "b_dec": (d_out,)}
    shapes |= dict.fromkeys(("r_mag", "b_mag", "b_gate") if kind == "gated" else ("b_enc",), (n,))
    if kind.startswith("jumprelu"):
        shapes["threshold"] = (n,)
    if spec["skip"]:
        shapes["W_skip"] = (d_out, d_in)
    w = checked_tensors(read_safetensors(folder / MARKER), shapes, folder / MARKER)

    if kind == "gated":
        w = {"W_dec": w["W_dec"], "b_dec": w["b_dec"], **ungate(w["W_enc"], w["r_mag"], w["b_mag"], w["b_gate"])}
    elif kind == "topk":
        spec |= {"activation": "topk", "k": config.size("k")}
    else:
        w["threshold"] = w.get("threshold", torch.zeros_like(w["b_enc"])).clamp(min=0)  # a ReLU comes first
    if shifted:
        w = shift_input(w, w["b_dec"])
    if kind == "topk" and config.flag("rescale_acts_by_decoder_norm", False):
        norms = w["W_dec"].double().norm(dim=1)
        if not bool(norms.all()):
            raise ArtifactError(
                f"{folder / MARKER}: W_dec has a row of zeros, and rescale_acts_by_decoder_norm divides by its length; "
                "remove that latent"
            )
        w = scale_latents(w, norms)
    if spec["skip"]:
        w["W_skip"] = w["W_skip"].T
    return [make_dictionary(spec, w, folder)]


def contents(dictionaries: Sequence[Dictionary], model: CodedModel) -> dict[str, bytes]:
    """Lay dictionaries out as files, each in a folder of its own.

    Raises:
        UnsupportedModelError: SAELens has no kind that computes what one of them does.
    """
    files: dict[str, bytes] = {}
    for dictionary in dictionaries:
        folder = folder_name(dictionary)
        cfg, tensors = _described(dictionary, model.name)
        files[f"{folder}/{CONFIG}"] = json.dumps(cfg, indent=1).encode()
        files[f"{folder}/{MARKER}"] = tensors_to_bytes(tensors)
    return files


def folder_name(dictionary: Dictionary) -> str:
    """Name a dictionary's folder by its sites."""
    spec = dictionary.spec
    return spec.reads if spec.reads == spec.writes[0] else f"{spec.reads}-to-{spec.writes[0]}"


def _described(dictionary: Dictionary, target_name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the settings and tensors that SAELens expects."""
    spec = dictionary.spec
    transcodes = spec.skip or (spec.reads != spec.writes[0] and spec.activation != "topk")
    check_holds(dictionary, NAME, square=not transcodes)
    if spec.skip and spec.activation == "topk":
        raise UnsupportedModelError(
            f"{spec.name}: SAELens has no TopK dictionary with a skip; give it thresholds, or write it as sparsify"
        )
    metadata: dict[str, Any] = {"sae_lens_version": VERSION, "sae_lens_training_version": None}
    metadata |= {"model_name": target_name, "hook_name": to_lens(spec.reads)}
    if spec.reads != spec.writes[0]:
        metadata["hook_name_out"] = to_lens(spec.writes[0])
    w = {name: tensor.detach() for name, tensor in dictionary.weights.items()}
    cfg: dict[str, Any] = {
        "architecture": f"jumprelu{'_skip' * spec.skip}{'_transcoder' * transcodes}",
        "d_in": spec.d_in,
        "d_sae": spec.n_latents,
        "dtype": str(w["W_enc"].dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if transcodes:
        cfg["d_out"] = spec.d_out
    if spec.activation == "topk":
        cfg |= {"architecture": "topk", "k": spec.k, "rescale_acts_by_decoder_norm": False}
    else:
        w["threshold"] = thresholds(dictionary)
    if spec.skip:
        w["W_skip"] = w["W_skip"].T
    return cfg, w


FORMAT = DictionaryFormat("saelens", MARKER, read, in_new_folder(contents))
