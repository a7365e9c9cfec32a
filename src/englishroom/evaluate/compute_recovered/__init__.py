"""How much of a training run, or of a ladder of models, a talker is worth."""
