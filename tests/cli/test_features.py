"""`englishroom features`: the list, one feature in detail, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from englishroom.cli import main
from englishroom.cli.features import BAR
from englishroom.dictionaries.evidence.latent_evidence import LatentEvidence
from englishroom.ir.tokenizer_json import tokenizer_to_json
from englishroom.names import EXAMPLES, LATENTS, TOKENIZER
from englishroom.store import SCHEMA_VERSION, Manifest, write_room
from tiny_features import DEAD, N_LATENTS, evidence, tokenizer, write_featured_room

MOVED, RULE = "blocks.0.hook_attn_out", "blocks.1.hook_mlp_out"


@pytest.fixture(scope="module")
def found() -> LatentEvidence:
    return evidence()


@pytest.fixture(scope="module")
def room(found: LatentEvidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_featured_room(tmp_path_factory.mktemp("rooms") / "room", found)


@pytest.fixture
def latents(found: LatentEvidence) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in found.latents.to_pylist()}


@pytest.fixture
def run(room: Path, capsys: pytest.CaptureFixture[str]):
    def call(*options: str, where: Path = room, status: int = 0) -> tuple[str, str]:
        assert main(["features", str(where), *options]) == status
        printed = capsys.readouterr()
        return printed.out, printed.err

    return call


def listed(run, *options: str) -> list[dict[str, Any]]:
    return json.loads(run("--json", "--limit", "0", *options)[0])["features"]


def below_the_heading(out: str) -> list[str]:
    """Return the lines of a table; how many stand above them depends on the length of the room's path."""
    lines = out.splitlines()
    heading = ["feature", "label", "density", "mean", "max"]
    return lines[next(i for i, line in enumerate(lines) if line.split() == heading) + 2 :]


def test_the_list(run, latents):
    out, err = run("--limit", "25")
    assert "80 features; 154 positions of text read" in " ".join(out.split())
    lines = below_the_heading(out)
    assert [line.split()[0] for line in lines[:25]] == list(latents)[:25]
    row = latents["moved.0.0"]
    assert lines[0].split()[-3:] == [f"{row['density']:.3%}", f"{row['mean']:.3g}", f"{row['max']:.3g}"]
    assert row["label"] in lines[0]
    assert err == "the first 25 of 80 features; --limit 0 lists all\n"
    assert lines[DEAD].split()[-3:] == ["0.000%", "-", "-"]
    out, err = run("--limit", "0")
    assert [line.split()[0] for line in below_the_heading(out) if line.strip()] == list(latents)
    assert err == ""


@pytest.mark.parametrize("by", ["latent", "density", "firing", "mean", "max", "id", "label", "layer"])
@pytest.mark.parametrize("descending", [False, True])
def test_sorting(by: str, descending: bool, run, latents):
    rows = listed(run, "--sort", by, *(["--descending"] if descending else []))
    values = [row[by] for row in rows if row[by] is not None]
    assert values == sorted(values, reverse=descending)
    assert {row["id"] for row in rows} == set(latents)
    assert all(row[by] is None for row in rows[len(values) :])
    ids = list(latents)
    for one, other in itertools.pairwise(rows):
        assert one[by] != other[by] or ids.index(one["id"]) < ids.index(other["id"])


def test_one_site_only(run, latents):
    rows = listed(run, "--site", RULE)
    assert [row["id"] for row in rows] == [f"rule.1.{n}" for n in range(N_LATENTS)]
    assert [row["id"] for row in listed(run, "--site", "blocks.1.ln2.hook_normalized")] == [row["id"] for row in rows]
    assert rows[3] == {name: latents["rule.1.3"][name] for name in rows[3]}
    _, err = run("--site", "blocks.9.hook_mlp_out", status=1)
    assert err.startswith(
        "error: --site blocks.9.hook_mlp_out: no feature reads or writes it; sites: blocks.0.hook_attn_out, "
    )


