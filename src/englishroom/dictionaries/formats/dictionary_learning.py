"""Folders of dictionary_learning: ``ae.pt``, a torch file of weights only, and ``config.json``.

Read: ``AutoEncoder``, ``AutoEncoderNew``, ``AutoEncoderTopK``, ``BatchTopKSAE``, ``MatryoshkaBatchTopKSAE`` with all of
its groups, ``GatedAutoEncoder`` and ``JumpReluAutoEncoder``. Values of latents are those of version 0.1.0, which does
not multiply them by the length of the decoder's rows; what is written is the same in either case. It holds
autoencoders only.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats.files import checked_tensors, make_dictionary, take_number
from englishroom.dictionaries.formats.fold import check_holds, shift_input, thresholds, ungate
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat, in_new_folder
from englishroom.dictionaries.formats.saelens import folder_name
from englishroom.dictionaries.formats.sites import from_lens, module_sites, split, to_lens
from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.models.adapters.mapping import Config
from englishroom.models.load import read_torch
from englishroom.models.weight_files import read_json

NAME = "dictionary_learning"
MARKER = "ae.pt"
CONFIG = "config.json"
_LINEAR = {"encoder.weight": ("n", "d"), "encoder.bias": ("n",), "decoder.weight": ("d", "n")}
_PLAIN = {"W_enc": ("d", "n"), "b_enc": ("n",), "W_dec": ("n", "d"), "b_dec": ("d",)}
_KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "AutoEncoder": {**_LINEAR, "bias": ("d",)},
    "AutoEncoderNew": {**_LINEAR, "decoder.bias": ("d",)},
    "AutoEncoderTopK": {**_LINEAR, "b_dec": ("d",)},
    "BatchTopKSAE": {**_LINEAR, "b_dec": ("d",)},
    "MatryoshkaBatchTopKSAE": _PLAIN,
    "GatedAutoEncoder": {
        "decoder_bias": ("d",),
        "encoder.weight": ("n", "d"),
        "r_mag": ("n",),
        "gate_bias": ("n",),
        "mag_bias": ("n",),
        "decoder.weight": ("d", "n"),
    },
    "JumpReluAutoEncoder": {**_PLAIN, "threshold": ("n",)},
}
"""The tensors of every class, with axes n (latents) and d (what is read)."""
_BATCH = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")


def read(folder: Path) -> list[Dictionary]:
    """Read the dictionary of one folder.

    Raises:
        UnsupportedModelError: it is of a class, or stands at a place, that is not supported.
        ArtifactError: its files are damaged, incomplete or contradict each other, or hold more than tensors.
    """
    where, weights_at = folder / CONFIG, folder / MARKER
    values = read_json(where)
    if not isinstance(values.get("trainer"), dict):
        raise ArtifactError(f"{where}: trainer is {values.get('trainer')!r}, expected its settings; restore the file")
    config = Config(values["trainer"], f"{where}: trainer")
    kind = config.require("dict_class", tuple(_KINDS), None)
    tensors = read_torch(weights_at, "save its state_dict()")
    site = _site(config, values.get("buffer"), where)
    d, n = config.size("activation_dim"), config.size("dict_size")
    spec: dict[str, Any] = {"reads": site, "writes": (site,), "d_in": d, "d_out": d, "n_latents": n}
    spec |= {"activation": "jumprelu", "k": None}
    bound = None
    if kind in ("AutoEncoderTopK", *_BATCH):
        stored, bound = take_number(tensors, "k", weights_at), take_number(tensors, "threshold", weights_at)
        tensors.pop("group_sizes", None)
        k = config.size("k")
        if stored is not None and stored != k:
            raise ArtifactError(f"{weights_at}: k is {stored:g}, but {CONFIG} says {k}; they do not belong together")
        spec |= {"activation": "batchtopk" if kind in _BATCH else "topk", "k": k}
        if kind in _BATCH and bound is None:
            raise ArtifactError(f"{weights_at}: tensor threshold is missing; restore the file")
    size = {"n": n, "d": d}
    shapes = {name: tuple(size[axis] for axis in axes) for name, axes in _KINDS[kind].items()}
    w = _ours(kind, checked_tensors(tensors, shapes, weights_at))
    if kind in _BATCH and bound is not None:
        w["threshold"] = torch.full_like(w["b_enc"], max(bound, 0.0))  # one below 0 has not been measured; a ReLU
    return [make_dictionary(spec, w, folder)]


def _ours(kind: str, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fold the tensors of a class."""
    if kind == "GatedAutoEncoder":
        w = ungate(theirs["encoder.weight"].T, theirs["r_mag"], theirs["mag_bias"], theirs["gate_bias"])
        w |= {"W_dec": theirs["decoder.weight"].T, "b_dec": theirs["decoder_bias"]}
    elif "encoder.weight" in theirs:
        w = {"W_enc": theirs["encoder.weight"].T, "b_enc": theirs["encoder.bias"], "W_dec": theirs["decoder.weight"].T}
        w["b_dec"] = theirs[{"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")]
    else:
        w = dict(theirs)
    if kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"):
        w = shift_input(w, w["b_dec"])
    if kind in ("AutoEncoder", "AutoEncoderNew", "JumpReluAutoEncoder"):
        w["threshold"] = w.get("threshold", torch.zeros_like(w["b_enc"])).clamp(min=0)  # a ReLU comes last
    return w


