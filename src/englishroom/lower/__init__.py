"""From a target down to a program. The only place that knows both torch and the program."""
