"""Messages are one line of bounded length, whatever they quote."""

from __future__ import annotations

import pickle

from englishroom.errors import LONGEST_MESSAGE, ArtifactError, ConfigError, InvalidProgramError


def test_a_message_that_quotes_a_whole_file_keeps_its_ends():
    message = str(ArtifactError(f"a/labels.json: word: found {'x' * 10**7!r}, expected a number; label again"))
    assert len(message) <= LONGEST_MESSAGE
    assert message.startswith("a/labels.json: word: found 'xxx")
    assert message.endswith("xxx', expected a number; label again")
    assert "[... 9,998,9" in message


def test_a_program_with_many_faults_has_a_bounded_message_and_all_its_faults():
    error = InvalidProgramError([f"block {number} reads nothing" for number in range(10_000)])
    assert str(error).startswith("invalid program, 10000 faults: block 0 reads nothing; block 1")
    assert len(str(error)) <= LONGEST_MESSAGE
    assert len(error.faults) == 10_000


def test_what_a_message_quotes_cannot_obey_the_terminal():
    assert str(ConfigError("x: \x1b[31m\nerror: all is well\u202e")) == "x: \\x1b[31m\\nerror: all is well\\u202e"
    assert len(str(ArtifactError("\x00" * 5000))) <= LONGEST_MESSAGE


def test_messages_survive_pickling():
    assert str(pickle.loads(pickle.dumps(ArtifactError("a: b")))) == "a: b"
