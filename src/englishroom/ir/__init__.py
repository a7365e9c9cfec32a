"""The program: its blocks, its rules of validity, its text form, and its tokenizer."""
