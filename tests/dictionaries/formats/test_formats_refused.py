"""Dictionaries that are not read, each by its message: where, what was found, what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from coders import D, N, coder, transcoder
from safetensors.torch import load_file, save_file

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import read_dictionaries, write_dictionaries
from englishroom.errors import ArtifactError, ConfigError, EnglishRoomError, UnsupportedModelError


def refusal(kind: type[Exception], folder: Path) -> str:
    """Return the message with which a folder is refused, after the folder's own name."""
    with pytest.raises(EnglishRoomError) as caught:
        read_dictionaries(folder)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert "\n" not in message
    assert message.startswith(str(folder))
    return message.removeprefix(str(folder))


def written(folder: Path, format: str, *dictionaries: Dictionary) -> Path:
    """Write dictionaries and return the folder of the first."""
    write_dictionaries(folder / "out", format, dictionaries, "tiny")
    if format == "circuit_tracer":
        return folder / "out"
    return next((folder / "out").iterdir())


def edit(path: Path, **changes: Any) -> None:
    """Change settings; those set to ``...`` are removed."""
    values = yaml.safe_load(path.read_text())
    inner = values.get("trainer", values)
    for key, value in changes.items():
        inner.pop(key, None)
        if value is not ...:
            inner[key] = value
    path.write_text(json.dumps(values))


# SAELens


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"metadata": ...},
            UnsupportedModelError,
            "has no metadata, so an older SAELens wrote it; save it with SAELens 6",
        ),
        (
            {"architecture": "temporal"},
            UnsupportedModelError,
            "architecture = 'temporal' is not supported; supported: 'standard', 'jumprelu', 'gated', 'topk', "
            "'transcoder', 'skip_transcoder', 'jumprelu_transcoder', 'jumprelu_skip_transcoder'",
        ),
        (
            {"normalize_activations": "layer_norm"},
            UnsupportedModelError,
            "normalize_activations = 'layer_norm' is not supported; supported: 'none'",
        ),
        (
            {"normalize_activations": "expected_average_only_in"},
            UnsupportedModelError,
            "normalize_activations = 'expected_average_only_in' is not supported; supported: 'none'",
        ),
        (
            {"reshape_activations": "hook_z"},
            UnsupportedModelError,
            "reshape_activations = 'hook_z' is not supported; supported: 'none'",
        ),
        (
            {"metadata": {"hook_name": "blocks.0.attn.hook_q", "hook_head_index": 3}},
            UnsupportedModelError,
            "reads one head (metadata.hook_head_index); supported: whole sites",
        ),
        (
            {"metadata": {"model_name": "tiny"}},
            UnsupportedModelError,
            "metadata.hook_name is None, expected the name of a site; repair it",
        ),
        (
            {"metadata": {"hook_name": "blocks.0.attn.hook_z"}},
            UnsupportedModelError,
            "site 'blocks.0.attn.hook_z' is unknown; supported in a block: attn.hook_in, mlp.hook_in, "
            "hook_resid_pre, hook_attn_out, hook_resid_mid, hook_mlp_out, hook_resid_post, mlp.hook_pre, "
            "mlp.hook_pre_linear, mlp.hook_post, attn.hook_out, mlp.hook_out",
        ),
        (
            {"metadata": {"hook_name": "blocks.0.ln2.hook_normalized"}},
            UnsupportedModelError,
            "blocks.0.ln2.hook_normalized lies before the norm's gain in TransformerLens, where no site is here; "
            "fold the gain into the encoder and name the site blocks.{i}.mlp.hook_in (or attn.hook_in)",
        ),
        ({"metadata": 3}, ArtifactError, "metadata is 3, expected names with values; repair the config"),
        ({"d_in": ...}, ArtifactError, "d_in is missing; restore the file"),
        ({"k": ...}, ArtifactError, "k is missing; restore the file"),
        ({"d_sae": 0}, ArtifactError, "d_sae is 0, expected a whole number, 1 or more; repair the config"),
        (
            {"apply_b_dec_to_input": "no"},
            ArtifactError,
            "apply_b_dec_to_input is 'no', expected true or false; repair the config",
        ),
        (
            {"decoder_init_norm": 0.1},
            UnsupportedModelError,
            "setting decoder_init_norm is not known; known: apply_b_dec_to_input, architecture, d_in, d_sae, device, "
            "dtype, k, metadata, normalize_activations, rescale_acts_by_decoder_norm, reshape_activations",
        ),
    ],
)
def test_saelens_settings(changes: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path):
    folder = written(tmp_path, "saelens", coder())
    edit(folder / "cfg.json", **changes)
    assert refusal(kind, folder) == f"/cfg.json: {message}"


