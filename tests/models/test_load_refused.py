"""Models that are refused, each by its message: where, what was found, what is supported or what to do."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor

from englishroom.data.hf_tokenizer_files import GIVE_ONE
from englishroom.errors import ArtifactError, ConfigError, UnsupportedModelError
from englishroom.models.load import load_target
from englishroom.pipeline import open_talker, open_target
from englishroom.talkers.record import read_training
from tiny import (
    WEIGHTS,
    edit_config,
    make_gpt2,
    make_gpt_neo,
    make_llama,
    make_llama2c,
    tensors_of,
    write_tensors,
)

SUPPORTED = "supported: gpt2, gpt_neo, llama (Hugging Face folders or hub names) and llama2.c .bin files"


def refusal(kind: type[Exception], path: Path | str) -> str:
    """Return the message with which a model is refused; it is one line that says where."""
    with pytest.raises(kind) as caught:
        load_target(str(path))
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


# No such model, or no such kind


def test_a_name_without_a_slash_may_be_of_the_hub(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def ask(name: str, **_: object) -> str:
        asked.append(name)
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    with pytest.raises(ConfigError, match="no-such-model: no such room, model file or folder"):
        open_target("no-such-model")
    assert asked == ["no-such-model"]


def test_a_hub_name_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        open_target("no-such-owner/no-such-model")
    message = str(caught.value)
    assert message.startswith(
        "no-such-owner/no-such-model: no such room, model file or folder, nor to be had from the hub (Cannot find"
    )
    assert "\n" not in message
    assert len(message) < 400


def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(tmp_path: Path):
    missing = tmp_path / "no" / "such" / "model"
    with pytest.raises(ConfigError, match=f"^{re.escape(str(missing))}: no such room, model file or folder") as caught:
        open_target(str(missing))
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    assert refusal(UnsupportedModelError, path) == f": not a model that can be read; {SUPPORTED}"


def test_a_folder_without_a_model(tmp_path: Path):
    assert refusal(UnsupportedModelError, tmp_path) == f": has neither config.json nor a .bin file; {SUPPORTED}"
    for name in ("a.bin", "b.bin", "tok512.bin"):
        (tmp_path / name).write_bytes(b"")
    assert refusal(UnsupportedModelError, tmp_path) == f": has 2 .bin files; {SUPPORTED}"


def test_a_folder_without_weights(tmp_path: Path):
    (make_gpt2(tmp_path) / WEIGHTS).unlink()
    assert refusal(ArtifactError, tmp_path) == (
        ": no weights; expected model.safetensors or pytorch_model.bin beside config.json"
    )


@pytest.mark.parametrize("kind", ["bert", "gpt_neox", None])
def test_other_architectures(kind: str | None, tmp_path: Path):
    edit_config(make_gpt2(tmp_path), model_type=kind)
    message = refusal(UnsupportedModelError, tmp_path)
    assert message == f"/config.json: architecture {str(kind)!r} is not supported; {SUPPORTED}"


def test_quantised_weights(tmp_path: Path):
    edit_config(make_llama(tmp_path), quantization_config={"quant_method": "gptq", "bits": 4})
    message = refusal(UnsupportedModelError, tmp_path)
    assert message == "/config.json: weights are quantised (gptq); supported: float16, bfloat16, float32"


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("spelling", ["type", "rope_type"])
@pytest.mark.parametrize("kind", ["linear", "yarn", "llama3", "dynamic"])
def test_scaled_rotary_positions(key: str, spelling: str, kind: str, tmp_path: Path):
    edit_config(make_llama(tmp_path), **{"rope_parameters": ..., key: {spelling: kind, "factor": 4.0}})
    assert refusal(UnsupportedModelError, tmp_path) == (
        f"/config.json: {key} asks for RoPE scaling of type {kind!r}; supported: 'default' (no scaling)"
    )


@pytest.mark.parametrize(
    ("maker", "changes", "message"),
    [
        (make_gpt2, {"scale_attn_weights": False}, "scale_attn_weights = False is not supported; supported: True"),
        (make_gpt2, {"add_cross_attention": True}, "add_cross_attention = True is not supported; supported: False"),
        (
            make_gpt2,
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx = True is not supported; supported: False",
        ),
        (
            make_gpt2,
            {"activation_function": "tanh"},
            "activation_function = 'tanh' is not supported; supported: 'gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', "
            "'gelu', 'relu', 'silu', 'swish'",
        ),
        (
            make_llama,
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "rope_parameters rotates only part of each head; supported: partial_rotary_factor 1.0",
        ),
        (make_llama, {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported; supported: 1.0"),
    ],
)
def test_parts_that_are_not_supported(
    maker: Callable[..., Path], changes: dict[str, Any], message: str, tmp_path: Path
):
    edit_config(maker(tmp_path), **changes)
    assert refusal(UnsupportedModelError, tmp_path) == f"/config.json: {message}"


# Configs that make no sense


@pytest.mark.parametrize(
    ("maker", "changes", "message"),
    [
        (make_gpt2, {"n_layer": "two"}, "n_layer is 'two', expected a whole number, 1 or more"),
        (make_gpt2, {"n_positions": 0}, "n_positions is 0, expected a whole number, 1 or more"),
        (make_gpt2, {"n_head": True}, "n_head is True, expected a whole number, 1 or more"),
        (make_gpt2, {"n_head": 5}, "n_embd 32 is not a multiple of n_head 5"),
        (make_gpt2, {"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05, expected a number above 0"),
        (make_gpt2, {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', expected true or false"),
        (make_gpt_neo, {"num_heads": 5}, "hidden_size 32 is not a multiple of num_heads 5"),
        (
            make_gpt_neo,
            {"attention_types": [[["global", "local"], 2]]},
            "attention_types [[['global', 'local'], 2]] does not give global or local for each of 2 layers",
        ),
        (
            make_gpt_neo,
            {"attention_types": [[["global", "sparse"], 1]]},
            "attention_types [[['global', 'sparse'], 1]] does not give global or local for each of 2 layers",
        ),
        (
            make_gpt_neo,
            {"attention_types": "global"},
            "attention_types 'global' does not give global or local for each of 2 layers",
        ),
        (
            make_llama,
            {"num_key_value_heads": 3},
            "num_attention_heads 4 is not a multiple of num_key_value_heads 3",
        ),
        (
            make_llama,
            {"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": None},
            "hidden_size 32 is not a multiple of num_attention_heads 5",
        ),
        (make_llama, {"head_dim": 7}, "heads of odd size 7 cannot turn in pairs"),
        (make_llama, {"rope_scaling": "linear"}, "rope_scaling is 'linear', expected an object"),
        (
            make_llama,
            {"rope_parameters": {"rope_type": "default", "rope_theta": "1e4"}},
            "rope_parameters: rope_theta is '1e4', expected a number above 0",
        ),
    ],
)
def test_configs_that_make_no_sense(maker: Callable[..., Path], changes: dict[str, Any], message: str, tmp_path: Path):
    edit_config(maker(tmp_path), **changes)
    assert refusal(ArtifactError, tmp_path) == f"/config.json: {message}; repair the config"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the whole text: Invalid JSON: EOF"),
        (b"\xff\xfe\x00", "not UTF-8 (byte 0: invalid start byte)"),
        (b"[" * 100_000, "the whole text: Invalid JSON: recursion limit"),
        (b"[1]", "the whole text: Input should be an object, found [1]"),
        (b'{"layer_norm_epsilon": NaN}', "no JSON that can be read (NaN is no number of JSON)"),
        (b'{"layer_norm_epsilon": Infinity}', "no JSON that can be read (Infinity is no number of JSON)"),
        (b'{"vocab_size": 1' + b"0" * 400 + b"}", "no JSON that can be read (a whole number of 401 digits"),
    ],
)
def test_a_config_that_is_no_json_object(content: bytes, message: str, tmp_path: Path):
    (make_gpt2(tmp_path) / "config.json").write_bytes(content)
    found = refusal(ArtifactError, tmp_path)
    assert found.startswith(f"/config.json: {message}")
    assert found.endswith("; restore the file")


def test_a_config_that_cannot_be_read(tmp_path: Path):
    config = make_gpt2(tmp_path) / "config.json"
    config.unlink()
    config.mkdir()
    assert refusal(ArtifactError, tmp_path) == "/config.json: is a folder, expected a file; restore the file"


# Tensors


def test_a_missing_tensor(tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    write_tensors(tmp_path, tensors)
    assert refusal(ArtifactError, tmp_path) == ": tensor transformer.h.1.mlp.c_fc.bias is missing; restore the file"
    del tensors["transformer.h.0.ln_1.weight"]
    write_tensors(tmp_path, tensors)
    assert refusal(ArtifactError, tmp_path) == (
        ": tensor transformer.h.0.ln_1.weight is missing (and 1 more); restore the file"
    )


def test_an_untied_model_without_its_unembedding(tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path, tie_word_embeddings=False))
    del tensors["lm_head.weight"]
    write_tensors(tmp_path, tensors)
    assert refusal(ArtifactError, tmp_path) == ": tensor lm_head.weight is missing; restore the file"


def test_a_tensor_too_many(tmp_path: Path):
    tensors = tensors_of(make_llama(tmp_path))
    write_tensors(tmp_path, tensors | {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 2)})
    assert refusal(UnsupportedModelError, tmp_path) == (
        ": tensor model.layers.0.self_attn.q_proj.lora_A.weight has no place in a llama model; "
        "supported: the plain architecture, without adapters or extra heads"
    )


@pytest.mark.parametrize(
    ("maker", "changes", "message"),
    [
        (
            make_gpt2,
            {"vocab_size": 299},
            "transformer.wte.weight has shape [300, 32], but the config implies [299, 32]",
        ),
        (make_gpt2, {"n_positions": 41}, "transformer.wpe.weight has shape [40, 32], but the config implies [41, 32]"),
        (
            make_gpt2,
            {"n_inner": 100},
            "transformer.h.0.mlp.c_fc.weight has shape [32, 128], but the config implies [32, 100]",
        ),
        (
            make_gpt_neo,
            {"hidden_size": 28},
            "transformer.wte.weight has shape [300, 32], but the config implies [300, 28]",
        ),
        (
            make_llama,
            {"num_key_value_heads": 2},
            "model.layers.0.self_attn.k_proj.weight has shape [32, 32], but the config implies [16, 32]",
        ),
        (
            make_llama,
            {"intermediate_size": 32},
            "model.layers.0.mlp.gate_proj.weight has shape [48, 32], but the config implies [32, 32]",
        ),
    ],
)
def test_a_config_that_contradicts_its_tensors(
    maker: Callable[..., Path], changes: dict[str, Any], message: str, tmp_path: Path
):
    edit_config(maker(tmp_path), **changes)
    found = refusal(ArtifactError, tmp_path)
    assert found == f": tensor {message}; config and weights do not belong together"


def test_a_config_with_fewer_layers_than_the_file(tmp_path: Path):
    edit_config(make_gpt2(tmp_path), n_layer=1)
    message = refusal(UnsupportedModelError, tmp_path)
    assert message.startswith(": tensor transformer.h.1.attn.c_attn.bias has no place in a gpt2 model (and 11 more); ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    tensors["transformer.h.0.attn.c_attn.weight"][3, 5] = value
    write_tensors(tmp_path, tensors)
    assert refusal(ArtifactError, tmp_path) == (
        ": tensor transformer.h.0.attn.c_attn.weight holds NaN or infinity; restore the weights file"
    )


@pytest.mark.parametrize(
    ("dtype", "named"), [(torch.int8, "int8"), (torch.float8_e4m3fn, "float8_e4m3fn"), (torch.int64, "int64")]
)
def test_weights_that_are_no_floating_point_numbers(dtype: torch.dtype, named: str, tmp_path: Path):
    tensors = tensors_of(make_llama(tmp_path))
    name = "model.layers.0.mlp.up_proj.weight"
    write_tensors(tmp_path, tensors | {name: tensors[name].to(dtype)})
    assert refusal(UnsupportedModelError, tmp_path) == (
        f": tensor {name} is stored as {named} (quantised?); supported: float16, bfloat16, float32, float64"
    )


@pytest.mark.parametrize("change", [lambda t: t + 1e-3, lambda t: t[:-1].clone()], ids=["value", "shape"])
def test_a_tied_file_whose_copy_differs(change: Callable[[Tensor], Tensor], tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    write_tensors(tmp_path, tensors | {"lm_head.weight": change(tensors["transformer.wte.weight"])})
    assert refusal(ArtifactError, tmp_path) == (
        ": tensor lm_head.weight differs from transformer.wte.weight, but config.json says "
        "tie_word_embeddings; config and weights do not belong together"
    )


# Damaged files


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_a_truncated_safetensors_file(kept: int, tmp_path: Path):
    path = make_gpt2(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(ArtifactError, tmp_path)
    assert message.startswith(f"/{WEIGHTS}: damaged safetensors file (")
    assert message.endswith("); fetch it again")


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (["a.safetensors"], "/model.safetensors.index.json: no weight_map of file names; restore the file"),
        ({"x": 3}, "/model.safetensors.index.json: no weight_map of file names; restore the file"),
        ({"x": "../x.safetensors"}, "/model.safetensors.index.json: a shard lies outside the folder; restore the file"),
        ({"x": "gone.safetensors"}, "/gone.safetensors: missing; restore the file"),
        ({"x": "folder"}, "/folder: is a folder, expected a file"),
    ],
)
def test_a_damaged_index_of_shards(weight_map: object, message: str, tmp_path: Path):
    (make_gpt2(tmp_path) / WEIGHTS).unlink()
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = refusal(ArtifactError, tmp_path)
    assert found.startswith(message)
    assert found.endswith("; restore the file")


class Intruder:
    """Runs a command of its own when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_torch_file_that_holds_code_is_not_run(tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    trace = tmp_path / "was-run"
    torch.save(tensors | {"transformer.wte.weight": Intruder(trace)}, tmp_path / "pytorch_model.bin")
    message = refusal(ArtifactError, tmp_path)
    assert message == (
        "/pytorch_model.bin: is more than weights, or damaged; only tensors are read, convert it to safetensors"
    )
    assert not trace.exists()
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Intruder(trace), file, protocol=2)
    refusal(ArtifactError, tmp_path)
    assert not trace.exists()
    pickle.loads((tmp_path / "pytorch_model.bin").read_bytes())
    assert trace.exists()  # the file does hold what would have run


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1000, -1])
def test_a_truncated_torch_file(kept: int, tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(ArtifactError, tmp_path).startswith("/pytorch_model.bin: ")


@pytest.mark.parametrize("content", [[torch.ones(2)], {"transformer.wte.weight": 3}, torch.ones(2)])
def test_a_torch_file_that_holds_something_else(content: object, tmp_path: Path):
    (make_gpt2(tmp_path) / WEIGHTS).unlink()
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert refusal(ArtifactError, tmp_path) == (
        "/pytorch_model.bin: expected a dictionary of tensors; convert it to safetensors"
    )


# Llama2.c files


def test_llama2c_files_of_a_wrong_length(tmp_path: Path):
    path = make_llama2c(tmp_path)
    data = path.read_bytes()
    size = len(data)
    path.write_bytes(data[:-4])
    assert refusal(ArtifactError, path) == f": truncated: {size - 4:,} bytes, expected {size:,}; fetch the file again"
    path.write_bytes(data + b"\0")
    assert refusal(ArtifactError, path) == (
        f": longer than its header implies: {size + 1:,} bytes, expected {size:,}; fetch the file again"
    )
    path.write_bytes(data[:20])
    message = ": 20 bytes, too short for a header of 28; fetch the file again"
    assert refusal(ArtifactError, path) == message


def test_llama2c_file_whose_size_takes_its_unembedding_for_missing(tmp_path: Path):
    """The sign of the vocabulary size says whether an unembedding follows; a wrong sign shows in the length."""
    path = make_llama2c(tmp_path, vocab_size=-270)
    data = path.read_bytes()
    path.write_bytes(data[:20] + struct.pack("<i", 270) + data[24:])
    assert ": longer than its header implies: " in refusal(ArtifactError, path)


@pytest.mark.parametrize(
    "header",
    [
        (0, 48, 2, 4, 4, 270, 40),
        (32, 48, 2, 4, 4, 270, -40),
        (32, 48, 2, 5, 5, 270, 40),  # 32 is no multiple of 5
        (32, 48, 2, 32, 32, 270, 40),  # heads of odd size
        (32, 48, 2, 4, 3, 270, 40),  # 4 is no multiple of 3
        (32, 48, 2**30, 4, 4, 270, 40),
        struct.unpack("<7i", b"PK\x03\x04 a zip file, not weights"[:28].ljust(28, b"\xff")),
    ],
)
def test_files_that_are_no_llama2c_files(header: tuple[int, ...], tmp_path: Path):
    path = make_llama2c(tmp_path)
    path.write_bytes(struct.pack("<7i", *header) + path.read_bytes()[28:])
    names = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
    shown = ", ".join(f"{name} {value}" for name, value in zip(names, header, strict=True))
    assert refusal(ArtifactError, path) == (
        f": not a llama2.c version 0 file (header reads {shown}); give a .bin of that format"
    )


def test_llama2c_weights_that_are_not_finite(tmp_path: Path):
    path = make_llama2c(tmp_path)
    data = bytearray(path.read_bytes())
    data[28:32] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    message = ": tensor tok_embeddings holds NaN or infinity; restore the weights file"
    assert refusal(ArtifactError, path) == message


def test_a_llama2c_model_without_one_tokenizer_beside_it(tmp_path: Path):
    path = make_llama2c(tmp_path)
    (tmp_path / "tokenizer.bin").rename(tmp_path / "pieces.bin")
    with pytest.raises(ConfigError) as caught:
        open_target(str(path))
    assert str(caught.value) == f"{path}: 0 files tok*.bin beside it, expected its tokenizer; {GIVE_ONE}"
    target, tokenizer = open_target(str(path), tmp_path / "pieces.bin")
    assert len(tokenizer.pieces) == target.spec.d_vocab


# What only pretends to be a file, or to hold numbers


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json", "training.json"])
def test_a_pipe_or_device_in_the_place_of_a_file_is_not_waited_on(name: str, tmp_path: Path):
    (make_gpt2(tmp_path) / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ArtifactError, match=f"{name}: is a pipe, expected a file"):
        (read_training(tmp_path), open_target(str(tmp_path)))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match=f"{name}: is a device, expected a file"):
        (read_training(tmp_path), open_target(str(tmp_path)))


