"""Dictionaries that a format cannot hold are not written, each with its reason; and the names of sites, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from coders import coder, transcoder

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import write_dictionaries
from englishroom.dictionaries.formats.sites import from_lens, module_path, module_sites, to_lens
from englishroom.errors import ConfigError, EnglishRoomError, UnsupportedModelError


def unwritable(format: str, dictionaries: list[Dictionary], folder: Path, kind: type[Exception]) -> str:
    with pytest.raises(EnglishRoomError) as caught:
        write_dictionaries(folder / "out", format, dictionaries, "tiny")
    assert type(caught.value) is kind
    assert not (folder / "out").exists()
    return str(caught.value)


OUT = "blocks.0.hook_mlp_out"
PAIR = f"blocks.0.ln2.hook_normalized -> {OUT}"


@pytest.mark.parametrize(
    ("format", "dictionaries", "message"),
    [
        (
            "saelens",
            [transcoder(d_in=9)],
            f"{PAIR}: reads 9 numbers and writes 12, SAELens holds as many on both sides only; write it as englishroom",
        ),
        (
            "saelens",
            [transcoder(skip=True)],
            f"{PAIR}: SAELens has no TopK dictionary with a skip; give it thresholds, or write it as sparsify",
        ),
        (
            "saelens",
            [coder("blocks.0.hook_resid_mid", OUT, "blocks.1.hook_mlp_out")],
            f"blocks.0.hook_resid_mid -> {OUT}: SAELens holds no dictionary that writes 2 sites; "
            "write it as englishroom",
        ),
        ("saelens", [coder("blocks.0.hook_q")], "blocks.0.hook_q: TransformerLens has no such site; "),
        (
            "sparsify",
            [coder(activation="jumprelu")],
            "blocks.0.hook_attn_out: sparsify knows TopK only, not jumprelu; use saelens",
        ),
        (
            "sparsify",
            [coder("blocks.0.hook_resid_mid")],
            "blocks.0.hook_resid_mid -> blocks.0.hook_resid_mid: no module of gpt2 reads the one and writes the other",
        ),
        (
            "sparsify",
            [coder(OUT), transcoder()],
            f"{PAIR}: another dictionary stands at h.0.mlp; write them apart",
        ),
        (
            "dictionary_learning",
            [transcoder()],
            f"{PAIR}: dictionary_learning holds autoencoders only, no transcoder or skip; write it as saelens",
        ),
        (
            "circuit_tracer",
            [coder(activation="jumprelu")],
            "blocks.0.hook_attn_out: circuit-tracer holds transcoders of MLPs only; write it as saelens",
        ),
        (
            "circuit_tracer",
            [transcoder()],
            f"{PAIR}: circuit-tracer 0.5 would run TopK as ReLU; give it thresholds (batchtopk or jumprelu)",
        ),
        (
            "circuit_tracer",
            [coder("blocks.0.hook_resid_mid", "blocks.1.hook_mlp_out", activation="jumprelu")],
            "blocks.0.hook_resid_mid -> blocks.1.hook_mlp_out: writes another layer than it reads; "
            "write it as englishroom",
        ),
        (
            "circuit_tracer",
            [coder("blocks.0.hook_resid_mid", OUT, "blocks.1.hook_mlp_out", activation="jumprelu", skip=True)],
            f"blocks.0.hook_resid_mid -> {OUT}: circuit-tracer reads no skip of a cross-layer transcoder",
        ),
        (
            "circuit_tracer",
            [transcoder(1, activation="jumprelu")],
            "layer 0 has no transcoder; circuit-tracer wants one for every layer from the first on",
        ),
        (
            "circuit_tracer",
            [transcoder(activation="jumprelu"), coder("blocks.0.hook_resid_mid", OUT, activation="jumprelu")],
            f"blocks.0.hook_resid_mid -> {OUT}: layer 0 has two transcoders; write them apart",
        ),
        (
            "circuit_tracer",
            [transcoder(activation="jumprelu"), transcoder(1, activation="jumprelu", skip=True)],
            "blocks.1.ln2.hook_normalized -> blocks.1.hook_mlp_out: reads another kind of site than "
            f"{PAIR}, or only one has a skip; circuit-tracer wants all layers alike",
        ),
        (
            "saelens",
            [coder(), coder(seed=1)],
            "blocks.0.hook_attn_out: two dictionaries stand there, saelens holds one; write them apart",
        ),
    ],
)
def test_what_a_format_cannot_hold(format: str, dictionaries: list[Dictionary], message: str, tmp_path: Path):
    assert unwritable(format, dictionaries, tmp_path, UnsupportedModelError).startswith(message)


@pytest.mark.parametrize("format", ["saelens", "dictionary_learning", "circuit_tracer"])
def test_thresholds_below_zero_are_not_written(format: str, tmp_path: Path):
    made = transcoder(activation="jumprelu") if format == "circuit_tracer" else coder(activation="jumprelu")
    made.weights["threshold"][3] = -0.25
    message = unwritable(format, [made], tmp_path, ConfigError)
    assert message == f"{made.spec.name}: a threshold is -0.25, expected 0 or more"


def test_writing_nothing_or_nowhere(tmp_path: Path):
    assert unwritable("saelens", [], tmp_path, ConfigError) == (
        f"{tmp_path / 'out'}: no dictionaries to write; give at least one"
    )
    message = unwritable("npz", [coder()], tmp_path, ConfigError)
    assert message == ("--format is npz, expected englishroom, saelens, sparsify, dictionary_learning, circuit_tracer")
    (tmp_path / "there").mkdir()
    write_dictionaries(tmp_path / "there", "saelens", [coder()], "tiny")  # an empty folder is nothing
    with pytest.raises(ConfigError) as caught:
        write_dictionaries(tmp_path / "there", "saelens", [coder()], "tiny")
    assert str(caught.value) == f"{tmp_path / 'there'}: is a folder with other things in it; choose another one"


# Names of sites


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "llama"])
def test_modules_are_found_again(family: Any, tmp_path: Path):
    for reads, writes in (
        ("ln2.hook_normalized", "hook_mlp_out"),
        ("ln1.hook_normalized", "hook_attn_out"),
        ("hook_resid_pre", "hook_resid_post"),
        ("mlp.hook_post", "hook_mlp_out"),
        ("hook_resid_mid", "ln2.hook_normalized"),
    ):
        sites = (f"blocks.7.{reads}", f"blocks.7.{writes}")
        path = module_path(*sites, family)
        assert path.startswith("layers.7" if family == "llama" else "h.7")
        assert module_sites(path, tmp_path) == sites
        assert module_sites(f"transformer.{path}", tmp_path) == sites


def test_names_of_transformer_lens_are_found_again(tmp_path: Path):
    assert to_lens("blocks.3.ln2.hook_normalized") == "blocks.3.mlp.hook_in"
    for site in ("hook_embed", "ln_final.hook_normalized", "blocks.3.ln1.hook_normalized", "blocks.12.hook_resid_mid"):
        assert from_lens(to_lens(site), tmp_path) == site
    with pytest.raises(UnsupportedModelError, match="lies before the norm's gain"):
        from_lens("ln_final.hook_normalized", tmp_path)
