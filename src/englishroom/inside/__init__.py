"""Look inside sparse programs: evidence, labels, memory, traces, shares, explanations."""