def test_a_llama2c_file_that_is_a_pipe_is_not_waited_on(tmp_path: Path):
    path = make_llama2c(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert refusal(ArtifactError, path) == ": is a pipe, expected a file; fetch the file again"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(2**40),
        torch.zeros(3, 3).to_sparse(),
        torch.empty(3, device="meta"),
        3,
    ],
)
def test_torch_files_hold_as_many_numbers_as_they_say(tensor: object, tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    torch.save(tensors | {"transformer.wte.weight": tensor}, tmp_path / "pytorch_model.bin")
    assert refusal(ArtifactError, tmp_path).endswith("; convert it to safetensors")


def test_a_compressed_torch_file_is_not_unpacked(tmp_path: Path):
    tensors = tensors_of(make_gpt2(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "plain")
    with (
        zipfile.ZipFile(tmp_path / "plain") as plain,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    assert refusal(ArtifactError, tmp_path) == (
        "/pytorch_model.bin: is compressed, as torch files never are; convert it to safetensors"
    )


# A tokenizer of another model


@pytest.mark.parametrize(("rows", "bare"), [(2048, 1748), (364, 64), (5000, 4700)])
def test_a_tokenizer_that_leaves_more_rows_than_padding_explains(rows: int, bare: int, tmp_path: Path):
    make_gpt2(tmp_path, vocab_size=rows)
    with pytest.raises(ArtifactError) as caught:
        open_target(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: wrong tokenizer for these weights: {bare:,} of the {rows:,} rows of their vocabulary have no "
        "token in it, more than padding explains; use the tokenizer of the same model"
    )


def test_rows_that_padding_explains_are_said(tmp_path: Path):
    make_gpt2(tmp_path, vocab_size=320)
    said: list[str] = []
    talker = open_talker(str(tmp_path), check=False, say=said.append)
    assert len(talker.tokenizer.pieces) == 320
    assert said == ["20 of the 320 rows of the vocabulary have no token (padding)"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl"])
def test_pickles_are_refused_by_name(suffix: str, tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch here'\ntR.")
    assert refusal(UnsupportedModelError, path) == (
        ": a pickle may hold code, so it is not read; convert it to safetensors"
    )
