"""Code that emitted programs carry with them, copied verbatim: standard library only, no import of englishroom."""
