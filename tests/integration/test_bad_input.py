"""Bad input gives one clear line and exit status 1; nothing is half-written and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy

from englishroom.cli import main
from englishroom.errors import ArtifactError
from englishroom.ir.room import load_program
from englishroom.store import read_manifest, read_room, write_room

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must fail, and return the one line that it prints."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, printed.err
        assert printed.err.splitlines()[-1] == lines[0]
        assert "Traceback" not in printed.err
        return lines[0]

    return run


def nothing_left(folder: Path, name: str = "room") -> bool:
    return not [path for path in folder.iterdir() if name in path.name]


def altered(talker: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(talker, tmp_path / "altered"))


def test_truncated_bin(tiny_bin: Path, tmp_path: Path, refused: Refused) -> None:
    tiny_bin.write_bytes(tiny_bin.read_bytes()[:-100])
    line = refused("decompile", tiny_bin, "--level", "exact", "--out", tmp_path / "room")
    assert "tiny.bin: truncated" in line
    assert "fetch the file again" in line
    assert nothing_left(tmp_path)


def test_bin_shorter_than_its_header(tiny_bin: Path, tmp_path: Path, refused: Refused) -> None:
    tiny_bin.write_bytes(b"\0" * 10)
    assert "10 bytes, too short for a header" in refused(
        "decompile", tiny_bin, "--level", "exact", "--out", tmp_path / "room"
    )


def test_wrong_tokenizer_for_the_weights(tiny_bin: Path, tmp_path: Path, refused: Refused) -> None:
    tokenizer = tiny_bin.with_name("tok.bin")
    tokenizer.write_bytes(tokenizer.read_bytes() + struct.pack("<fi", 0.0, 1) + b"x")
    line = refused("decompile", tiny_bin, "--level", "exact", "--out", tmp_path / "room")
    assert "wrong tokenizer for these weights" in line
    assert "301" in line
    assert "300" in line
    assert nothing_left(tmp_path)


def test_no_tokenizer_beside_the_weights(tiny_bin: Path, tmp_path: Path, refused: Refused) -> None:
    tiny_bin.with_name("tok.bin").unlink()
    assert "give --tokenizer " in refused("decompile", tiny_bin, "--level", "exact", "--out", tmp_path / "room")


def test_config_that_contradicts_its_tensors(tiny_talker: Path, tmp_path: Path, refused: Refused) -> None:
    folder = altered(tiny_talker, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    line = refused("decompile", folder, "--level", "exact", "--out", tmp_path / "room")
    assert "tensor transformer.wte.weight has shape [300, 16], but the config implies [300, 32]" in line
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_forward_pass_that_differs_from_transformers(
    tiny_talker: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr("englishroom.models.reference.largest_difference", lambda *_: difference)
    line = refused("decompile", tiny_talker, "--level", "exact", "--out", tmp_path / "room")
    assert f"our forward pass differs from transformers by {difference:.2g} nats, more than 0.01" in line
    assert nothing_left(tmp_path)


def test_nan_in_weights(tiny_talker: Path, tmp_path: Path, refused: Refused) -> None:
    folder = altered(tiny_talker, tmp_path)
    tensors = {k: v.copy() for k, v in safetensors.numpy.load_file(folder / "model.safetensors").items()}
    tensors["transformer.h.0.mlp.c_fc.weight"][3, 5] = float("nan")
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    line = refused("decompile", folder, "--level", "exact", "--out", tmp_path / "room")
    assert "tensor transformer.h.0.mlp.c_fc.weight holds NaN or infinity" in line
    assert nothing_left(tmp_path)


def test_empty_prompt_is_said_and_starts_a_story(tiny_room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["talk", str(tiny_room), "", "--greedy", "--max-tokens", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "the prompt is empty; starting a new story\n"
    assert printed.out.strip()


def test_prompt_longer_than_the_context(tiny_room: Path, tiny_talker: Path, refused: Refused) -> None:
    for talker in (tiny_room, tiny_talker):
        line = refused("talk", talker, "zq " * 40, *(["--no-check"] if talker is tiny_talker else []))
        assert "tokens, the context holds 32; shorten the prompt" in line
    emitted = subprocess.run(
        [sys.executable, "-I", "-S", str(tiny_room / "program.py"), "zq " * 40], capture_output=True, text=True
    )
    assert emitted.returncode == 1
    assert len(emitted.stderr.splitlines()) == 1
    assert "the context holds 32; shorten the prompt" in emitted.stderr


def test_text_that_is_not_utf8(tiny_room: Path, tmp_path: Path, refused: Refused) -> None:
    text = tmp_path / "latin1.txt"
    text.write_bytes("Once upon a time, caf\u00e9".encode("latin-1"))
    line = refused("score", tiny_room, "--text", text)
    assert "latin1.txt: not UTF-8 text: byte 0xe9 at offset 21" in line


def test_prompt_that_is_not_utf8(tiny_room: Path, refused: Refused) -> None:
    assert "prompt: " in refused("talk", tiny_room, os.fsdecode(b"caf\xe9"))


def test_missing_and_empty_text(tiny_room: Path, tmp_path: Path, refused: Refused) -> None:
    assert "no such text file" in refused("score", tiny_room, "--text", tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text(" \n <|endoftext|>\n")
    assert "no text in it" in refused("score", tiny_room, "--text", tmp_path / "empty.txt")


@pytest.mark.parametrize("name", ["program.ir", "tables.safetensors", "tokenizer.json"])
def test_room_with_a_flipped_byte(tiny_room: Path, refused: Refused, name: str) -> None:
    flip(tiny_room / name)
    assert f"{name}: changed since the room was written" in refused("talk", tiny_room, "Tom")


@pytest.mark.parametrize("name", ["program.py", "origins.json"])
def test_show_checks_every_file(tiny_room: Path, refused: Refused, name: str) -> None:
    flip(tiny_room / name)
    assert f"{name}: changed since the room was written" in refused("show", tiny_room)


def test_every_byte_of_the_manifest_counts(tiny_room: Path) -> None:
    manifest = tiny_room / "manifest.json"
    whole = manifest.read_bytes()
    for at in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[at] ^= 1
        manifest.write_bytes(changed)
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            read_manifest(tiny_room)
    manifest.write_bytes(whole)
    assert read_manifest(tiny_room).level == "exact"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_missing_table(tiny_room: Path, refused: Refused) -> None:
    (tiny_room / "tables.safetensors").unlink()
    assert "tables.safetensors: missing; restore the file or decompile again" in refused("talk", tiny_room, "Tom")
    emitted = subprocess.run(
        [sys.executable, "-I", "-S", str(tiny_room / "program.py")], capture_output=True, text=True
    )
    assert emitted.returncode == 1
    assert len(emitted.stderr.splitlines()) == 1
    assert "the program needs its tables beside it" in emitted.stderr


def test_emitted_program_refuses_changed_tables(tiny_room: Path) -> None:
    flip(tiny_room / "tables.safetensors")
    emitted = subprocess.run(
        [sys.executable, "-I", "-S", str(tiny_room / "program.py")], capture_output=True, text=True
    )
    assert emitted.returncode == 1
    assert len(emitted.stderr.splitlines()) == 1
    assert "not the tables this program was written with" in emitted.stderr


def test_unknown_schema_version(tiny_room: Path, refused: Refused) -> None:
    manifest = tiny_room / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    line = refused("talk", tiny_room, "Tom")
    assert "schema version is 99, expected 1" in line


def test_not_a_room_and_not_a_model(tmp_path: Path, refused: Refused) -> None:
    assert "nowhere: no such room, model file or folder" in refused("talk", "nowhere")
    assert "not a room (manifest.json is missing)" in refused("show", tmp_path)
    assert "neither config.json nor a .bin file" in refused("talk", tmp_path)


def test_out_that_holds_other_things_is_left_alone(tiny_talker: Path, tmp_path: Path, refused: Refused) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("years of work")
    line = refused("decompile", tiny_talker, "--level", "exact", "--out", precious)
    assert "holds other things than a room (chapter1.txt); choose another --out" in line
    assert (precious / "chapter1.txt").read_text() == "years of work"


def test_another_programs_manifest_does_not_make_a_room(tiny_talker: Path, tmp_path: Path, refused: Refused) -> None:
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / "manifest.json").write_text('{"manifest_version": 3}')
    (extension / "background.js").write_text("code")
    assert "other things than a room (background.js)" in refused(
        "decompile", tiny_talker, "--level", "exact", "--out", extension, "--no-check"
    )
    assert "not the manifest of a room" in refused("talk", extension, "Tom")
    assert sorted(path.name for path in extension.iterdir()) == ["background.js", "manifest.json"]


def test_notes_kept_inside_a_room_are_not_lost(tiny_room: Path, tiny_talker: Path, refused: Refused) -> None:
    (tiny_room / "notes.txt").write_text("layer 0 copies names")
    assert "other things than a room (notes.txt)" in refused(
        "decompile", tiny_talker, "--level", "exact", "--out", tiny_room, "--no-check"
    )
    assert (tiny_room / "notes.txt").read_text() == "layer 0 copies names"


def test_the_folder_one_is_in_is_refused(
    tiny_room: Path, tiny_talker: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, out in ((tiny_room, "."), (tiny_room, ".."), (tiny_room.parent, tiny_room.parent)):
        monkeypatch.chdir(place)
        assert "is the folder you are in, or holds it" in refused(
            "decompile", tiny_talker, "--level", "exact", "--out", out
        )
    load_program(tiny_room)


def test_hidden_folders_of_others_stay_where_they_are(tiny_talker: Path, tmp_path: Path, refused: Refused) -> None:
    for name in (".room.old", ".room.part-1-x"):
        (tmp_path / name).mkdir()
    refused("show", tmp_path / "room")
    assert main(["decompile", str(tiny_talker), "--level", "exact", "--out", str(tmp_path / "room"), "--no-check"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".room.old", ".room.part-1-x", "room"]


def test_what_the_system_refuses_is_one_line(tiny_room: Path, tmp_path: Path, refused: Refused) -> None:
    assert "File name too long" in refused("talk", "x" * 300, "Tom")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "leads nowhere" in refused("show", tmp_path / "loop")
    (tiny_room / "program.ir").unlink()
    (tiny_room / "program.ir").mkdir()
    assert "program.ir: is a folder, expected a file" in refused("talk", tiny_room, "Tom")
    (tiny_room / "manifest.json").write_text("[" * 100_000)
    assert "manifest.json: the whole text: Invalid JSON" in refused("talk", tiny_room, "Tom")


@pytest.mark.parametrize("command", ["talk", "program.py"])
def test_output_that_is_full_or_closed(tiny_room: Path, command: str) -> None:
    program = f"-I -S {tiny_room}/program.py" if command == "program.py" else f"-m englishroom.cli talk {tiny_room}"
    for redirection, said in (("> /dev/full", "No space left on device"), ("| true", "")):
        line = f"{sys.executable} {program} Tom {redirection}"
        run = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        assert "Traceback" not in run.stderr
        assert "Exception ignored" not in run.stderr
        assert said in run.stderr


def test_a_crashing_program_py_stops_the_room_with_its_reason(
    tiny_talker: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("englishroom.evaluate.talkers.program.EmittedTalker.harness", "raise RuntimeError('no luck')")
    line = refused("decompile", tiny_talker, "--level", "exact", "--out", tmp_path / "room", "--no-check")
    assert "program.py: stopped with status 1 (RuntimeError: no luck)" in line
    assert nothing_left(tmp_path)


def test_readers_and_writers_at_once(tiny_room: Path) -> None:
    """A reader always finds a whole room, and no writer fails, while the room is replaced over and over."""
    stored = read_room(tiny_room)
    stop = threading.Event()
    faults: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            try:
                read_room(tiny_room)
            except Exception as error:
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for seed in range(60):
            changed = stored.contents | {"origins.json": str(seed).encode()}
            write_room(tiny_room, changed.items(), lambda _folder, seed=seed: replace(stored.manifest, seed=seed))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert faults == []
    assert read_manifest(tiny_room).seed == 59


def test_no_disk_space(tiny_room: Path, tiny_talker: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted((path.name, path.read_bytes()) for path in tiny_room.iterdir())

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    line = refused("decompile", tiny_talker, "--level", "exact", "--out", tiny_room, "--no-check")
    assert "no space left on the disk" in line
    assert "what stood there is untouched" in line
    assert sorted((path.name, path.read_bytes()) for path in tiny_room.iterdir()) == before
    assert [path.name for path in tiny_room.parent.iterdir()] == [tiny_room.name]


def test_file_size_limit_of_the_system(tiny_talker: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from englishroom.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "room"
    command = [
        sys.executable,
        "-c",
        code,
        "decompile",
        str(tiny_talker),
        "--level",
        "exact",
        "--out",
        str(out),
        "--no-check",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "cannot be written (File too large" in run.stderr.splitlines()[-1]
    assert nothing_left(tmp_path)


def test_kill_during_decompile_leaves_the_old_room(tiny_room: Path, tiny_talker: Path) -> None:
    old = read_manifest(tiny_room)
    command = [
        sys.executable,
        "-m",
        "englishroom.cli",
        "decompile",
        str(tiny_talker),
        "--level",
        "exact",
        "--out",
        str(tiny_room),
        "--no-check",
    ]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - began
    for share in (0.5, 0.8, 0.9, 0.97):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * share)
        process.send_signal(signal.SIGKILL)
        process.wait()
        manifest = read_manifest(tiny_room)
        read_room(tiny_room, sorted(manifest.files))
        assert manifest.target == old.target
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in tiny_room.parent.iterdir()] == [tiny_room.name]


@pytest.mark.parametrize("renames", [1, 2])
def test_kill_around_the_renames_loses_no_room(tiny_room: Path, tiny_talker: Path, renames: int) -> None:
    """Die after the old room was moved aside, or after the new one was put in place: one of them is always whole."""
    program, _ = load_program(tiny_room)
    code = (
        "import os, signal, sys; from pathlib import Path; from englishroom.cli import main\n"
        "rename, done = Path.rename, []\n"
        "def counted(self, target):\n"
        "    done.append(rename(self, target))\n"
        f"    if len(done) == {renames}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.rename = counted\n"
        "main(sys.argv[1:])"
    )
    arguments = ["decompile", str(tiny_talker), "--level", "exact", "--out", str(tiny_room), "--no-check"]
    assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == -signal.SIGKILL
    assert tiny_room.exists() == (renames == 2)
    assert load_program(tiny_room)[0] == program
    assert main(arguments) == 0
    assert load_program(tiny_room)[0] == program
    assert [path.name for path in tiny_room.parent.iterdir()] == [tiny_room.name]