@pytest.mark.parametrize("name", [["rule.1.7"], [RULE, "7"], ["rule.1", "7"]])
def test_a_feature_in_detail(name: list[str], run, latents, found: LatentEvidence):
    out, err = run(*name)
    assert err == ""
    lines, row = out.splitlines(), latents["rule.1.7"]
    assert lines[0] == f"rule.1.7: {row['label']}"
    assert lines[1] == f"  reads blocks.1.ln2.hook_normalized, writes {RULE}"
    active = f"{row['firing']} of 154 positions ({row['firing'] / 154:.3%})"
    assert lines[2] == f"  active at {active}, mean {row['mean']:.3g}, max {row['max']:.3g}"
    assert lines[3].startswith("  fires on  ")
    assert f" {row['fires_on_counts'][0]} of {row['fires_on_seen'][0]}" in lines[3]
    assert f" {row['promoted_logits'][0]:+.3g}" in lines[4]
    assert f" {row['demoted_logits'][0]:+.3g}" in lines[5]
    near = f"rule.1.{row['decoder_neighbours'][0]}"
    assert (
        lines[6] == f"  near by its decoder: {near} (cosine {row['decoder_cosines'][0]:.2f}) {latents[near]['label']}"
    )
    bars = [line for line in lines if "█" in line]
    assert sum(int(line.split()[-1]) for line in bars) == row["firing"]
    assert max(line.count("█") for line in bars) == BAR
    examples = [e for e in found.examples.to_pylist() if e["feature"] == list(latents).index("rule.1.7")]
    marked = [line for line in lines if "«" in line]
    assert len(marked) == len(examples)
    for line, example in zip(marked, examples, strict=True):
        assert line.split()[0] == f"{example['activation']:.3g}"
        assert line.endswith(f"(document {example['document']}, position {example['position']})")
    bands = [
        "  strongest examples",
        *(f"  {b} of the examples drawn" for b in ("75-100%", "50-75%", "25-50%", "0-25%")),
    ]
    assert [line for line in lines if line in bands] == bands


def test_a_dead_feature(run, latents):
    out, _ = run(f"rule.0.{DEAD}")
    assert "  active at 0 of 154 positions (0.000%)" in out.splitlines()
    assert "promotes" in out
    assert "activations" not in out
    assert "fires on" not in out


def test_json_of_a_feature(run, latents, found: LatentEvidence):
    out, _ = run("moved.1.3", "--json")
    data = json.loads(out)
    feature, row = data["feature"], latents["moved.1.3"]
    assert data["about"]["text"] == {"name": "drawn", "documents": 23}
    assert feature["id"] == "moved.1.3"
    assert feature["histogram"] == row["histogram"]
    assert [t["token"] for t in feature["fires_on"]] == row["fires_on"]
    assert [n["id"] for n in feature["encoder_neighbours"]] == [f"moved.1.{n}" for n in row["encoder_neighbours"]]
    stored = [e for e in found.examples.to_pylist() if e["feature"] == list(latents).index("moved.1.3")]
    assert [e["activations"] for e in feature["examples"]] == [e["activations"] for e in stored]
    plain = tokenizer()
    for example in feature["examples"]:
        at = example["position"] - example["start"]
        if all(token >= 8 for token in example["tokens"]):  # tokens of plain text
            whole = plain.decode(example["tokens"])
            assert example["before"] + example["text"] + example["after"] == whole
            assert example["text"] == plain.decode(example["tokens"][at : at + 1])


def test_odd_tokens_do_not_reach_the_terminal(run, latents, found: LatentEvidence):
    shown = {token for e in found.examples.to_pylist() for token in e["tokens"]}
    assert {2, 3, 6, 7} <= shown, "the examples hold a newline, an escape, half a character and an override"
    out = "".join(run(name)[0] for name in list(latents)[::4]) + run("--limit", "0")[0]
    assert all(c == "\n" or c.isprintable() for c in out)
    assert r"\x1b[31m" in out
    assert r"\u202e" in out
    assert r"\xe2\x80" in out
    assert "«\\n»" in out


