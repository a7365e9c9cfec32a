"""Strict reading of tensors and settings, and tensors as the bytes of a file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.errors import ArtifactError, ConfigError, UnsupportedModelError, one_line
from englishroom.models.adapters.mapping import check_numbers
from englishroom.untrusted import read_bytes

YAML_BYTES = 2**20
"""Most bytes of a YAML file, which takes long to read."""


class _PlainYaml(yaml.SafeLoader):
    """A reader of YAML without references, a few of which can stand for more values than memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to another place in it")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of plain values."""
    try:
        values = yaml.load(read_bytes(path, "restore the file", YAML_BYTES), _PlainYaml)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not valid YAML ({one_line(str(error))[:160]}); restore the file") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ArtifactError(f"{path}: expected names with values; restore the file")
    return values


def check_keys(values: Mapping[str, Any], required: Collection[str], optional: Collection[str], where: Path) -> None:
    """Refuse settings that are missing, or unknown and so perhaps of weight."""
    if missing := sorted(set(required) - set(values)):
        raise ArtifactError(f"{where}: {missing[0]} is missing; restore the file")
    if unknown := sorted(set(values) - set(required) - set(optional)):
        raise UnsupportedModelError(
            f"{where}: setting {unknown[0]} is not known; known: {', '.join(sorted({*required, *optional}))}"
        )


def read_text(values: Mapping[str, Any], key: str, where: Path) -> str:
    """Return a setting that must be a text."""
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise ArtifactError(f"{where}: {key} is {value!r}, expected a text; repair the config")
    return value


def take_number(tensors: dict[str, Tensor], name: str, where: Path) -> float | None:
    """Take a tensor that holds one number out of a file's tensors; ``None`` where there is none."""
    if name not in tensors:
        return None
    tensor = tensors.pop(name)
    if tensor.numel() != 1 or tensor.is_complex() or not bool(torch.isfinite(tensor.double()).all()):
        raise ArtifactError(
            f"{where}: tensor {name} has shape {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}, "
            "expected one finite number; fetch again"
        )
    return tensor.item()


def checked_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: Path
) -> dict[str, Tensor]:
    """Return a file's tensors in one precision, after checking their names, shapes and numbers.

    Returns:
        Names to tensors, all float64 where any of them is, else float32.

    Raises:
        ArtifactError: one is missing, misshapen or not finite.
        UnsupportedModelError: there is one too many, or one that holds no floating-point numbers.
    """
    if missing := sorted(set(shapes) - set(tensors)):
        raise ArtifactError(f"{where}: tensor {missing[0]} is missing; restore the file")
    if extra := sorted(set(tensors) - set(shapes)):
        raise UnsupportedModelError(
            f"{where}: tensor {extra[0]} has no place in such a dictionary; expected {', '.join(sorted(shapes))}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise ArtifactError(
                f"{where}: tensor {name} has shape {list(tensor.shape)}, expected {list(shape)}; "
                "config and weights do not belong together"
            )
        check_numbers(tensor, name, str(where))
    wide = any(tensors[name].dtype == torch.float64 for name in shapes)
    return {name: tensors[name].to(torch.float64 if wide else torch.float32) for name in shapes}


def shape_of(tensors: Mapping[str, Tensor], name: str, n_axes: int, where: Path) -> tuple[int, ...]:
    """Return the shape of a tensor from which the others' are known."""
    if name not in tensors:
        raise ArtifactError(f"{where}: tensor {name} is missing; restore the file")
    shape = tuple(tensors[name].shape)
    if len(shape) != n_axes or 0 in shape:
        raise ArtifactError(f"{where}: tensor {name} has shape {list(shape)}, expected {n_axes} axes; restore the file")
    return shape


def make_dictionary(spec: Mapping[str, Any], weights: Mapping[str, Tensor], where: Path) -> Dictionary:
    """Make a dictionary of what a file says; what makes no sense in it is the file's fault."""
    try:
        return Dictionary.of(DictionarySpec(**spec), weights)
    except ConfigError as error:
        raise ArtifactError(f"{where}: {error}; config and weights do not belong together") from None


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Lay tensors out as a safetensors file."""
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def natural(name: str) -> list[tuple[int, str]]:
    """Give a key that sorts numbers in names by their size: ``layer_2`` before ``layer_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
