"""How an emitted program spells its explanations."""

from englishroom.emit.prelude.arithmetic import difference, features_on
from englishroom.emit.prelude.explaining import copied, read_on, shares, strength_of, unmixed
from englishroom.emit.prelude.removing import without

NAMES = {}  # variable -> the name of each coordinate, where there are names
LISTED = 6  # features listed
BEHIND = 4  # parts listed of a feature
SAME = 1e-6  # nats by which what is explained may differ from what the program says
LOOKED = 0.1  # weight from which on a place is listed where a head looked


def explain(blocks, tokens, chosen, says, n_ctx, tokenizer, called):
    """Yield why each token is said that follows others, as text.

    Args:
        blocks: the blocks of the program, as dicts.
        tokens: those before; at least one.
        chosen: function of the position and the answer there: the token said next, or None at the end.
        says: function of (token, position): the answer of the program itself, which must be what is explained.
        called: function of (variable, coordinate): its name.
    """
    seen, removed = [], {}
    for token in tokens:
        seen.append(read_and_compare(blocks, seen, token, says))
    while (token := chosen(len(seen), seen[-1]["variables"][blocks[-1]["name"]])) is not None:
        texts = [spelt(tokenizer, here["token"]) for here in seen]
        yield "\n".join(why(blocks, seen, texts, token, spelt(tokenizer, token), called, removed)) + "\n\n"
        if len(seen) == n_ctx:
            return
        seen.append(read_and_compare(blocks, seen, token, says))


def read_and_compare(blocks, seen, token, says):
    """Read a token, and see that what is explained is what the program says."""
    here = read_on(blocks, seen, token)
    gap = max(map(abs, difference(here["variables"][blocks[-1]["name"]], says(token, len(seen)))))
    if not gap <= SAME:
        raise ValueError(f"at position {len(seen)} the program differs by {gap:.2g} nats from what is explained")
    return here


def spelt(tokenizer, token):
    """Spell a token, quoted."""
    return repr(tokenizer.pieces[token].decode("utf-8", "replace"))


def why(blocks, seen, texts, token, said, called, removed):
    """Return the lines that say why a token is said.

    Args:
        seen: what was read at every position so far.
        texts: the tokens there, spelt.
        token, said: the token, and how it is spelt.
        removed: what was read without rules at earlier positions, by rule; grows.
    """
    by_name = {block["name"]: block for block in blocks}
    parts, brought, baseline = shares(blocks, seen[-1], token)
    for name, weights in brought.items():
        parts |= {(name, *at): part for at, (part, _) in copied(by_name[name], seen, weights).items()}
    whole = seen[-1]["variables"][blocks[-1]["name"]][token]
    best, rest = strongest(parts, LISTED)
    lines = [
        f"{said} after {' '.join(texts[-3:])}: log p {whole:.3f} = {baseline:.3f} if only the constants voted "
        f"{sum(parts.values()):+.3f} by the votes of {len(parts)} features",
        "   share  without  who votes, how strongly, and made of what",
    ]
    behind = {}
    for at in best:
        change = ""
        if len(at) == 2:
            change = f"{without(blocks, seen, *at, token, removed.setdefault(at, [])):+.3f}"
        lines.append(f"  {parts[at]:+.3f}  {change:>7}  {made_of(blocks, seen, texts, at, called, behind)}")
    lines.append(f"  {rest:+.3f}           {len(parts) - len(best)} others")
    copying = [at for at in behind if at not in best and copies(by_name[at[0]], by_name)]
    if copying:
        lines.append("  copied from earlier positions:")
        lines += [f"    {made_of(blocks, seen, texts, at, called, {})}" for at in copying[:LISTED]]
    for block in blocks:
        if block["kind"] == "match":
            lines.append(f"  {block['name']} looked at: {'; '.join(glances(block, seen, texts))}")
    lines += [f"  {on(block, seen[-1], called)}" for block in blocks if block["kind"] in ("lookup", "rules")]
    return lines


def strongest(parts, n):
    """Return the n largest of parts, and the sum of the others."""
    best = sorted(parts, key=lambda at: (-abs(parts[at]), at))[:n]
    return best, sum([part for at, part in parts.items() if at not in best])


