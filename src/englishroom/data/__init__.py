"""Text in: corpora, tokenizers read from disk, and splits by document."""
