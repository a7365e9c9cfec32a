"""Featured programs: equal to the exact ones with error blocks, to the fitted dictionaries without them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from englishroom.dictionaries.config import DictionariesConfig
from englishroom.dictionaries.dictionary import Activation, Dictionary, DictionarySpec
from englishroom.dictionaries.joint_fit import featured_specs
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.dictionaries.train import start_from
from englishroom.emit.python import Header, emit
from englishroom.errors import ConfigError
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.interp.reference import log_probs as reference_log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Activate, Unexplained
from englishroom.ir.room import pack
from englishroom.ir.verify import verify
from englishroom.lower.featurise import featurise, variable_of
from englishroom.lower.lift import lift
from englishroom.lower.recover import dictionaries_of
from englishroom.models.load import Target, in_precision, load_target
from englishroom.models.spec import ModelSpec
from englishroom.names import TABLES
from englishroom.pipeline.opening import open_target
from englishroom.store import sha256
from tiny import CASES


def random_tokens(spec: ModelSpec, seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, spec.d_vocab, n)


def dictionaries_for(target: Target, specs: tuple[DictionarySpec, ...], seed: int = 0) -> tuple[Dictionary, ...]:
    """Draw dictionaries whose latents are of the size of what they read and write."""
    g = torch.Generator().manual_seed(seed)
    sites = sorted({site for s in specs for site in (s.reads, *s.writes)})
    tokens = torch.from_numpy(random_tokens(target.spec, 0, 20)[None])
    values = clean_run(target.spec, target.weights, tokens, sites)[1]
    return tuple(start_from(Dictionary.random(s, g), values, torch.Generator().manual_seed(1)) for s in specs)


def specs_for(target: Target, activation: Activation = "topk", skip: bool = False) -> tuple[DictionarySpec, ...]:
    return featured_specs(target.spec, DictionariesConfig(None, 40, 6, 0, 48, 5, skip), activation)


def tables_for(target: Target) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return {"blocks.0.hook_mlp_out": torch.randn(target.spec.d_vocab, target.spec.d_model, generator=g) * 0.1}


@pytest.fixture(scope="module", params=CASES)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    return in_double(load_target(str(CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model"))))


def in_double(target: Target) -> Target:
    return in_precision(target, torch.float64)


def double(replacement: Replacement) -> Replacement:
    tables = {site: table.double() for site, table in replacement.tables.items()}
    dictionaries = tuple(d.double() for d in replacement.dictionaries)
    return Replacement(replacement.spec, replacement.weights, dictionaries, tables)


def replaced(target: Target, specs: tuple[DictionarySpec, ...], tables: bool = True) -> Replacement:
    single = in_precision(target, torch.float32)
    found = Replacement(
        target.spec, target.weights, dictionaries_for(single, specs), tables_for(target) if tables else {}
    )
    return double(found)


def run(replacement: Replacement, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return replacement.logits(replacement.run(torch.from_numpy(tokens))).log_softmax(-1).numpy()


def test_with_error_blocks_it_is_the_exact_program(target: Target):
    replacement = replaced(target, specs_for(target))
    program, record = featurise(target, replacement, errors=True)
    assert verify(program) == []
    assert program.level == "featured"
    assert record.options["errors"] is True
    assert sum(isinstance(block, Unexplained) for block in program.blocks) == 2 * target.spec.n_layers
    tokens = random_tokens(target.spec, 1, 20)[None]
    exact = Interpreter(lift(target)[0], np.float64).log_probs(tokens)
    found = Interpreter(program, np.float64).log_probs(tokens)
    assert np.abs(found - exact).max() < 1e-9


def test_without_error_blocks_it_is_the_dictionaries(target: Target):
    replacement = replaced(target, specs_for(target))
    program, _ = featurise(target, replacement)
    tokens = random_tokens(target.spec, 1, 20)[None]
    expected = run(replacement, tokens)
    assert np.abs(Interpreter(program, np.float64).log_probs(tokens) - expected).max() < 1e-9
    assert np.abs(reference_log_probs(program, tokens[0]) - expected[0]).max() < 1e-9
    exact = Interpreter(lift(target)[0], np.float64).log_probs(tokens)
    assert np.abs(expected - exact).max() > 0.1  # it is another program


def test_nothing_of_an_mlp_is_left_where_rules_stand_for_it(target: Target):
    program, _ = featurise(target, replaced(target, specs_for(target)))
    used = set(program.tables())
    assert not {name for name in used if ".mlp.W_" in name or ".mlp.b_" in name}
    assert not [b for b in program.blocks if isinstance(b, Activate) and b.function != "relu"]
    assert {f"blocks.{i}.{kind}" for i in range(target.spec.n_layers) for kind in ("moved", "rules")} <= {
        block.name for block in program.blocks
    }


@pytest.mark.parametrize(("activation", "skip"), [("jumprelu", False), ("batchtopk", True), ("topk", True)])
def test_every_kind_of_dictionary_becomes_blocks(activation: Activation, skip: bool, gpt2: Target):
    replacement = replaced(gpt2, specs_for(gpt2, activation, skip))
    tokens = random_tokens(gpt2.spec, 1, 20)[None]
    program, _ = featurise(gpt2, replacement)
    assert np.abs(Interpreter(program, np.float64).log_probs(tokens) - run(replacement, tokens)).max() < 1e-9
    exact = Interpreter(lift(gpt2)[0], np.float64).log_probs(tokens)
    program, _ = featurise(gpt2, replacement, errors=True)
    assert np.abs(Interpreter(program, np.float64).log_probs(tokens) - exact).max() < 1e-9


@pytest.mark.parametrize("errors", [False, True])
def test_a_cross_layer_transcoder_and_autoencoders_on_the_stream(errors: bool, gpt2: Target):
    d = gpt2.spec.d_model
    ends = tuple(f"blocks.{i}.hook_mlp_out" for i in range(2))
    specs = (
        DictionarySpec("blocks.0.ln2.hook_normalized", ends, d, d, 48, k=5),
        DictionarySpec("blocks.1.ln2.hook_normalized", ends[1:], d, d, 48, k=5),
        DictionarySpec("blocks.0.hook_resid_pre", ("blocks.0.hook_resid_pre",), d, d, 60, k=7),
        DictionarySpec("blocks.1.hook_resid_post", ("blocks.1.hook_resid_post",), d, d, 60, k=7),
    )
    replacement = replaced(gpt2, specs)
    tokens = random_tokens(gpt2.spec, 1, 20)[None]
    program, _ = featurise(gpt2, replacement, errors)
    expected = Interpreter(lift(gpt2)[0], np.float64).log_probs(tokens) if errors else run(replacement, tokens)
    assert np.abs(Interpreter(program, np.float64).log_probs(tokens) - expected).max() < 1e-9


def test_a_dictionary_where_programs_have_no_site_is_refused(gpt2: Target):
    spec = DictionarySpec("blocks.0.mlp.hook_post", ("blocks.0.hook_mlp_out",), 128, gpt2.spec.d_model, 48, k=5)
    with pytest.raises(ConfigError, match=r"programs have no variable for blocks\.0\.mlp\.hook_post; they have "):
        featurise(gpt2, replaced(gpt2, (spec,), tables=False), errors=True)


def test_variables_are_named_for_what_they_stand_for():
    attn = DictionarySpec("blocks.0.hook_attn_out", ("blocks.0.hook_attn_out",), 8, 8, 20)
    mlp = DictionarySpec("blocks.1.ln2.hook_normalized", ("blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"), 8, 8, 20)
    stream = DictionarySpec("blocks.1.hook_resid_mid", ("blocks.1.hook_resid_mid",), 8, 8, 20)
    assert [variable_of(s) for s in (attn, mlp, stream)] == [
        "blocks.0.moved",
        "blocks.1.rules",
        "blocks.1.hook_resid_mid.features",
    ]


def test_the_emitted_file_runs_by_itself_and_says_the_same(tmp_path: Path):
    target, tokenizer = open_target(str(CASES["gpt2"].write(tmp_path / "model")))
    program, _ = featurise(target, replaced(in_double(target), specs_for(target)))
    files = pack(program, tokenizer)
    text = emit(program, tokenizer, Header("tiny"), sha256(files[TABLES])).text
    assert "write_rows" in text  # what few features write is added row by row
    (tmp_path / TABLES).write_bytes(files[TABLES])
    (tmp_path / "program.py").write_text(text)
    tokens = random_tokens(target.spec, 1, 12)[None]
    with EmittedTalker(tmp_path / "program.py", tokenizer, program.n_ctx) as talker:
        found = talker.log_probs(tokens)
    assert np.abs(found - Interpreter(program, np.float64).log_probs(tokens)).max() < 1e-9


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return in_double(load_target(str(CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "gpt2"))))


@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize(("activation", "skip"), [("topk", False), ("jumprelu", True)])
def test_the_dictionaries_can_be_read_back(errors: bool, activation: Activation, skip: bool, gpt2: Target):
    d = gpt2.spec.d_model
    ends = tuple(f"blocks.{i}.hook_mlp_out" for i in range(2))
    crossing = DictionarySpec("blocks.0.ln2.hook_normalized", ends, d, d, 48, activation, 5, skip)
    specs = (specs_for(gpt2, activation, skip)[0], crossing, *specs_for(gpt2, activation, skip)[2:])
    replacement = replaced(gpt2, specs)
    found = dictionaries_of(featurise(gpt2, replacement, errors)[0])
    assert len(found) == len(specs)
    for one, other in zip(found, replacement.dictionaries, strict=True):
        k = None if activation == "jumprelu" else other.spec.k
        assert one.spec == dataclasses.replace(other.spec, k=k)
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(one.weights[name], tensor) for name, tensor in other.weights.items())


def test_an_exact_program_has_no_dictionaries(gpt2: Target):
    with pytest.raises(ConfigError, match="the program is exact and has no dictionaries"):
        dictionaries_of(lift(gpt2)[0])