def made_of(blocks, seen, texts, at, called, behind):
    """Say how strong a feature is and what it is made of, in one line; note the features it reads in behind."""
    by_name = {block["name"]: block for block in blocks}
    if len(at) == 3:
        return looking(at, seen, texts)
    name, index = at
    if by_name[name]["kind"] != "rules":
        return f"{called(name, index)} {seen[-1]['variables'][name][index]:.2f}"
    parts, brought, constant = strength_of(blocks, seen[-1], name, index)
    directions = {}
    for source, weights in brought.items():
        for place, (part, direction) in copied(by_name[source], seen, weights).items():
            parts[source, *place], directions[source, *place] = part, direction
    best, rest = strongest(parts, BEHIND)
    terms = []
    for part in best:
        what = called(*part) if len(part) == 2 else looking(part, seen, texts)
        if part in directions:
            what += f" ({origins(blocks, seen[part[2]], {by_name[part[0]]['reads'][2]: directions[part]}, called)})"
        else:
            behind[part] = True
        terms.append(f"{parts[part]:+.2f} {what}")
    terms += [f"{rest:+.2f} {len(parts) - len(best)} others"] if len(parts) > len(best) else []
    passed = seen[-1]["fired"][name][index]
    return f"{called(name, index)} {passed:.2f} = {' '.join(terms)} {constant:+.2f} always"


def copies(block, by_name):
    """Say whether a block reads what heads brought at this position, through blocks that only add or scale."""
    through = [by_name[read] for read in block["reads"]]
    return any(
        b["kind"] == "match" or (b["kind"] not in ("lookup", "rules", "product") and copies(b, by_name))
        for b in through
    )


def looking(at, seen, texts):
    """Say which head looked where, and with what weight."""
    name, head, position = at
    weight = seen[-1]["weights"][name][head][position]
    return f"{name} head {head} from {texts[position]} {len(seen) - 1 - position} back, weight {weight:.2f}"


def origins(blocks, seen, directions, called):
    """Say which features at the place looked at make up what a head copied."""
    parts, brought, constant = unmixed(blocks, seen, directions)
    best, rest = strongest(parts, 2)
    further = [f", and what {name} brought there" for name in brought]
    others = [f"{rest + constant:+.2f} others", *further]
    return " ".join([*(f"{parts[at]:+.2f} {called(*at)}" for at in best), *others])


def glances(block, seen, texts):
    """Say for each head which places it looked at most."""
    for head, places in enumerate(seen[-1]["weights"][block["name"]]):
        most = sorted(places, key=lambda place: -places[place])[:3]
        listed = [f"{texts[at]} {len(seen) - 1 - at} back {places[at]:.2f}" for at in most if places[at] >= LOOKED]
        yield f"head {head} {', '.join(listed) or 'all over'}"


def on(block, seen, called):
    """List the features of a block that are on, the strongest first."""
    name = block["name"]
    values = seen["fired"].get(name) or dict(features_on(seen["variables"][name]))
    best = sorted(values, key=lambda at: -values[at])[:LISTED]
    more = f", {len(values) - LISTED} more" if len(values) > LISTED else ""
    return f"{name}: {len(values)} on: {', '.join(f'{called(name, at)} {values[at]:.2f}' for at in best)}{more}"


def naming(names, blocks, tokenizer):
    """Return a function of (variable, coordinate) that names a feature.

    Args:
        names: variable -> name of each coordinate; what has none is called by its number, and a kind of words also by
            the tokens that it stands for most.
    """
    kinds = {}
    for block in blocks:
        if block["kind"] == "lookup" and block["index"] == "token":
            of = kinds[block["name"]] = {}
            for token, row in enumerate(block["table"]):
                for at, value in row:
                    of.setdefault(at, []).append((-value, token))

    def called(variable, index):
        number = f"{variable}[{index}]"
        name = names[variable][index] if variable in names else number
        if name != number:
            return f"{number} {name}"
        tokens = [spelt(tokenizer, token) for _, token in sorted(kinds.get(variable, {}).get(index, ()))[:3]]
        return f"{number} {'/'.join(tokens)}" if tokens else number

    return called


def explain_here(tokens, chosen):
    """Explain tokens of this very file."""
    blocks, memory = blocks_of_program(), new_memory()
    called = naming(NAMES, blocks, TOKENIZER)
    return explain(blocks, tokens, chosen, lambda *read: step(*read, memory), N_CTX, TOKENIZER, called)
