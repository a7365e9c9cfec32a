"""The target made smaller without training: quantised, or with its smallest weights left out."""
