"""Run in dictionary_learning's Python; see ``run_saelens.py``."""

import json
import sys
from pathlib import Path

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
x = load_file(folder / "x.safetensors")["12"]
answers = {}
torch.set_grad_enabled(False)


def answer(name, coder):
    answers[f"{name} codes"] = coder.encode(x).contiguous()
    answers[f"{name} out"] = coder(x).contiguous()


for path in sorted((folder / "ours").iterdir()):
    answer(path.name, load_dictionary(str(path), "cpu")[0])

torch.manual_seed(3)
d, n, k = 12, 40, 5
made = {
    "AutoEncoder": AutoEncoder(d, n),
    "AutoEncoderNew": AutoEncoderNew(d, n),
    "AutoEncoderTopK": AutoEncoderTopK(d, n, k),
    "BatchTopKSAE": BatchTopKSAE(d, n, k),
    "MatryoshkaBatchTopKSAE": MatryoshkaBatchTopKSAE(d, n, k, [10, 30]),
    "GatedAutoEncoder": GatedAutoEncoder(d, n),
    "JumpReluAutoEncoder": JumpReluAutoEncoder(d, n),
}
for name, coder in made.items():
    for parameter in coder.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    if hasattr(coder, "group_sizes") or name == "BatchTopKSAE":
        coder.threshold.fill_(0.7)
    answer(name, coder)
    place = folder / "theirs" / name
    place.mkdir(parents=True)
    torch.save(coder.state_dict(), place / "ae.pt")
    trainer = {"dict_class": name, "activation_dim": d, "dict_size": n, "k": k, "layer": 1, "lm_name": "tiny"}
    trainer["submodule_name"] = "resid_post_layer_1"
    (place / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"io": "out"}}))
save_file(answers, folder / "answers.safetensors")
