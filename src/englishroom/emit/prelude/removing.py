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
    for here in again[-1:]:
        forget(blocks, here)
    needed, last = made_of_later(blocks), len(seen) - 1
    elsewhere = {at for here in again for at in here["changed"]}
    for position in range(len(again), len(seen)):
        before = seen[position]
        here = {"token": before["token"], "position": position, "variables": {}, "changed": set()}
        here |= {"fired": {}, "weights": {}, "scales": {}}
        again.append(here)
        for block in blocks:
            at = block["name"]
            if position < last and at not in needed:
                continue
            looks = set(block["reads"][1:]) & elsewhere if block["kind"] == "match" else ()
            out = at == name and is_on(block, before, index)
            if out or looks or here["changed"].intersection(block["reads"]):
                work_out(block, again, index if at == name else None)
            else:
                here["variables"][at] = before["variables"][at]
            if here["variables"][at] != before["variables"][at]:
                here["changed"].add(at)
                elsewhere.add(at)
        if position < last:
            forget(blocks, here)
    said = blocks[-1]["name"]
    return again[-1]["variables"][said][token] - seen[-1]["variables"][said][token]


def is_on(block, here, index):
    """Say whether a rule fired at a position, or a feature was looked up there."""
    if block["kind"] == "rules":
        return index in here["fired"][block["name"]]
    return here["variables"][block["name"]][index] != 0


def made_of_later(blocks):
    """Name the variables that something at a later position is made of."""
    found = set()
    for block in reversed(blocks):
        if block["kind"] == "match":
            found.update(block["reads"][1:])
        if block["name"] in found:
            found.update(block["reads"])
    return found


def forget(blocks, here):
    """Keep of a position only what heads look at that look back to it."""
    looked_at = {read for block in blocks if block["kind"] == "match" for read in block["reads"][1:]}
    here["variables"] = {name: value for name, value in here["variables"].items() if name in looked_at}
    here["fired"], here["weights"], here["scales"] = {}, {}, {}