def test_saelens_transcoders_shift_nothing(tmp_path: Path):
    folder = written(tmp_path, "saelens", transcoder(activation="jumprelu"))
    edit(folder / "cfg.json", apply_b_dec_to_input=True)
    assert refusal(UnsupportedModelError, folder) == (
        "/cfg.json: apply_b_dec_to_input is true, which no jumprelu_transcoder has; repair the config"
    )


def test_settings_that_contradict_the_weights(tmp_path: Path):
    folder = written(tmp_path, "saelens", coder())
    edit(folder / "cfg.json", k=N + 1)
    assert refusal(ArtifactError, folder) == (
        f": blocks.0.hook_attn_out: k is {N + 1}, expected 1 to {N} (its latents); "
        "config and weights do not belong together"
    )


def test_rows_of_zeros_that_would_be_divided_by(tmp_path: Path):
    folder = written(tmp_path, "saelens", coder())
    edit(folder / "cfg.json", rescale_acts_by_decoder_norm=True)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"][3] = 0
    save_file(tensors, folder / "sae_weights.safetensors")
    assert refusal(ArtifactError, folder) == (
        "/sae_weights.safetensors: W_dec has a row of zeros, and rescale_acts_by_decoder_norm divides by its length; "
        "remove that latent"
    )


# Tensors, of any format


def change_one(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], dict]:
    return lambda tensors: tensors | {name: change(tensors[name])}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda t: {k: v for k, v in t.items() if k != "b_enc"},
            ArtifactError,
            "tensor b_enc is missing; restore the file",
        ),
        (
            lambda t: t | {"lora": torch.ones(2)},
            UnsupportedModelError,
            "tensor lora has no place in such a dictionary; expected W_dec, W_enc, b_dec, b_enc",
        ),
        (
            change_one("W_dec", lambda t: t[:, 1:].contiguous()),
            ArtifactError,
            f"tensor W_dec has shape [{N}, {D - 1}], expected [{N}, {D}]; config and weights do not belong together",
        ),
        (
            change_one("W_enc", lambda t: t.to(torch.int8)),
            UnsupportedModelError,
            "tensor W_enc is stored as int8 (quantised?); supported: float16, bfloat16, float32, float64",
        ),
        (
            change_one("b_dec", lambda t: t / 0),
            ArtifactError,
            "tensor b_dec holds NaN or infinity; restore the weights file",
        ),
    ],
)
def test_tensors(change: Callable[[dict], dict], kind: type[Exception], message: str, tmp_path: Path):
    folder = written(tmp_path, "saelens", coder())
    path = folder / "sae_weights.safetensors"
    save_file(change(load_file(path)), path)
    assert refusal(kind, folder) == f"/{path.name}: {message}"


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
@pytest.mark.parametrize("format", ["saelens", "sparsify", "circuit_tracer"])
def test_truncated_safetensors_files(format: str, kept: int, tmp_path: Path):
    made = transcoder(activation="jumprelu") if format == "circuit_tracer" else coder()
    folder = written(tmp_path, format, made)
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(ArtifactError, folder)
    assert message.startswith(f"/{path.name}: damaged safetensors file (")
    assert message.endswith("); fetch it again")


def test_missing_and_damaged_settings(tmp_path: Path):
    folder = written(tmp_path, "sparsify", coder())
    (folder / "cfg.json").write_text("{")
    assert refusal(ArtifactError, folder).startswith("/cfg.json: the whole text: Invalid JSON")
    (folder / "cfg.json").unlink()
    assert refusal(ArtifactError, folder) == "/cfg.json: missing; restore the file"


# Sparsify


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"activation": "groupmax"},
            UnsupportedModelError,
            "activation = 'groupmax' is not supported; supported: 'topk'",
        ),
        ({"signed": True}, UnsupportedModelError, "signed = True is not supported; supported: False"),
        ({"embed_skip": True}, UnsupportedModelError, "embed_skip = True is not supported; supported: False"),
        ({"gram_lookup": True}, UnsupportedModelError, "gram_lookup = True is not supported; supported: False"),
        ({"k": ...}, ArtifactError, "k is missing; restore the file"),
    ],
)
def test_sparsify_settings(changes: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path):
    folder = written(tmp_path, "sparsify", coder())
    edit(folder / "cfg.json", **changes)
    assert refusal(kind, folder) == f"/cfg.json: {message}"


def test_sparsify_module_of_another_kind(tmp_path: Path):
    folder = written(tmp_path, "sparsify", coder())
    folder = folder.rename(folder.parent / "h.0.attn.q_proj")
    assert refusal(UnsupportedModelError, folder) == (
        "/cfg.json: module 'h.0.attn.q_proj' is not supported; supported: h.0 or layers.0, and in it attn, self_attn, "
        "attn.attention, mlp, mlp.c_proj, mlp.down_proj, ln_1, input_layernorm, ln_2, post_attention_layernorm"
    )