def _site(config: Config, buffer: Any, where: Path) -> str:
    """Find the site; their names of modules are free, so the common ones are known."""
    name = config.get("submodule_name")
    side = (buffer or {}).get("io", "out") if isinstance(buffer, dict | None) else "out"
    if side not in ("in", "out"):
        raise UnsupportedModelError(f"{where}: buffer.io is {side!r}; supported: in, out (autoencoders)")
    if isinstance(name, str) and name.startswith("blocks."):
        return from_lens(name, where)
    if isinstance(name, str) and (found := re.fullmatch(r"(resid_post|attn_out|mlp_out)(?:_layer_(\d+))?", name)):
        layer = found[2] if found[2] is not None else config.get("layer")
        return from_lens(f"blocks.{layer}.hook_{found[1]}", where)
    if isinstance(name, str):
        return module_sites(name, where)[side == "out"]
    raise UnsupportedModelError(
        f"{where}: trainer.submodule_name is {name!r}, so its place is not known; write a site there, such as "
        "blocks.0.hook_resid_post, or a module, such as h.0.mlp"
    )


def contents(dictionaries: Sequence[Dictionary], model: CodedModel) -> dict[str, bytes]:
    """Lay dictionaries out as files, each in a folder of its own.

    Raises:
        UnsupportedModelError: one of them is no plain autoencoder.
    """
    files: dict[str, bytes] = {}
    for dictionary in dictionaries:
        spec = dictionary.spec
        check_holds(dictionary, NAME)
        if spec.reads != spec.writes[0] or spec.skip:
            raise UnsupportedModelError(
                f"{spec.name}: dictionary_learning holds autoencoders only, no transcoder or skip; write it as saelens"
            )
        kind, tensors = _theirs(dictionary)
        trainer: dict[str, Any] = {"trainer_class": None, "dict_class": kind, "activation_dim": spec.d_in}
        trainer |= {"dict_size": spec.n_latents, "layer": split(spec.reads)[0], "lm_name": model.name}
        trainer |= {"submodule_name": to_lens(spec.reads)} | ({"k": spec.k} if "k" in tensors else {})
        settings = {"trainer": trainer, "buffer": {"d_submodule": spec.d_in, "io": "out"}}
        stream = io.BytesIO()
        torch.save({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, stream)
        files[f"{folder_name(dictionary)}/{CONFIG}"] = json.dumps(settings, indent=1).encode()
        files[f"{folder_name(dictionary)}/{MARKER}"] = stream.getvalue()
    return files


def _theirs(dictionary: Dictionary) -> tuple[str, dict[str, Tensor]]:
    """Choose the class that computes the same, and return its tensors."""
    spec, w = dictionary.spec, {name: tensor.detach() for name, tensor in dictionary.weights.items()}
    bounds = None if spec.activation == "topk" else thresholds(dictionary)
    if spec.activation == "jumprelu" or (bounds is not None and float(bounds.min()) != float(bounds.max())):
        return "JumpReluAutoEncoder", w
    moved = shift_input(w, -w["b_dec"])
    tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": moved["b_enc"], "decoder.weight": w["W_dec"].T}
    tensors |= {"b_dec": w["b_dec"], "k": torch.tensor(spec.k, dtype=torch.int32)}
    tensors["threshold"] = torch.tensor(-1.0) if bounds is None else bounds[0]
    return ("AutoEncoderTopK" if bounds is None else "BatchTopKSAE"), tensors


FORMAT = DictionaryFormat("dictionary_learning", MARKER, read, in_new_folder(contents))
