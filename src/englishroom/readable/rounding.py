"""Round the numbers of a wired model: each table to a palette of few, as they are stored; biases to few digits.

A reader then meets three digits, since a number in the file stands for the nearest of its table's, whatever the unit it
is printed in. All lists of words share one palette.
"""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.passes.palette import on_palette
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges

LEVELS = 128
"""Different numbers of a table; a table of edges has two more, the weights with which sums read their lists."""
VECTOR_DIGITS = 3


@torch.no_grad()
def rounded(model: WiredModel) -> WiredModel:
    """Return the model with its numbers rounded."""
    vectors = {name: _nearest(vector, VECTOR_DIGITS) for name, vector in model.vectors.items()}
    lists = [name for name in model.edges if name.startswith("words.")]
    weights = {name: edges.weights.detach() for name, edges in model.edges.items()}
    tables = [[name] for name in weights if name not in lists]
    for names in [lists, *tables] if lists else tables:
        joined = torch.cat([weights[name] for name in names])
        values = joined.abs() if names is lists else joined
        new = torch.from_numpy(on_palette(values.numpy(), LEVELS)).to(joined.dtype)
        new = new * joined.sign() if names is lists else new
        parts = new.split([len(weights[name]) for name in names])
        weights |= dict(zip(names, parts, strict=True))
    edges = {
        name: Edges(own.starts, own.columns, weights[name].clone(), own.n_columns) for name, own in model.edges.items()
    }
    return WiredModel(model.shape, edges, vectors, model.places)


def _nearest(values: Tensor, digits: int) -> Tensor:
    """Round to so many digits."""
    wide = values.detach().double()
    places = digits - 1 - torch.where(wide == 0, 1.0, wide).abs().log10().floor()
    scale = 10.0**places
    return ((wide * scale).round() / scale).to(values.dtype)