# dictionary_learning


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"dict_class": "CrossCoder"},
            UnsupportedModelError,
            "/config.json: trainer: dict_class = 'CrossCoder' is not supported; supported: 'AutoEncoder', "
            "'AutoEncoderNew', 'AutoEncoderTopK', 'BatchTopKSAE', 'MatryoshkaBatchTopKSAE', 'GatedAutoEncoder', "
            "'JumpReluAutoEncoder'",
        ),
        ({"k": 3}, ArtifactError, "/ae.pt: k is 5, but config.json says 3; they do not belong together"),
        (
            {"submodule_name": None},
            UnsupportedModelError,
            "/config.json: trainer.submodule_name is None, so its place is not known; write a site there, such as "
            "blocks.0.hook_resid_post, or a module, such as h.0.mlp",
        ),
        ({"dict_class": "BatchTopKSAE"}, ArtifactError, "/ae.pt: tensor threshold is missing; restore the file"),
        (
            {"dict_class": "AutoEncoder"},
            ArtifactError,
            "/ae.pt: tensor bias is missing; restore the file",
        ),
    ],
)
def test_dictionary_learning_settings(changes: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path):
    folder = written(tmp_path, "dictionary_learning", coder())
    edit(folder / "config.json", **changes)
    if changes.get("dict_class") == "BatchTopKSAE":
        tensors = torch.load(folder / "ae.pt", weights_only=True)
        del tensors["threshold"]
        torch.save(tensors, folder / "ae.pt")
    assert refusal(kind, folder) == message


def test_dictionary_learning_settings_of_another_shape(tmp_path: Path):
    folder = written(tmp_path, "dictionary_learning", coder())
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"buffer": {"io": "in_and_out"}}))
    assert refusal(UnsupportedModelError, folder) == (
        "/config.json: buffer.io is 'in_and_out'; supported: in, out (autoencoders)"
    )
    (folder / "config.json").write_text(json.dumps({"trainer": 3}))
    assert refusal(ArtifactError, folder) == "/config.json: trainer is 3, expected its settings; restore the file"


def test_dictionary_learning_numbers_that_are_none(tmp_path: Path):
    folder = written(tmp_path, "dictionary_learning", coder())
    tensors = torch.load(folder / "ae.pt", weights_only=True)
    for bad, found in (
        (torch.ones(2), "[2] of float32"),
        (torch.ones((), dtype=torch.complex64), "[] of complex64"),
        (torch.tensor(float("inf")), "[] of float32"),
    ):
        torch.save(tensors | {"threshold": bad}, folder / "ae.pt")
        assert refusal(ArtifactError, folder) == (
            f"/ae.pt: tensor threshold has shape {found}, expected one finite number; fetch again"
        )


