"""Read a target from disk or from the hub. Weights are data: safetensors, or torch files read weights-only."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from englishroom.errors import ArtifactError, ConfigError, UnsupportedModelError, one_line
from englishroom.models.adapters import gpt2, gpt_neo, llama, llama2c
from englishroom.models.adapters.mapping import Config, Family, read_weights
from englishroom.models.hub import fetch_model
from englishroom.models.spec import ModelSpec, parameter_count
from englishroom.models.weight_files import PYTORCH, SAFETENSORS, index_of, read_json, read_shards
from englishroom.untrusted import require_file

_ADAPTERS: Mapping[str, Callable[[Config], Family]] = MappingProxyType(
    {"gpt2": gpt2.read, "gpt_neo": gpt_neo.read, "llama": llama.read}
)
_SUPPORTED = f"supported: {', '.join(_ADAPTERS)} (Hugging Face folders or hub names) and llama2.c .bin files"
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Target:
    """A model read from disk.

    Attributes:
        name: short human name (the folder's, the file's, or the hub name).
        path: the folder or ``.bin`` file that it was read from.
        kind: ``huggingface`` or ``llama2c``.
        weights: our name -> tensor, [in, out] for matrices, float32 or float64.
        sources: our name -> where it stood in the file, as a reader would write it.
        sha256: hash of the weights files, in order of their names.
        cut_from: positions that its configuration says, where the context was set to fewer.
    """

    name: str
    path: Path
    kind: str
    spec: ModelSpec
    weights: Mapping[str, Tensor]
    sources: Mapping[str, str]
    sha256: str
    cut_from: int | None = None

    @property
    def parameter_count(self) -> int:
        return parameter_count(self.spec)


def load_target(name_or_path: str) -> Target:
    """Read a model from a Hugging Face folder, a llama2.c file (or a folder with one), or the hub.

    Raises:
        ConfigError: there is no such model.
        UnsupportedModelError: it is of a kind, or has a part, that is not supported.
        ArtifactError: its files are damaged, incomplete or contradict each other.
    """
    path = Path(name_or_path)
    if path.exists() and not path.is_dir():
        if path.suffix in _PICKLES:
            raise UnsupportedModelError(f"{path}: a pickle may hold code, so it is not read; convert it to safetensors")
        if path.suffix != ".bin":
            raise UnsupportedModelError(f"{path}: not a model that can be read; {_SUPPORTED}")
        return _load_llama2c(path)
    if path.is_dir():
        if (path / "config.json").exists():
            return _load_folder(path, path.resolve().name)
        found = sorted(p for p in path.glob("*.bin") if not p.name.startswith("tok"))
        if len(found) == 1:
            return _load_llama2c(found[0])
        what = f"{len(found)} .bin files" if found else "neither config.json nor a .bin file"
        raise UnsupportedModelError(f"{path}: has {what}; {_SUPPORTED}")
    return _load_folder(fetch_model(name_or_path), name_or_path)


def _load_llama2c(path: Path) -> Target:
    family, tensors = llama2c.read(path)
    return _target(path.stem, path, "llama2c", family, tensors, [path])


def _load_folder(folder: Path, name: str) -> Target:
    family = read_config(folder)
    files, tensors = read_tensors(folder)
    return _target(name, folder, "huggingface", family, _named_as_published(family, tensors, folder), files)


def _named_as_published(family: Family, tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Undo what wrappers and ways of saving do to names and to tied weights.

    1. ``DistributedDataParallel`` puts ``module.`` before every name, ``torch.compile`` puts ``_orig_mod.``.
    2. Bare models are published without the name of the part that holds them.
    3. A tied matrix may stand under either of its names, or under both.
    """
    for wrapper in (_WRAPPERS * 2) if tensors else ():
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    embedding, head = family.sources[0].theirs, "lm_head.weight"
    prefix = embedding.partition(".")[0]
    if not any(key.startswith(f"{prefix}.") for key in tensors):
        bare = {source.theirs.removeprefix(f"{prefix}.") for source in family.sources}
        tensors = {
            f"{prefix}.{key}" if key in bare or key.endswith(family.ignored) else key: t for key, t in tensors.items()
        }
    if family.spec.tied and head in tensors:
        copy = tensors.pop(head)
        found = tensors.setdefault(embedding, copy)
        if copy.shape != found.shape or not torch.equal(copy, found):
            raise ArtifactError(
                f"{folder}: tensor {head} differs from {embedding}, but config.json says tie_word_embeddings; config "
                "and weights do not belong together"
            )
    return tensors


