"""Dictionaries written in every format and read back compute the same; peers' layouts mean what their formulas say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from coders import D, K, N, assert_alike, coder, dense, rows, transcoder
from safetensors.torch import load_file, save_file

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import FORMATS, read_dictionaries, write_dictionaries
from englishroom.dictionaries.formats.registry import detect_format
from englishroom.errors import ArtifactError

HELD: dict[str, list[Callable[[], Dictionary]]] = {
    "englishroom": [
        lambda: coder(),
        lambda: coder("blocks.1.hook_resid_post", activation="batchtopk"),
        lambda: transcoder(activation="jumprelu", skip=True, d_in=9),
        lambda: coder("blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"),
    ],
    "saelens": [
        lambda: coder(),
        lambda: coder("blocks.1.hook_resid_post", activation="jumprelu"),
        lambda: coder("blocks.2.hook_mlp_out", activation="batchtopk", even=True),
        lambda: coder("ln_final.hook_normalized", activation="jumprelu"),
        lambda: transcoder(),
        lambda: transcoder(1, activation="jumprelu", d_in=9),
        lambda: transcoder(2, activation="batchtopk", skip=True, d_in=9),
    ],
    "sparsify": [
        lambda: coder(),
        lambda: coder("blocks.10.hook_resid_post"),
        lambda: transcoder(3),
        lambda: transcoder(2, skip=True),
    ],
    "dictionary_learning": [
        lambda: coder(),
        lambda: coder("blocks.3.hook_resid_pre", activation="jumprelu"),
        lambda: coder("blocks.1.hook_mlp_out", activation="batchtopk", even=True),
        lambda: coder("blocks.2.hook_mlp_out", activation="batchtopk"),
    ],
    "circuit_tracer": [lambda: transcoder(0, activation="jumprelu"), lambda: transcoder(1, activation="batchtopk")],
}


def test_every_format_is_tried():
    assert tuple(HELD) == tuple(known.name for known in FORMATS)


@pytest.mark.parametrize("format", HELD)
def test_round_trips(format: str, tmp_path: Path):
    ours = [make() for make in HELD[format]]
    write_dictionaries(tmp_path / "out", format, ours, "tiny")
    assert detect_format(tmp_path / "out")[0].name == format
    read = {d.spec.name: d for d in read_dictionaries(tmp_path / "out")}
    assert set(read) == {d.spec.name for d in ours}
    for d in ours:
        assert_alike(d, read[d.spec.name])
    assert not list(tmp_path.glob(".*"))  # nothing is left of the writing


@pytest.mark.parametrize("format", HELD)
def test_the_same_dictionaries_give_the_same_bytes(format: str, tmp_path: Path):
    for name in ("a", "b"):
        write_dictionaries(tmp_path / name, format, [make() for make in HELD[format]], "tiny")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_dictionaries_come_in_the_order_of_their_layers(tmp_path: Path):
    write_dictionaries(tmp_path / "out", "sparsify", [transcoder(layer) for layer in (10, 2, 0)], "tiny")
    assert [d.spec.reads for d in read_dictionaries(tmp_path / "out")] == [
        f"blocks.{layer}.ln2.hook_normalized" for layer in (0, 2, 10)
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_precision(dtype: torch.dtype, tmp_path: Path):
    """Double precision stays; half precision is widened, which loses nothing."""
    ours = coder(activation="jumprelu")
    stored = Dictionary.of(ours.spec, {name: t.to(dtype) for name, t in ours.weights.items()})
    write_dictionaries(tmp_path / "out", "saelens", [stored], "tiny")
    (read,) = read_dictionaries(tmp_path / "out")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for name, tensor in read.weights.items():
        assert tensor.dtype == wide
        assert torch.equal(tensor, stored.weights[name].to(wide))


# Cross-layer transcoders


def crossing() -> list[Dictionary]:
    outs = [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]
    reads = [f"blocks.{layer}.hook_resid_mid" for layer in range(3)]
    return [
        coder(reads[0], outs[0], outs[2], activation="jumprelu", seed=1),
        coder(reads[1], outs[1], outs[2], activation="batchtopk", n=N - 7, seed=2),
        coder(reads[2], outs[2], activation="jumprelu", seed=3),
    ]


def written(dictionaries: list[Dictionary]) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = {}
    for d in dictionaries:
        for site, part in d.written(d.run(rows())[0]).items():
            total[site] = total.get(site, torch.zeros_like(part)) + part
    return total


def test_cross_layer_transcoders_write_the_same_sums(tmp_path: Path):
    """Biases of one site are added up, sites that are not written get zeros, and all layers have as many latents."""
    ours = crossing()
    write_dictionaries(tmp_path / "out", "circuit_tracer", ours, "tiny")
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (config["model_kind"], config["feature_input_hook"]) == ("cross_layer_transcoder", "hook_resid_mid")
    assert load_file(tmp_path / "out" / "W_dec_0.safetensors")["W_dec_0"].shape == (N, 3, D)
    read = read_dictionaries(tmp_path / "out")
    assert [d.spec.writes for d in read] == [tuple(f"blocks.{j}.hook_mlp_out" for j in range(i, 3)) for i in range(3)]
    for mine, theirs in zip(ours, read, strict=True):
        codes = dense(theirs, rows())
        torch.testing.assert_close(codes[:, : mine.spec.n_latents], dense(mine, rows()), atol=1e-5, rtol=1e-5)
        assert not codes[:, mine.spec.n_latents :].any()
    expected = written(ours)
    for site, value in written(read).items():
        torch.testing.assert_close(value, expected[site], atol=1e-5, rtol=1e-5)


# Peers' layouts, written by hand


def tensors(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}


PLAIN = {"W_enc": (D, N), "b_enc": (N,), "W_dec": (N, D), "b_dec": (D,)}


def saelens(folder: Path, kind: str, w: dict[str, torch.Tensor], **more: object) -> Dictionary:
    cfg = {"architecture": kind, "d_in": D, "d_sae": N, "metadata": {"hook_name": "blocks.0.hook_resid_pre"}} | more
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file(w, folder / "sae_weights.safetensors")
    (read,) = read_dictionaries(folder)
    return read


def keep_top(pre: torch.Tensor) -> torch.Tensor:
    best = pre.relu().topk(K)
    return torch.zeros_like(pre).scatter(1, best.indices, best.values)


def assert_computes(read: Dictionary, codes: torch.Tensor, out: torch.Tensor) -> None:
    assert 0.01 < float((codes > 0).float().mean()) < 0.6
    torch.testing.assert_close(dense(read, rows()), codes, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(read.run(rows())[0], out, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("shifted", [True, False])
def test_saelens_standard(shifted: bool, tmp_path: Path):
    w = tensors(**PLAIN)
    codes = ((rows() - shifted * w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    read = saelens(tmp_path, "standard", w, apply_b_dec_to_input=shifted)
    assert (read.spec.reads, read.spec.activation) == ("blocks.0.hook_resid_pre", "jumprelu")
    assert_computes(read, codes, codes @ w["W_dec"] + w["b_dec"])


def test_saelens_thresholds_below_zero_are_those_of_a_relu(tmp_path: Path):
    w = tensors(**PLAIN, threshold=(N,))
    assert (w["threshold"] < 0).any()
    pre = (rows() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    codes = pre.relu() * (pre > w["threshold"])
    assert_computes(saelens(tmp_path, "jumprelu", w), codes, codes @ w["W_dec"] + w["b_dec"])


def test_saelens_gated(tmp_path: Path):
    w = tensors(W_enc=(D, N), W_dec=(N, D), b_dec=(D,), r_mag=(N,), b_mag=(N,), b_gate=(N,))
    y = (rows() - w["b_dec"]) @ w["W_enc"]
    codes = (y + w["b_gate"] > 0) * (y * w["r_mag"].exp() + w["b_mag"]).relu()
    assert_computes(saelens(tmp_path, "gated", w), codes, codes @ w["W_dec"] + w["b_dec"])


def test_saelens_topk_ranked_by_what_it_writes(tmp_path: Path):
    w = tensors(**PLAIN)
    norms = w["W_dec"].norm(dim=1)
    codes = keep_top(((rows() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norms)
    read = saelens(tmp_path, "topk", w, k=K, rescale_acts_by_decoder_norm=True)
    assert_computes(read, codes, (codes / norms) @ w["W_dec"] + w["b_dec"])


def test_saelens_skip_transcoder(tmp_path: Path):
    w = tensors(W_enc=(D, N), b_enc=(N,), W_dec=(N, 7), b_dec=(7,), W_skip=(7, D))
    names = {"hook_name": "blocks.0.mlp.hook_in", "hook_name_out": "blocks.0.hook_mlp_out"}
    read = saelens(tmp_path, "skip_transcoder", w, d_out=7, metadata=names, apply_b_dec_to_input=False)
    assert (read.spec.reads, read.spec.writes) == ("blocks.0.ln2.hook_normalized", ("blocks.0.hook_mlp_out",))
    codes = (rows() @ w["W_enc"] + w["b_enc"]).relu()
    assert_computes(read, codes, codes @ w["W_dec"] + w["b_dec"] + rows() @ w["W_skip"].T)


@pytest.mark.parametrize("transcodes", [True, False])
def test_sparsify(transcodes: bool, tmp_path: Path):
    folder = tmp_path / "model.layers.4.mlp"
    folder.mkdir()
    shapes = {"encoder.weight": (N, D), "encoder.bias": (N,), "W_dec": (N, D), "b_dec": (D,), "W_skip": (D, D)}
    w = tensors(**shapes)
    settings = {"k": K, "d_in": D, "num_latents": N, "skip_connection": True, "transcode": transcodes}
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file(w, folder / "sae.safetensors")
    (read,) = read_dictionaries(tmp_path)
    assert read.spec.reads == ("blocks.4.ln2.hook_normalized" if transcodes else "blocks.4.hook_mlp_out")
    assert read.spec.writes == ("blocks.4.hook_mlp_out",)
    x = rows() if transcodes else rows() - w["b_dec"]
    codes = keep_top(x @ w["encoder.weight"].T + w["encoder.bias"])
    assert_computes(read, codes, codes @ w["W_dec"] + w["b_dec"] + rows() @ w["W_skip"].T)


def test_sparsify_latents_as_a_multiple_of_the_input(tmp_path: Path):
    folder = tmp_path / "h.0"
    folder.mkdir()
    save_file(
        tensors(**{"encoder.weight": (3 * D, D), "encoder.bias": (3 * D,), "W_dec": (3 * D, D), "b_dec": (D,)}),
        folder / "sae.safetensors",
    )
    (folder / "cfg.json").write_text(json.dumps({"k": K, "d_in": D, "num_latents": 0, "expansion_factor": 3}))
    (read,) = read_dictionaries(folder)
    assert read.spec.n_latents == 3 * D
    assert read.spec.reads == "blocks.0.hook_resid_post"


LINEAR = {"encoder.weight": (N, D), "encoder.bias": (N,), "decoder.weight": (D, N)}


def dictionary_learning(folder: Path, kind: str, w: dict[str, torch.Tensor], **more: object) -> Dictionary:
    trainer = {"dict_class": kind, "activation_dim": D, "dict_size": N, "submodule_name": "resid_post", "layer": 2}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | more, "buffer": {"io": "out"}}))
    torch.save(w, folder / "ae.pt")
    (read,) = read_dictionaries(folder)
    assert read.spec.reads == "blocks.2.hook_resid_post"
    return read


def test_dictionary_learning_autoencoders(tmp_path: Path):
    w = tensors(**LINEAR, bias=(D,))
    codes = ((rows() - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    read = dictionary_learning(tmp_path, "AutoEncoder", w)
    assert_computes(read, codes, codes @ w["decoder.weight"].T + w["bias"])
    w = tensors(**LINEAR, **{"decoder.bias": (D,)})
    codes = (rows() @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    read = dictionary_learning(tmp_path, "AutoEncoderNew", w, submodule_name="resid_post_layer_2", layer=None)
    assert_computes(read, codes, codes @ w["decoder.weight"].T + w["decoder.bias"])


@pytest.mark.parametrize("threshold", [0.4, -1.0])
def test_dictionary_learning_topk_and_batchtopk(threshold: float, tmp_path: Path):
    w = tensors(**LINEAR, b_dec=(D,)) | {"k": torch.tensor(K), "threshold": torch.tensor(threshold)}
    pre = (rows() - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]
    for kind, codes in (("AutoEncoderTopK", keep_top(pre)), ("BatchTopKSAE", pre.relu() * (pre.relu() > threshold))):
        read = dictionary_learning(tmp_path, kind, w, k=K)
        assert read.spec.k == K
        assert_computes(read, codes, codes @ w["decoder.weight"].T + w["b_dec"])


def test_dictionary_learning_matryoshka_and_jumprelu(tmp_path: Path):
    w = tensors(**PLAIN)
    pre = (rows() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    codes = pre.relu() * (pre > 0.3)
    more = {"k": torch.tensor(K), "threshold": torch.tensor(0.3), "group_sizes": torch.tensor([10, N - 10])}
    read = dictionary_learning(tmp_path, "MatryoshkaBatchTopKSAE", w | more, k=K)
    assert_computes(read, codes, codes @ w["W_dec"] + w["b_dec"])
    w = tensors(**PLAIN, threshold=(N,))
    pre = rows() @ w["W_enc"] + w["b_enc"]
    codes = (pre * (pre > w["threshold"])).relu()
    assert_computes(dictionary_learning(tmp_path, "JumpReluAutoEncoder", w), codes, codes @ w["W_dec"] + w["b_dec"])


def test_dictionary_learning_gated(tmp_path: Path):
    w = tensors(
        decoder_bias=(D,),
        **{"encoder.weight": (N, D), "decoder.weight": (D, N)},
        r_mag=(N,),
        gate_bias=(N,),
        mag_bias=(N,),
    )
    y = (rows() - w["decoder_bias"]) @ w["encoder.weight"].T
    codes = (y + w["gate_bias"] > 0) * (y * w["r_mag"].exp() + w["mag_bias"]).relu()
    read = dictionary_learning(tmp_path, "GatedAutoEncoder", w)
    assert_computes(read, codes, codes @ w["decoder.weight"].T + w["decoder_bias"])


def test_circuit_tracer_relu_and_skip(tmp_path: Path):
    w = tensors(W_enc=(N, D), b_enc=(N,), W_dec=(N, D), b_dec=(D,), W_skip=(D, D))
    save_file(w, tmp_path / "layer_0.safetensors")
    config = {
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (read,) = read_dictionaries(tmp_path)
    assert (read.spec.reads, read.spec.writes) == ("blocks.0.ln2.hook_normalized", ("blocks.0.hook_mlp_out",))
    codes = (rows() @ w["W_enc"].T + w["b_enc"]).relu()
    assert_computes(read, codes, codes @ w["W_dec"] + w["b_dec"] + rows() @ w["W_skip"].T)


def test_circuit_tracer_round_trip_with_skip(tmp_path: Path):
    ours = [transcoder(layer, activation="jumprelu", skip=True, seed=layer) for layer in range(2)]
    write_dictionaries(tmp_path / "out", "circuit_tracer", ours, "tiny")
    for mine, theirs in zip(ours, read_dictionaries(tmp_path / "out"), strict=True):
        assert_alike(mine, theirs)


def test_a_place_that_cannot_be_written_to(tmp_path: Path):
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "out"  # no folder can be made in a file
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        place = tmp_path / "locked" / "out"
    with pytest.raises(ArtifactError, match=r"out: cannot be written \(.*make room or choose another place"):
        write_dictionaries(place, "saelens", [coder()], "tiny")