class Intruder:
    """Runs a command of its own when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_torch_file_that_holds_code_is_not_run(tmp_path: Path):
    folder = written(tmp_path, "dictionary_learning", coder())
    torch.save({"b_dec": Intruder(tmp_path / "was-run")}, folder / "ae.pt")
    assert refusal(ArtifactError, folder) == (
        "/ae.pt: is more than weights, or damaged; only tensors are read, save its state_dict()"
    )
    assert not (tmp_path / "was-run").exists()
    torch.load(folder / "ae.pt", weights_only=False)
    assert (tmp_path / "was-run").exists()  # the file does hold what would have run


def test_torch_files_of_another_kind(tmp_path: Path):
    folder = written(tmp_path, "dictionary_learning", coder())
    for content in ([torch.ones(2)], {"b_dec": 3}, torch.ones(2)):
        torch.save(content, folder / "ae.pt")
        assert refusal(ArtifactError, folder) == "/ae.pt: expected a dictionary of tensors; save its state_dict()"
    (folder / "ae.pt").write_bytes((folder / "ae.pt").read_bytes()[:-50])
    assert refusal(ArtifactError, folder).startswith("/ae.pt: damaged torch file (")


# circuit-tracer


def layers(n: int = 2, **options: Any) -> list[Dictionary]:
    return [transcoder(layer, activation="jumprelu", **options) for layer in range(n)]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"activation": "topk", "k": 3},
            UnsupportedModelError,
            "activation = 'topk' is not supported; supported: 'relu', 'jump_relu'",
        ),
        (
            {"model_kind": "lorsa"},
            UnsupportedModelError,
            "model_kind = 'lorsa' is not supported; supported: 'transcoder_set', 'cross_layer_transcoder'",
        ),
        (
            {"transcoders": ["hf://a/b/c.npz"]},
            UnsupportedModelError,
            "transcoders lie elsewhere (hf://a/b/c.npz); fetch them",
        ),
        ({"feature_input_hook": ...}, ArtifactError, "feature_input_hook is missing; restore the file"),
        ({"feature_input_hook": 3}, ArtifactError, "feature_input_hook is 3, expected a text; repair the config"),
    ],
)
def test_circuit_tracer_settings(changes: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path):
    folder = written(tmp_path, "circuit_tracer", *layers())
    edit(folder / "config.yaml", **changes)
    assert refusal(kind, folder) == f"/config.yaml: {message}"


def test_circuit_tracer_files(tmp_path: Path):
    folder = written(tmp_path, "circuit_tracer", *layers(3))
    path = folder / "layer_2.safetensors"
    tensors = load_file(path)
    tensors["activation_function.threshold"][0] = -0.5
    save_file(tensors, path)
    assert refusal(UnsupportedModelError, folder) == "/layer_2.safetensors: a threshold is -0.5; supported: 0 or more"
    save_file({"W_enc": torch.ones(3)}, path)
    assert refusal(ArtifactError, folder) == (
        "/layer_2.safetensors: tensor W_enc has shape [3], expected 2 axes; restore the file"
    )
    save_file({"W_dec": torch.ones(3, 3)}, path)
    assert refusal(ArtifactError, folder) == "/layer_2.safetensors: tensor W_enc is missing; restore the file"
    (folder / "layer_1.safetensors").unlink()
    assert refusal(ArtifactError, folder) == (
        "/layer_1.safetensors: missing; every layer from the first on must have a transcoder"
    )
    (folder / "config.yaml").write_text("- 1")
    assert refusal(ArtifactError, folder) == "/config.yaml: expected names with values; restore the file"
    (folder / "config.yaml").write_text("a: [")
    assert refusal(ArtifactError, folder).startswith("/config.yaml: not valid YAML (")
    (folder / "config.yaml").write_text("!!python/object/apply:os.getcwd []")
    assert refusal(ArtifactError, folder).startswith("/config.yaml: not valid YAML (")


def test_cross_layer_files(tmp_path: Path):
    outs = ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out")
    ours = [
        coder("blocks.0.hook_resid_mid", *outs, activation="jumprelu"),
        coder("blocks.1.hook_resid_mid", outs[1], activation="jumprelu"),
    ]
    folder = written(tmp_path, "circuit_tracer", *ours)
    (folder / "W_dec_1.safetensors").unlink()
    assert refusal(ArtifactError, folder) == "/W_dec_1.safetensors: missing; restore the file"
    save_file({"W_dec_1": torch.ones(N, 2, D)}, folder / "W_dec_1.safetensors")
    assert refusal(ArtifactError, folder) == (
        f"/W_dec_1.safetensors: tensor W_dec_1 has shape [{N}, 2, {D}], expected [{N}, 1, {D}]; "
        "config and weights do not belong together"
    )


# Folders


def test_folders_that_hold_none_or_several_formats(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        read_dictionaries(tmp_path / "gone")
    assert str(caught.value) == f"{tmp_path / 'gone'}: no such folder; give a folder of dictionaries"
    assert refusal(ArtifactError, tmp_path) == (
        ": holds no dictionaries; expected, there or in its folders, dictionaries.json (englishroom), "
        "sae_weights.safetensors (saelens), sae.safetensors (sparsify), ae.pt (dictionary_learning), "
        "config.yaml (circuit_tracer)"
    )
    write_dictionaries(tmp_path / "a", "saelens", [coder()], "tiny")
    write_dictionaries(tmp_path / "b", "sparsify", [coder()], "tiny")
    assert refusal(ArtifactError, tmp_path) == (
        ": holds dictionaries of saelens and sparsify; give the folder of one of them"
    )


# What only pretends to be a file


@pytest.mark.parametrize("format", ["englishroom", "saelens", "sparsify", "dictionary_learning", "circuit_tracer"])
def test_a_pipe_in_the_place_of_any_file_is_not_waited_on(format: str, tmp_path: Path):
    one = transcoder(activation="jumprelu") if format == "circuit_tracer" else coder()
    write_dictionaries(tmp_path / "out", format, [one], "tiny")
    for file in sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        data = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(EnglishRoomError, match=r"is a pipe, expected a file|holds no dictionaries"):
            read_dictionaries(tmp_path / "out")
        file.unlink()
        file.write_bytes(data)


def test_yaml_that_refers_to_itself_is_not_unfolded(tmp_path: Path):
    folder = written(tmp_path, "circuit_tracer", transcoder(activation="jumprelu"))
    more = "\n".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(9))
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + more)
    assert refusal(ArtifactError, folder) == (
        "/config.yaml: not valid YAML (it refers to another place in it); restore the file"
    )
