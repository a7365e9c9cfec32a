"""Models that englishroom trains itself."""
