"""All that is judged, as talkers: targets, programs, emitted files, sketches, replaced blocks."""
