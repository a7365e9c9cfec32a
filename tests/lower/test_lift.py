"""Lifting: every weight stands in one table, every variable is the target's own site, every rewrite is on record."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from englishroom.interp.reference import log_probs as reference_log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Linear, Program, Table, tables_of
from englishroom.ir.verify import verify
from englishroom.lower.lift import lift
from englishroom.models.adapters import gpt2, gpt_neo, llama
from englishroom.models.forward import forward, log_probs
from englishroom.models.load import Target, in_precision, load_target
from englishroom.models.spec import ModelSpec, weight_shapes
from tiny import CASES, HF_CASES, make_gpt2, make_llama2c, random_tokens


@pytest.fixture(scope="module", params=CASES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def target(path: Path) -> Target:
    return load_target(str(path))


@pytest.fixture(scope="module")
def program(target: Target) -> Program:
    return lift(target)[0]


def test_every_weight_is_one_table_with_the_same_numbers(target: Target, program: Program):
    tables = program.tables()
    assert set(tables) == set(target.weights)
    for name, weight in target.weights.items():
        table = tables[name]
        assert isinstance(table, Table)
        assert table.values.dtype == np.float32
        assert np.array_equal(table.values, weight.numpy())
        assert not table.values.flags.writeable
    assert program.n_entries == target.parameter_count


def test_the_program_is_exact_and_of_the_target_s_size(target: Target, program: Program):
    assert verify(program) == []
    assert (program.level, program.n_ctx, program.d_vocab) == ("exact", target.spec.n_ctx, target.spec.d_vocab)
    assert {space.name: space.size for space in program.spaces}["resid"] == target.spec.d_model


def test_every_variable_is_what_the_target_has_at_the_site_of_that_name(path: Path, target: Target, program: Program):
    tokens = random_tokens(path, batch=1, n_pos=20)
    sites: dict[str, np.ndarray] = {}
    names = {block.name for block in program.blocks}

    def keep(site: str, value: torch.Tensor) -> torch.Tensor:
        sites[site] = value.numpy()
        return value

    double = in_precision(target, torch.float64)
    forward(double.spec, double.weights, tokens, tap=keep)
    variables = Interpreter(program, np.float64).variables(tokens[0].numpy())
    gates = {f"blocks.{layer}.mlp.hook_act" for layer in range(target.spec.n_layers) if target.spec.gated_mlp}
    assert names - set(sites) == {"log_probs"} | gates
    for name in names & set(sites):
        assert np.abs(variables[name] - sites[name].reshape(variables[name].shape)).max() < 1e-10, name
    unseen = ("hook_attn_scores", "hook_pattern", "hook_resid_pre")  # inside attend, and another name of resid_post
    assert all(site.endswith(unseen) for site in set(sites) - names)


@pytest.mark.parametrize("name", HF_CASES)
def test_origins_name_every_tensor_of_the_file_and_no_other(name: str, tmp_path: Path):
    program, _ = lift(load_target(str(CASES[name].write(tmp_path))))
    assert {block.origin.made_by for block in program.blocks} == {"lift"}
    named = {s.removesuffix(".T").partition("[")[0] for block in program.blocks for s in block.origin.sources}
    assert named == set(safetensors.torch.load_file(tmp_path / "model.safetensors"))


def test_origins_of_a_llama2c_file_name_its_tensors(tmp_path: Path):
    target = load_target(str(make_llama2c(tmp_path, vocab_size=-270)))
    program, _ = lift(target)
    named = {s.removesuffix(".T") for block in program.blocks for s in block.origin.sources}
    stacked = ("attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3")
    expected = {f"layers.{layer}.{name}" for layer in range(2) for name in stacked}
    assert named == expected | {"tok_embeddings", "norm", "output"}


def test_every_block_with_a_table_says_where_it_comes_from(program: Program, target: Target):
    for block in program.blocks:
        assert list(block.origin.sources) == [target.sources[table.name] for table in tables_of(block)], block.name


def test_every_difference_between_a_table_and_its_tensor_is_on_record(tmp_path: Path):
    """Undo what the record says, and what is left equals the file."""
    for name in HF_CASES:
        target = load_target(str(CASES[name].write(tmp_path / name)))
        program, record = lift(target)
        published = safetensors.torch.load_file(tmp_path / name / "model.safetensors")
        transposed, split = set(), {}
        for rewrite in record.rewrites:
            match rewrite.split():
                case ["transposed", _, "into", ours, "[in,", "out]"]:
                    transposed.add(ours)
                case ["split", ours, "out", "of", _, *where]:
                    split[ours] = "QKV".index(ours[-1])
                    assert where == [str(split[ours] + 1), "of", "3]"]
        for ours, table in program.tables().items():
            tensor = published[target.sources[ours].removesuffix(".T").partition("[")[0]].numpy()
            tensor = tensor.T if ours in transposed else tensor
            tensor = np.split(tensor, 3, axis=-1)[split[ours]] if ours in split else tensor
            assert np.array_equal(table.values, tensor), (name, ours)
        tied = "read the logits through embed.W_E transposed (tied)"
        assert (tied in record.rewrites) == target.spec.tied
        assert len(record.rewrites) == len(transposed) + len(split) + target.spec.tied


def test_the_record_names_each_kind_of_rewrite(tmp_path: Path):
    _, record = lift(load_target(str(make_gpt2(tmp_path / "gpt2", n_layer=1))))
    assert (record.made_by, record.options) == ("lift", {"target": "gpt2"})
    assert record.seconds > 0
    assert record.rewrites == (
        "split blocks.0.attn.W_Q out of transformer.h.0.attn.c_attn.weight[..., 1 of 3]",
        "split blocks.0.attn.b_Q out of transformer.h.0.attn.c_attn.bias[..., 1 of 3]",
        "split blocks.0.attn.W_K out of transformer.h.0.attn.c_attn.weight[..., 2 of 3]",
        "split blocks.0.attn.b_K out of transformer.h.0.attn.c_attn.bias[..., 2 of 3]",
        "split blocks.0.attn.W_V out of transformer.h.0.attn.c_attn.weight[..., 3 of 3]",
        "split blocks.0.attn.b_V out of transformer.h.0.attn.c_attn.bias[..., 3 of 3]",
        "read the logits through embed.W_E transposed (tied)",
    )
    _, record = lift(load_target(str(make_llama2c(tmp_path / "llama2c", n_layers=1))))
    assert record.rewrites == (
        *(
            f"transposed layers.0.{theirs} into blocks.0.{ours} [in, out]"
            for theirs, ours in (
                ("wq", "attn.W_Q"),
                ("wk", "attn.W_K"),
                ("wv", "attn.W_V"),
                ("wo", "attn.W_O"),
                ("w1", "mlp.W_gate"),
                ("w3", "mlp.W_in"),
                ("w2", "mlp.W_out"),
            )
        ),
        "reordered columns of blocks.0.attn.W_Q: rotary pairs 2i, 2i+1 to i, i + d_head/2",
        "reordered columns of blocks.0.attn.W_K: rotary pairs 2i, 2i+1 to i, i + d_head/2",
        "read the logits through embed.W_E transposed (tied)",
    )


def test_reordered_columns_are_the_file_s_numbers_in_the_order_on_record(tmp_path: Path):
    path = make_llama2c(tmp_path, n_layers=1, n_kv_heads=2)
    tables = lift(load_target(str(path)))[0].tables()
    flat = np.frombuffer(path.read_bytes(), "<f4", offset=28)
    at = 270 * 32 + 32  # after the embedding and the attention's gains
    for name, n_heads in (("W_Q", 4), ("W_K", 2)):
        published = flat[at : at + n_heads * 8 * 32].reshape(n_heads, 8, 32)  # [head, coordinate, in]
        table = tables[f"blocks.0.attn.{name}"].values.T.reshape(n_heads, 8, 32)
        assert np.array_equal(table[:, :4], published[:, 0::2])
        assert np.array_equal(table[:, 4:], published[:, 1::2])
        at += published.size


def test_a_tied_program_reads_its_logits_through_the_embedding(target: Target, program: Program):
    unembed = next(block for block in program.blocks if block.name == "hook_logits")
    assert isinstance(unembed, Linear)
    assert (unembed.weight.name, unembed.transposed) == (
        ("embed.W_E", True) if target.spec.tied else ("unembed.W_U", False)
    )


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Draw any architecture that a family can have, and mixtures that no family has."""
    family: Literal["gpt2", "gpt_neo", "llama"] = draw(st.sampled_from(["gpt2", "gpt_neo", "llama"]))
    n_layers, n_kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    is_llama = family == "llama"
    qkv_bias = family == "gpt2" or (is_llama and draw(st.booleans()))
    windows = st.lists(st.none() | st.integers(1, 12), min_size=n_layers, max_size=n_layers)
    return ModelSpec(
        family=family,
        n_layers=n_layers,
        d_model=draw(st.integers(1, 6)),
        n_heads=n_kv_heads * (draw(st.integers(1, 3)) if is_llama else 1),
        n_kv_heads=n_kv_heads,
        d_head=2 * draw(st.integers(1, 3)),
        d_mlp=draw(st.integers(1, 7)),
        d_vocab=draw(st.integers(1, 9)),
        n_ctx=draw(st.integers(1, 12)),
        activation=draw(st.sampled_from(["gelu_new", "gelu", "relu", "silu"])),
        norm="rmsnorm" if is_llama else "layernorm",
        norm_eps=draw(st.sampled_from([1e-6, 1e-5, 1e-1])),
        gated_mlp=is_llama,
        rotary_theta=draw(st.sampled_from([10.0, 10000.0])) if is_llama else None,
        attn_scale=draw(st.sampled_from([1.0, 0.5])),
        windows=tuple(draw(windows)),
        tied=draw(st.booleans()),
        qkv_bias=qkv_bias,
        out_bias=qkv_bias or family == "gpt_neo",
        mlp_bias=not is_llama or draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.integers(0, 2**32 - 1))
def test_any_target_lifts_to_a_valid_program_with_its_answers(spec: ModelSpec, seed: int):
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in weight_shapes(spec).items()
    }
    adapter = {"gpt2": gpt2, "gpt_neo": gpt_neo, "llama": llama}[spec.family]
    sources = {source.ours: str(source) for source in adapter.sources(spec)}
    assert set(sources) == set(weights)
    program, _ = lift(Target("random", Path("nowhere"), "huggingface", spec, weights, sources, ""))
    assert verify(program) == []
    tokens = torch.randint(spec.d_vocab, (1, spec.n_ctx), generator=generator)
    expected = log_probs(spec, weights, tokens)[0].numpy()
    assert np.abs(reference_log_probs(program, tokens[0].tolist()) - expected).max() < 1e-8
    assert np.abs(Interpreter(program, np.float64).log_probs(tokens[0].numpy()) - expected).max() < 1e-8
