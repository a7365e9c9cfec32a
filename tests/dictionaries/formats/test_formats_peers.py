"""Round trips through the peers' own loaders, forward passes and savers, each in its own Python.

Give their Pythons by ENGLISHROOM_SAELENS_PYTHON, ENGLISHROOM_SPARSIFY_PYTHON, ENGLISHROOM_CIRCUIT_TRACER_PYTHON and
ENGLISHROOM_DICTIONARY_LEARNING_PYTHON. Tried with sae-lens 6.54.12, eai-sparsify 1.3.3, circuit-tracer 0.5.0 and
dictionary-learning 0.1.0.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from coders import coder, dense, rows, transcoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import read_dictionaries, write_dictionaries
from englishroom.dictionaries.formats.saelens import folder_name
from englishroom.dictionaries.formats.sites import module_path, to_lens
from englishroom.models.forward import final_normalized
from englishroom.models.load import load_target
from englishroom.models.spec import site_sizes
from tiny import make_gpt2, make_llama

pytestmark = pytest.mark.peers
RUNS = Path(__file__).parent / "peer_runs"


def run_peer(peer: str, folder: Path, script: str | None = None) -> dict[str, Tensor]:
    """Run a peer's script over a folder and return what it computed."""
    variable = f"ENGLISHROOM_{peer.upper()}_PYTHON"
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} is not set; give a Python that has {peer}")
    script = script or peer
    save_file({"12": rows(), "9": rows(9)}, folder / "x.safetensors")
    (folder / "ours").mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, RUNS / f"run_{script}.py", folder], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "answers.safetensors")


def assert_same(dictionary: Dictionary, name: str, answers: dict[str, Tensor]) -> None:
    x = rows(dictionary.spec.d_in)
    codes = dense(dictionary, x)
    assert 0.01 < float((codes > 0).float().mean()) < 0.6, name
    torch.testing.assert_close(answers[f"{name} codes"], codes, atol=1e-5, rtol=1e-5, msg=lambda m: f"{name}: {m}")
    out = dictionary.run(x)[0]
    torch.testing.assert_close(answers[f"{name} out"], out, atol=1e-5, rtol=1e-5, msg=lambda m: f"{name}: {m}")


def check_both_ways(peer: str, ours: Sequence[Dictionary], names: Sequence[str], folder: Path, n: int) -> None:
    """Check that a peer computes what ``ours`` do, and that its own ``n`` dictionaries compute the same here."""
    write_dictionaries(folder / "ours", peer, ours, "tiny")
    answers = run_peer(peer, folder)
    for dictionary, name in zip(ours, names, strict=True):
        assert_same(dictionary, name, answers)
    theirs = sorted(p for p in (folder / "theirs").iterdir())
    assert len(theirs) == n
    for path in theirs:
        (read,) = read_dictionaries(path)
        assert_same(read, path.name, answers)


def test_saelens(tmp_path: Path):
    ours = [
        coder(),
        coder("blocks.1.hook_resid_post", activation="jumprelu"),
        coder("blocks.2.hook_mlp_out", activation="batchtopk", even=True),
        transcoder(),
        transcoder(1, activation="jumprelu", d_in=9),
        transcoder(2, activation="batchtopk", skip=True, d_in=9),
    ]
    check_both_ways("saelens", ours, [folder_name(d) for d in ours], tmp_path, 10)


def test_sparsify(tmp_path: Path):
    ours = [coder(), coder("blocks.10.hook_resid_post"), transcoder(3), transcoder(2, skip=True)]
    names = [module_path(d.spec.reads, d.spec.writes[0], "gpt2") for d in ours]
    check_both_ways("sparsify", ours, names, tmp_path, 4)


def test_dictionary_learning(tmp_path: Path):
    ours = [
        coder(),
        coder("blocks.3.hook_resid_pre", activation="jumprelu"),
        coder("blocks.1.hook_mlp_out", activation="batchtopk", even=True),
        coder("blocks.2.hook_mlp_out", activation="batchtopk"),
    ]
    check_both_ways("dictionary_learning", ours, [folder_name(d) for d in ours], tmp_path, 7)


def layered(dictionaries: Sequence[Dictionary]) -> tuple[Tensor, Tensor]:
    """Compute codes and what is written, of all layers; layer i reads rows + i."""
    codes, total = [], torch.zeros(len(dictionaries), *rows().shape)
    for layer, dictionary in enumerate(dictionaries):
        codes.append(dense(dictionary, rows() + layer))
        for site, part in dictionary.written(dictionary.run(rows() + layer)[0]).items():
            total[int(site.split(".")[1])] += part
    n = max(code.shape[1] for code in codes)
    return torch.stack([torch.nn.functional.pad(code, (0, n - code.shape[1])) for code in codes]), total


def test_circuit_tracer(tmp_path: Path):
    outs = [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]
    ins = [f"blocks.{layer}.hook_resid_mid" for layer in range(3)]
    sets = {
        "plain": [transcoder(layer, activation="jumprelu", seed=layer) for layer in range(2)],
        "uneven": [transcoder(layer, activation="batchtopk", n=40 - layer, seed=layer) for layer in range(2)],
        "skip": [transcoder(layer, activation="jumprelu", skip=True, seed=layer) for layer in range(2)],
        "crossing": [
            coder(ins[0], outs[0], outs[2], activation="jumprelu", seed=1),
            coder(ins[1], outs[1], outs[2], activation="batchtopk", n=33, seed=2),
            coder(ins[2], outs[2], activation="jumprelu", seed=3),
        ],
    }
    (tmp_path / "ours").mkdir()
    for name, dictionaries in sets.items():
        write_dictionaries(tmp_path / "ours" / name, "circuit_tracer", dictionaries, "tiny")
    answers = run_peer("circuit_tracer", tmp_path)
    for path in (tmp_path / "theirs").iterdir():
        sets[path.name] = read_dictionaries(path)
    assert len(sets) == 8
    for name, dictionaries in sets.items():
        codes, out = layered(dictionaries)
        assert 0.01 < float((codes > 0).float().mean()) < 0.6, name
        torch.testing.assert_close(answers[f"{name} codes"], codes, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(answers[f"{name} out"], out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [make_gpt2, make_llama])
def test_transformer_lens_has_our_values_under_the_names_that_we_write(make: Callable[[Path], Path], tmp_path: Path):
    """The values at all sites agree; at ``ln2.hook_normalized``, which is refused, they do not."""
    make(tmp_path / "model")
    tokens = torch.arange(20, 32)[None]
    save_file({"tokens": tokens}, tmp_path / "tokens.safetensors")
    theirs = run_peer("saelens", tmp_path, "lens")
    target = load_target(str(tmp_path / "model"))
    ours: dict[str, Tensor] = {}

    def keep(site: str, value: Tensor) -> Tensor:
        ours[site] = value
        return value

    final_normalized(target.spec, target.weights, tokens, keep)
    for site in site_sizes(target.spec):
        value = theirs[to_lens(site)].reshape(ours[site].shape)
        torch.testing.assert_close(value, ours[site], atol=1e-4, rtol=1e-4, msg=lambda m: f"{site}: {m}")  # noqa: B023
    name = "blocks.0.ln2.hook_normalized"
    assert not torch.allclose(theirs[name], ours[name], atol=1e-2)
