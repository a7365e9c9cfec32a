"""Run in sparsify's Python; see ``run_saelens.py``."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder
from sparsify.config import SparseCoderConfig

folder = Path(sys.argv[1])
xs = load_file(folder / "x.safetensors")
answers = {}
torch.set_grad_enabled(False)


def answer(name, coder, x):
    found = coder.encode(x)
    codes = torch.zeros(len(x), coder.num_latents).scatter_(1, found.top_indices, found.top_acts)
    answers[f"{name} codes"] = codes
    answers[f"{name} out"] = coder(x).sae_out.contiguous()


for name, coder in SparseCoder.load_many(str(folder / "ours"), local=True).items():
    answer(name, coder, xs[str(coder.d_in)])

torch.manual_seed(3)
for name, options in {
    "h.20.attn": {"transcode": False},
    "h.21": {"transcode": False, "skip_connection": True},
    "h.21.mlp": {"transcode": True, "skip_connection": True},
    "layers.22.mlp": {"transcode": True},
}.items():
    coder = SparseCoder(12, SparseCoderConfig(num_latents=40, k=5, **options))
    for parameter in coder.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    answer(name, coder, xs["12"])
    coder.save_to_disk(folder / "theirs" / name)
save_file(answers, folder / "answers.safetensors")