def read_config(folder: Path) -> Family:
    """Read ``config.json`` and choose the adapter by its ``model_type``."""
    where = folder / "config.json"
    values = read_json(where)
    kind = str(values.get("model_type"))
    if kind not in _ADAPTERS:
        raise UnsupportedModelError(f"{where}: architecture {kind!r} is not supported; {_SUPPORTED}")
    method = values.get("quantization_config")
    if method is not None:
        method = method.get("quant_method", "unknown") if isinstance(method, dict) else method
        raise UnsupportedModelError(f"{where}: weights are quantised ({method}); supported: float16, bfloat16, float32")
    return _ADAPTERS[kind](Config(values, str(where)))


def read_tensors(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """Read every tensor of a Hugging Face folder: safetensors or torch files, sharded or not, in this order."""
    for name, read in ((SAFETENSORS, read_safetensors), (PYTORCH, _read_pytorch)):
        index = index_of(folder / name)
        if (folder / name).exists():
            files = [folder / name]
        elif index.exists():
            files = read_shards(index)
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for path in files:
            tensors.update(read(path))
        return files, tensors
    raise ArtifactError(f"{folder}: no weights; expected model.safetensors or pytorch_model.bin beside config.json")


def read_safetensors(path: Path, advice: str = "fetch it again") -> dict[str, Tensor]:
    """Read every tensor of a safetensors file.

    Args:
        advice: what to do with a damaged file.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    require_file(path, "restore the file")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); restore the file") from None
    except (SafetensorError, KeyError, ValueError, OverflowError, RuntimeError, TypeError) as error:  # by what is wrong
        raise ArtifactError(f"{path}: damaged safetensors file ({error}); {advice}") from None


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    return read_torch(path, "convert it to safetensors")


def read_torch(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a torch file that holds nothing but a dictionary of tensors; code in it is never run.

    Args:
        remedy: what to do with a file that holds anything else.

    Raises:
        ArtifactError: it holds anything else, or is damaged.
    """
    require_file(path, "restore the file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise ArtifactError(f"{path}: is compressed, as torch files never are; {remedy}")
        tensors = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise ArtifactError(f"{path}: is more than weights, or damaged; only tensors are read, {remedy}") from None
    except ArtifactError:
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason = one_line(" ".join(str(error).split())[:160]) or type(error).__name__
        raise ArtifactError(f"{path}: damaged torch file ({reason}); fetch it again") from None
    if not isinstance(tensors, dict) or not all(_is_plain(name, t) for name, t in tensors.items()):
        raise ArtifactError(f"{path}: expected a dictionary of tensors; {remedy}")
    return tensors


def _is_plain(name: Any, tensor: Any) -> bool:
    """Say whether a torch file holds an entry as numbers in a row, each of them stored, and not as a claim of many."""
    if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
        return False
    return not tensor.is_meta and not tensor.is_quantized and tensor.untyped_storage().nbytes() >= tensor.nbytes


def _target(
    name: str, path: Path, kind: str, family: Family, tensors: Mapping[str, Tensor], files: list[Path]
) -> Target:
    weights = read_weights(family, tensors, str(path))
    sources = {source.ours: str(source) for source in family.sources}
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return Target(name, path, kind, family.spec, weights, sources, digest.hexdigest())


def in_precision(target: Target, dtype: torch.dtype) -> Target:
    """Return the target with its weights in another precision."""
    return replace(target, weights={name: tensor.to(dtype) for name, tensor in target.weights.items()})


def in_context(target: Target, n_ctx: int) -> Target:
    """Return the target with a shorter context; vectors of later positions are left out.

    Raises:
        ConfigError: it is shorter than two positions, or longer than the target's.
    """
    longest = target.spec.n_ctx
    if not 2 <= n_ctx <= longest:
        raise ConfigError(f"--context is {n_ctx}, expected 2 to {longest}, which {target.name} reads at most")
    if n_ctx == longest:
        return target
    weights, sources = dict(target.weights), dict(target.sources)
    if (positions := "pos_embed.W_pos") in weights:
        weights[positions] = weights[positions][:n_ctx].clone()
        sources[positions] += f"[:{n_ctx}]"
    spec = replace(target.spec, n_ctx=n_ctx)
    return replace(target, spec=spec, weights=weights, sources=sources, cut_from=target.cut_from or longest)
