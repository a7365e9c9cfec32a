"""What a format of dictionary files is; each is declared in the module that reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.disk import write_folder
from englishroom.models.spec import Family


@dataclass(frozen=True)
class CodedModel:
    """The model that dictionaries belong to.

    Attributes:
        family: whose modules some formats name their folders after.
    """

    name: str
    family: Family


Write = Callable[[Path, Sequence[Dictionary], CodedModel], None]


@dataclass(frozen=True)
class DictionaryFormat:
    """A format of dictionary files.

    Attributes:
        name: what users call it.
        marker: the file by which a folder of it is known.
        read: reads the dictionaries of one folder.
        write: writes dictionaries to a folder, all of them or none.
        holds_two: whether it can hold two dictionaries of one place in the model.
    """

    name: str
    marker: str
    read: Callable[[Path], list[Dictionary]]
    write: Write
    holds_two: bool = False


def in_new_folder(contents: Callable[[Sequence[Dictionary], CodedModel], Mapping[str, bytes]]) -> Write:
    """Return what writes the files that ``contents`` lays out to a folder where nothing stands yet."""

    def write(path: Path, dictionaries: Sequence[Dictionary], model: CodedModel) -> None:
        write_folder(path, contents(dictionaries, model))

    return write
