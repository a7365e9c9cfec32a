"""What an emitted program says without one of its rules: it reads the text again, and the rule may not fire."""

from englishroom.emit.prelude.explaining import work_out


def without(blocks, seen, name, index, token, again=None):
    """Say by how much the log-probability of a token changes if a rule (or a looked-up feature) is taken out.

    All that depends on it is worked out anew, at every position read: where only so many rules may fire, the next
    strongest fires in its place, and heads may look elsewhere.

    Args:
        seen: what was read at every position so far.
        again: what was read without it at the first of them, where that is known; the rest is appended.
    """
    again = [] if again is None else again
    kept = looked_at(blocks)
    elsewhere = {at for here in again for at in here["changed"]}
    for position in range(len(again), len(seen)):
        before = seen[position]
        here = {key: before[key] for key in ("token", "position")} | {"variables": {}, "changed": set()}
        here |= {"fired": dict(before["fired"]), "weights": dict(before["weights"]), "scales": dict(before["scales"])}
        again.append(here)
        for block in blocks:
            at = block["name"]
            if position < len(seen) - 1 and at not in kept:
                continue
            looks = set(block["reads"][1:]) & elsewhere if block["kind"] == "match" else ()
            if at == name or looks or here["changed"].intersection(block["reads"]):
                work_out(block, again, index if at == name else None)
            else:
                here["variables"][at] = before["variables"][at]
            if here["variables"][at] != before["variables"][at]:
                here["changed"].add(at)
                elsewhere.add(at)
    said = blocks[-1]["name"]
    return again[-1]["variables"][said][token] - seen[-1]["variables"][said][token]


def looked_at(blocks):
    """Name the variables that something at a later position is made of."""
    found = set()
    for block in reversed(blocks):
        if block["kind"] == "match":
            found.update(block["reads"][1:])
        if block["name"] in found:
            found.update(block["reads"])
    return found
