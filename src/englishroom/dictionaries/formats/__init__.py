"""Files that dictionaries are kept in: our own, and those of peers, read and written without importing them."""

from englishroom.dictionaries.formats.registry import FORMATS, format_named, read_dictionaries, write_dictionaries

__all__ = ["FORMATS", "format_named", "read_dictionaries", "write_dictionaries"]
