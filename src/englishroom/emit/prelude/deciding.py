"""Which few of the features that vote are enough for nearly the same answer, as a readable program tells it."""

import math

from englishroom.emit.prelude.arithmetic import log_softmax

LEAST_CHANGE = math.nextafter(-1.0, 0.0)
LARGEST_VOTE = 700.0  # nats; exp of more is no number


def few_voters(answer, apart, ballots, tolerance):
    """Keep voters one after the other, each time the one with which KL(answer, kept) is lowest, until that is low.

    All other voters stand at their means. With q the chances as far as they are kept, and p those of the answer,
    keeping a voter that moves the votes by m changes the KL by log(1 + sum of q (exp(m) - 1)) - sum of p m. That is no
    less than -(largest m - smallest m), m being 0 for words that it has no votes for; so the search may stop there.

    Args:
        answer: log-probabilities.
        apart: voter -> how far its value is from its mean.
        ballots: voter -> its votes at strength 1.
        tolerance: nats at which it stops.

    Returns:
        What is said with all voters at their means, those that are kept, best first, and what is said with these.
    """
    moved = {name: votes_moved(ballots[name], far) for name, far in apart.items() if far and ballots.get(name)}
    chances, logits = [math.exp(value) for value in answer], list(answer)
    for votes in moved.values():
        for word, nats in votes.items():
            logits[word] -= nats
    gains = {name: sum([chances[word] * nats for word, nats in votes.items()]) for name, votes in moved.items()}
    reach = {name: max(0.0, *votes.values()) - min(0.0, *votes.values()) for name, votes in moved.items()}
    left, changes, chosen = sorted(moved, key=lambda name: (-reach[name], name)), {}, []
    usual = kept = log_softmax(logits)
    while left and sum([p * (whole - part) for p, whole, part in zip(chances, answer, kept)]) > tolerance:
        now, best, change = [math.exp(value) for value in kept], left[0], math.inf
        for name in left:
            if change <= -reach[name]:
                break
            if name not in changes:
                changes[name] = [(word, math.expm1(min(nats, LARGEST_VOTE))) for word, nats in moved[name].items()]
            by = max(sum([now[word] * times for word, times in changes[name]]), LEAST_CHANGE)
            if (found := math.log1p(by) - gains[name]) < change:
                best, change = name, found
        for word, nats in moved[best].items():
            logits[word] += nats
        kept = log_softmax(logits)
        left.remove(best)
        chosen.append(best)
    return usual, chosen, kept


def votes_moved(ballot, far):
    """Return by how much a voter moves the votes for words that is so far from its mean."""
    return {word: far * nats for word, nats in ballot.items()}
