"""The settings of a check of explanations, apart from it, so that the command line loads without it."""

from dataclasses import dataclass

from englishroom.bounds import Count, Settings, Weight


@dataclass(frozen=True)
class CheckConfig(Settings):
    """How much is checked, and what passes."""

    tokens: Count = 1000
    """Check at least this many tokens of the text."""
    positions: Count = 64
    """Read at most this many tokens of each document, from its beginning."""
    rules: Count = 1
    """For each token, take this many rules out, one at a time: those that add most to the token's log-probability."""
    within_nats: Weight = 1e-6
    """The check passes where the explained effect of every rule is this near the measured one, in nats (units of
    log-probability)."""
    near_nats: Weight = 0.05
    """It is also counted how often a simpler explanation comes near the measured effect: one that follows what the rule
    adds while all other rules stay as they are. Near is a difference of at most this many nats, plus --near-share of
    the effect. This never fails the check."""
    near_share: Weight = 0.25
    """Share of the measured effect that is added to --near-nats; 0.25 is a quarter."""
