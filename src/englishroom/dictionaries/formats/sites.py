"""What peers call the sites that dictionaries read and write.

TransformerLens has our names but for the norms: its ``ln2.hook_normalized`` lies *before* the norm's gain (and bias),
ours after them, where the MLP reads. That place is called ``mlp.hook_in`` by its bridge and by circuit-tracer. So our
name is written as theirs, and theirs, which has no site of ours, is refused.

Sparsify names Hugging Face modules: an autoencoder stands at a module's output, a transcoder between its input and its
output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from englishroom.errors import UnsupportedModelError
from englishroom.models.spec import Family

_SAME = (
    "hook_resid_pre",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_out",
    "hook_resid_post",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
    "mlp.hook_post",
)
_TO_LENS: Mapping[str, str] = MappingProxyType(
    {"ln1.hook_normalized": "attn.hook_in", "ln2.hook_normalized": "mlp.hook_in"} | {name: name for name in _SAME}
)
_FROM_LENS: Mapping[str, str] = MappingProxyType(
    {theirs: ours for ours, theirs in _TO_LENS.items()}
    | {"attn.hook_out": "hook_attn_out", "mlp.hook_out": "hook_mlp_out"}
)
_MODULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "": ("hook_resid_pre", "hook_resid_post"),
        "attn": ("ln1.hook_normalized", "hook_attn_out"),
        "self_attn": ("ln1.hook_normalized", "hook_attn_out"),
        "attn.attention": ("ln1.hook_normalized", "hook_attn_out"),
        "mlp": ("ln2.hook_normalized", "hook_mlp_out"),
        "mlp.c_proj": ("mlp.hook_post", "hook_mlp_out"),
        "mlp.down_proj": ("mlp.hook_post", "hook_mlp_out"),
        "ln_1": ("hook_resid_pre", "ln1.hook_normalized"),
        "input_layernorm": ("hook_resid_pre", "ln1.hook_normalized"),
        "ln_2": ("hook_resid_mid", "ln2.hook_normalized"),
        "post_attention_layernorm": ("hook_resid_mid", "ln2.hook_normalized"),
    }
)
"""A block's module -> the sites that it reads and writes."""
_BLOCK: Mapping[Family, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gpt2": ("h", ("", "mlp", "attn", "ln_1", "ln_2", "mlp.c_proj")),
        "gpt_neo": ("h", ("", "mlp", "attn", "ln_1", "ln_2", "mlp.c_proj")),
        "llama": ("layers", ("", "mlp", "self_attn", "input_layernorm", "post_attention_layernorm", "mlp.down_proj")),
    }
)
_PATH = re.compile(r"(?:(?:transformer|model|base_model)\.)*(?:h|layers)\.(\d+)(?:\.(.+))?")


def split(site: str) -> tuple[int | None, str]:
    """Split a name into the layer and the rest: ``blocks.3.hook_mlp_out`` -> (3, ``hook_mlp_out``)."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", site)
    return (int(found[1]), found[2]) if found else (None, site)


def to_lens(site: str) -> str:
    """Return TransformerLens's name of one of our sites."""
    layer, rest = split(site)
    if layer is None and site in ("hook_embed", "ln_final.hook_normalized"):
        return "hook_embed" if site == "hook_embed" else "unembed.hook_in"
    if layer is None or rest not in _TO_LENS:
        raise UnsupportedModelError(f"{site}: TransformerLens has no such site; it has, for example, hook_mlp_out")
    return f"blocks.{layer}.{_TO_LENS[rest]}"


def from_lens(name: str, where: Path) -> str:
    """Return our name of one of TransformerLens's sites.

    Raises:
        UnsupportedModelError: there is none.
    """
    layer, rest = split(name)
    if layer is None and name in ("hook_embed", "unembed.hook_in"):
        return "hook_embed" if name == "hook_embed" else "ln_final.hook_normalized"
    if rest.endswith("hook_normalized"):
        raise UnsupportedModelError(
            f"{where}: {name} lies before the norm's gain in TransformerLens, where no site is here; "
            "fold the gain into the encoder and name the site blocks.{i}.mlp.hook_in (or attn.hook_in)"
        )
    if layer is None or rest not in _FROM_LENS:
        raise UnsupportedModelError(f"{where}: site {name!r} is unknown; supported in a block: {', '.join(_FROM_LENS)}")
    return f"blocks.{layer}.{_FROM_LENS[rest]}"


def module_sites(path: str, where: Path) -> tuple[str, str]:
    """Return the sites that a Hugging Face module reads and writes.

    Raises:
        UnsupportedModelError: it reads or writes none.
    """
    found = _PATH.fullmatch(path)
    if not found or (found[2] or "") not in _MODULES:
        raise UnsupportedModelError(
            f"{where}: module {path!r} is not supported; supported: h.0 or layers.0, and in it "
            f"{', '.join(name for name in _MODULES if name)}"
        )
    reads, writes = _MODULES[found[2] or ""]
    return f"blocks.{found[1]}.{reads}", f"blocks.{found[1]}.{writes}"


def module_path(reads: str, writes: str, family: Family) -> str:
    """Return the module that reads and writes such sites, or, where they are one, that writes it.

    Raises:
        UnsupportedModelError: no module does.
    """
    layer, rest = split(writes)
    stem, modules = _BLOCK[family]
    for module in modules:
        if _MODULES[module][1] == rest and (reads == writes or split(reads) == (layer, _MODULES[module][0])):
            return f"{stem}.{layer}.{module}".removesuffix(".")
    raise UnsupportedModelError(f"{reads} -> {writes}: no module of {family} reads the one and writes the other")


def lens_pair(metadata: Mapping[str, Any], where: Path) -> tuple[str, str]:
    """Read the sites of a SAELens dictionary off its metadata."""
    name = metadata.get("hook_name")
    out = metadata.get("hook_name_out") or name
    if not isinstance(name, str) or not isinstance(out, str):
        raise UnsupportedModelError(f"{where}: metadata.hook_name is {name!r}, expected the name of a site; repair it")
    return from_lens(name, where), from_lens(out, where)