def test_unknown_features_are_refused(run):
    for name in (["rule.9.0"], [RULE], ["rule.1.99"], [RULE, "99"], ["nonsense", "1"]):
        out, err = run(*name, status=1)
        assert out == ""
        assert err.startswith(f"error: {' '.join(name)}: no such feature; give one like moved.0.0, or a site and the ")
        assert RULE in err
    assert "--limit is -1, expected 0 or more" in run("--limit=-1", status=1)[1]


def test_a_site_of_two_dictionaries_needs_an_id(run, found: LatentEvidence, tmp_path: Path):
    writes = found.latents.schema.get_field_index("writes")
    both = found.latents.set_column(writes, "writes", [[[RULE]] * len(found.latents)])
    room = write_featured_room(tmp_path / "room", replace(found, latents=both.cast(found.latents.schema)))
    _, err = run(RULE, "3", where=room, status=1)
    assert err == (f"error: {RULE} 3: could be moved.0.3 or rule.0.3 or moved.1.3 or rule.1.3; give one of these\n")


def test_a_room_without_evidence(run, tmp_path: Path):
    manifest = Manifest(SCHEMA_VERSION, "exact", {"name": "tiny"}, {}, 0, [], {}, {})
    write_room(tmp_path / "plain", [("program.py", b"")], lambda _: manifest)
    out, err = run(where=tmp_path / "plain", status=1)
    assert out == ""
    assert err == (
        f"error: {tmp_path / 'plain'}: no evidence of features in this room (level exact, found no latents.parquet); "
        "give a room of a featured program\n"
    )
    _, err = run(where=tmp_path / "nowhere", status=1)
    assert "not a room (manifest.json is missing)" in err


def test_damaged_evidence(run, room: Path, found: LatentEvidence, tmp_path: Path):
    changed = Path(shutil.copytree(room, tmp_path / "changed"))
    (changed / LATENTS).write_bytes(b"no table")
    assert f"{LATENTS}: changed since the room was written" in run(where=changed, status=1)[1]

    manifest = Manifest(SCHEMA_VERSION, "featured", {"name": "tiny"}, {}, 0, [], {}, {})
    other = replace(found, about=replace(found.about, positions=7))
    files = {LATENTS: found.files()[LATENTS], EXAMPLES: other.files()[EXAMPLES]}
    files[TOKENIZER] = tokenizer_to_json(tokenizer()).encode()
    write_room(tmp_path / "mixed", files.items(), lambda _: manifest)
    assert "80 features" in run(where=tmp_path / "mixed")[0]
    assert f"{EXAMPLES}: is of another harvest" in run("rule.1.7", where=tmp_path / "mixed", status=1)[1]

    files[TOKENIZER] = tokenizer_to_json(replace(tokenizer(), pieces=tokenizer().pieces[:-1])).encode()
    write_room(tmp_path / "short", files.items(), lambda _: manifest)
    assert (
        "tokenizer.json: 29 tokens, the evidence has 30; decompile again"
        in run("rule.1.7", where=tmp_path / "short", status=1)[1]
    )


def test_torch_is_not_needed(room: Path):
    code = (
        "import sys; from englishroom.cli import main\n"
        f"status = main(['features', {str(room)!r}, 'rule.1.7'])\n"
        "print(status, [name for name in ('torch', 'transformers', 'numba') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "0 []"


def test_a_room_whose_table_of_latents_is_empty(found: LatentEvidence, tmp_path: Path, capsys):
    empty = replace(found, latents=found.latents.slice(0, 0), examples=found.examples.slice(0, 0))
    path = write_featured_room(tmp_path / "room", empty)
    assert main(["features", str(path)]) == 0
    assert "0 features" in " ".join(capsys.readouterr().out.split())
    assert main(["features", str(path), "rule.0.0"]) == 1
    assert capsys.readouterr().err == "error: rule.0.0: no such feature; the room has none\n"
