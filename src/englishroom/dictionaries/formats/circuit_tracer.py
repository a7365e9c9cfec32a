"""Folders of circuit-tracer: ``config.yaml``, and a transcoder for the MLP of every layer.

A set of transcoders has ``layer_{i}.safetensors`` each; a cross-layer transcoder ``W_enc_{i}.safetensors`` (with its
biases) and ``W_dec_{i}.safetensors``, [latent, layer - i, d], for what layer i writes to its own MLP and to all later
ones. All layers have as many latents; ours that have fewer get silent ones. Its ReLU and JumpReLU are ours. TopK is
refused both ways: version 0.5 would read such files as ReLU, and later ones keep negative latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import files
from englishroom.dictionaries.formats.fold import check_holds, pad_latents, thresholds
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat, in_new_folder
from englishroom.dictionaries.formats.sites import from_lens, split, to_lens
from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.models.adapters.mapping import Config
from englishroom.models.load import read_safetensors

NAME = "circuit-tracer"
MARKER = "config.yaml"
THRESHOLD = "activation_function.threshold"
_REQUIRED = ("model_kind", "feature_input_hook", "feature_output_hook")
_OPTIONAL = ("model_name", "scan", "scan_name", "repo_id", "revision", "subfolder", "activation", "k", "transcoders")


def read(folder: Path) -> list[Dictionary]:
    """Read the transcoders of all layers.

    Raises:
        UnsupportedModelError: they are of a kind that a :class:`Dictionary` cannot hold exactly.
        ArtifactError: files are damaged, missing or contradict each other.
    """
    where = folder / MARKER
    values = files.read_yaml(where)
    files.check_keys(values, _REQUIRED, _OPTIONAL, where)
    config = Config(values, str(where))
    kind = config.require("model_kind", ("transcoder_set", "cross_layer_transcoder"), None)
    config.require("activation", ("relu", "jump_relu"), "jump_relu")
    if values.get("transcoders"):
        raise UnsupportedModelError(f"{where}: transcoders lie elsewhere ({values['transcoders'][0]}); fetch them")
    tails = [files.read_text(values, f"feature_{side}_hook", where) for side in ("input", "output")]
    if kind == "transcoder_set":
        n_layers = _count(folder, "layer_{}.safetensors")
        sites = _sites(tails, n_layers, where)
        return [_read_layer(folder / f"layer_{i}.safetensors", *sites[i]) for i in range(n_layers)]
    n_layers = _count(folder, "W_enc_{}.safetensors")
    sites = _sites(tails, n_layers, where)
    return [_read_crossing(folder, i, sites) for i in range(n_layers)]


def _count(folder: Path, pattern: str) -> int:
    """Count the layers that have a file, which must be the first ones."""
    before, after = pattern.split("{}")
    found = {p.name for p in folder.glob(pattern.format("*"))}
    wanted = {f"{before}{i}{after}" for i in range(len(found))}
    if not found or found != wanted:
        missing = sorted(wanted - found) or [pattern.format(0)]
        raise ArtifactError(f"{folder / missing[0]}: missing; every layer from the first on must have a transcoder")
    return len(found)


def _sites(tails: Sequence[str], n_layers: int, where: Path) -> list[tuple[str, str]]:
    pairs = []
    for layer in range(n_layers):
        reads, writes = (from_lens(f"blocks.{layer}.{tail}", where) for tail in tails)
        pairs.append((reads, writes))
    return pairs


def _read_layer(path: Path, reads: str, writes: str) -> Dictionary:
    tensors = read_safetensors(path)
    n, d = files.shape_of(tensors, "W_enc", 2, path)
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (n, d), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
    skip = "W_skip" in tensors
    if skip:
        shapes["W_skip"] = (d, d)
    if THRESHOLD in tensors:
        shapes[THRESHOLD] = (n,)
    w = files.checked_tensors(tensors, shapes, path)
    w["threshold"] = _above_zero(w.pop(THRESHOLD, None), w["b_enc"], path)
    w["W_enc"] = w["W_enc"].T
    if skip:
        w["W_skip"] = w["W_skip"].T
    spec = {"reads": reads, "writes": (writes,), "d_in": d, "d_out": d, "n_latents": n}
    return files.make_dictionary({**spec, "activation": "jumprelu", "k": None, "skip": skip}, w, path)


def _read_crossing(folder: Path, layer: int, sites: Sequence[tuple[str, str]]) -> Dictionary:
    path, later = folder / f"W_enc_{layer}.safetensors", len(sites) - layer
    tensors = read_safetensors(path)
    n, d = files.shape_of(tensors, f"W_enc_{layer}", 2, path)
    shapes = {f"W_enc_{layer}": (n, d), f"b_enc_{layer}": (n,), f"b_dec_{layer}": (d,)}
    if f"threshold_{layer}" in tensors:
        shapes[f"threshold_{layer}"] = (n,)
    w = {name.removesuffix(f"_{layer}"): t for name, t in files.checked_tensors(tensors, shapes, path).items()}
    name, decoder_at = f"W_dec_{layer}", folder / f"W_dec_{layer}.safetensors"
    decoder = files.checked_tensors(read_safetensors(decoder_at), {name: (n, later, d)}, decoder_at)[name]
    w["W_dec"] = decoder.to(w["W_enc"].dtype).reshape(n, later * d)
    w["b_dec"] = torch.cat([w["b_dec"], w["b_dec"].new_zeros((later - 1) * d)])  # each layer adds its own, once
    w["threshold"] = _above_zero(w.get("threshold"), w["b_enc"], path)
    w["W_enc"] = w["W_enc"].T
    spec = {"reads": sites[layer][0], "writes": tuple(writes for _, writes in sites[layer:]), "d_in": d, "d_out": d}
    return files.make_dictionary({**spec, "n_latents": n, "activation": "jumprelu", "k": None}, w, path)


def _above_zero(found: Tensor | None, like: Tensor, path: Path) -> Tensor:
    """Return thresholds, those of a ReLU where there are none; below 0 their latents could be negative."""
    if found is None:
        return torch.zeros_like(like)
    if bool((found < 0).any()):
        raise UnsupportedModelError(f"{path}: a threshold is {float(found.min()):g}; supported: 0 or more")
    return found


def contents(dictionaries: Sequence[Dictionary], model: CodedModel) -> dict[str, bytes]:
    """Lay the transcoders of a model's MLPs out as files: a cross-layer transcoder where one writes several layers.

    Raises:
        UnsupportedModelError: one is no transcoder of an MLP, a layer has none or several, or they differ in kind.
    """
    by_layer: dict[int, Dictionary] = {}
    for dictionary in dictionaries:
        layer = _layer(dictionary)
        if layer in by_layer:
            raise UnsupportedModelError(f"{dictionary.spec.name}: layer {layer} has two transcoders; write them apart")
        by_layer[layer] = dictionary
    last = max((split(site)[0] or 0 for d in dictionaries for site in d.spec.writes), default=0)
    if absent := [layer for layer in range(last + 1) if layer not in by_layer]:
        raise UnsupportedModelError(
            f"layer {absent[0]} has no transcoder; circuit-tracer wants one for every layer from the first on"
        )
    ordered = [by_layer[layer] for layer in range(last + 1)]
    tail = split(to_lens(ordered[0].spec.reads))[1]
    for d in ordered:
        if split(to_lens(d.spec.reads))[1] != tail or d.spec.skip != ordered[0].spec.skip:
            raise UnsupportedModelError(
                f"{d.spec.name}: reads another kind of site than {ordered[0].spec.name}, or only one has a skip; "
                "circuit-tracer wants all layers alike"
            )
    crossing = any(len(d.spec.writes) > 1 for d in ordered)
    config: dict[str, Any] = {
        "model_name": model.name,
        "model_kind": "cross_layer_transcoder" if crossing else "transcoder_set",
        "feature_input_hook": tail,
        "feature_output_hook": "hook_mlp_out",
    }
    laid_out = {MARKER: yaml.safe_dump(config, sort_keys=False).encode()}
    n = max(d.spec.n_latents for d in ordered)
    weights = [pad_latents(_plain(d), n) for d in ordered]
    if crossing:
        return laid_out | _crossing_files(ordered, weights)
    for layer, w in enumerate(weights):
        tensors = {name: w[name] for name in ("W_dec", "b_enc", "b_dec")}
        tensors |= {"W_enc": w["W_enc"].T, THRESHOLD: w["threshold"]}
        if "W_skip" in w:
            tensors["W_skip"] = w["W_skip"].T
        laid_out[f"layer_{layer}.safetensors"] = files.tensors_to_bytes(tensors)
    return laid_out


def _layer(dictionary: Dictionary) -> int:
    """Return the layer whose MLP a transcoder stands for, after checking that it is one."""
    spec = dictionary.spec
    check_holds(dictionary, NAME, multiple=True)
    layer = split(spec.reads)[0]
    written = [split(site) for site in spec.writes]
    if layer is None or spec.reads in spec.writes or any(rest != "hook_mlp_out" for _, rest in written):
        raise UnsupportedModelError(f"{spec.name}: circuit-tracer holds transcoders of MLPs only; write it as saelens")
    if any(at is None or at < layer for at, _ in written) or (len(written) == 1 and written[0][0] != layer):
        raise UnsupportedModelError(f"{spec.name}: writes another layer than it reads; write it as englishroom")
    if spec.activation == "topk":
        raise UnsupportedModelError(
            f"{spec.name}: circuit-tracer 0.5 would run TopK as ReLU; give it thresholds (batchtopk or jumprelu)"
        )
    if spec.skip and len(written) > 1:
        raise UnsupportedModelError(f"{spec.name}: circuit-tracer reads no skip of a cross-layer transcoder")
    return layer


def _plain(dictionary: Dictionary) -> dict[str, Tensor]:
    return {name: t.detach() for name, t in dictionary.weights.items()} | {"threshold": thresholds(dictionary)}


def _crossing_files(ordered: Sequence[Dictionary], weights: Sequence[Mapping[str, Tensor]]) -> dict[str, bytes]:
    """Lay a cross-layer transcoder out; the biases of all that write a layer are added up in that layer's."""
    n_layers, d, n = len(ordered), ordered[0].spec.d_in, len(weights[0]["b_enc"])
    biases = torch.zeros(n_layers, d, dtype=torch.float64)
    decoders = []
    for layer, (dictionary, w) in enumerate(zip(ordered, weights, strict=True)):
        decoder = w["W_dec"].new_zeros(n, n_layers - layer, d)
        for index, site in enumerate(dictionary.spec.writes):
            part, at = slice(index * d, (index + 1) * d), split(site)[0]
            assert at is not None, "checked by _layer"
            biases[at] += w["b_dec"][part].double()
            decoder[:, at - layer] += w["W_dec"][:, part]
        decoders.append(decoder)
    laid_out: dict[str, bytes] = {}
    for layer, (w, decoder) in enumerate(zip(weights, decoders, strict=True)):
        tensors = {"W_enc": w["W_enc"].T, "b_enc": w["b_enc"], "b_dec": biases[layer].to(w["b_dec"].dtype)}
        tensors["threshold"] = w["threshold"]
        laid_out[f"W_enc_{layer}.safetensors"] = files.tensors_to_bytes(
            {f"{name}_{layer}": t for name, t in tensors.items()}
        )
        laid_out[f"W_dec_{layer}.safetensors"] = files.tensors_to_bytes({f"W_dec_{layer}": decoder})
    return laid_out


FORMAT = DictionaryFormat("circuit_tracer", MARKER, read, in_new_folder(contents))
