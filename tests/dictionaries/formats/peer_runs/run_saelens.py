"""Run in SAELens's Python: load what we wrote, save dictionaries of its own, and write down what both compute.

    python run_saelens.py FOLDER

Reads ``FOLDER/ours/*`` and ``FOLDER/x.safetensors``; writes ``FOLDER/theirs/<kind>`` and
``FOLDER/answers.safetensors``.
"""

import sys
from pathlib import Path

import torch
from sae_lens import SAE
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.transcoder import (
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
xs = load_file(folder / "x.safetensors")
answers = {}
torch.set_grad_enabled(False)


def answer(name, sae, x):
    answers[f"{name} codes"] = sae.encode(x).contiguous()
    answers[f"{name} out"] = sae(x).contiguous()


for path in sorted((folder / "ours").iterdir()):
    sae = SAE.load_from_disk(path)
    answer(path.name, sae, xs[str(sae.cfg.d_in)])

torch.manual_seed(3)
d, n, k = 12, 40, 5
names = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_pre"}
pair = {"model_name": "tiny", "hook_name": "blocks.1.mlp.hook_in", "hook_name_out": "blocks.1.hook_mlp_out"}
auto = {"d_in": d, "d_sae": n}
cross = {"d_in": d, "d_sae": n, "d_out": 9, "apply_b_dec_to_input": False}
made = {
    "standard": StandardSAE(StandardSAEConfig(**auto, metadata=SAEMetadata(**names))),
    "standard, unshifted": StandardSAE(
        StandardSAEConfig(**auto, apply_b_dec_to_input=False, metadata=SAEMetadata(**names))
    ),
    "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(**auto, metadata=SAEMetadata(**names))),
    "gated": GatedSAE(GatedSAEConfig(**auto, metadata=SAEMetadata(**names))),
    "topk": TopKSAE(TopKSAEConfig(**auto, k=k, metadata=SAEMetadata(**names))),
    "topk, rescaled": TopKSAE(
        TopKSAEConfig(**auto, k=k, rescale_acts_by_decoder_norm=True, metadata=SAEMetadata(**names))
    ),
    "topk, trained": TopKTrainingSAE(TopKTrainingSAEConfig(**auto, k=k, metadata=SAEMetadata(**names))),
    "transcoder": Transcoder(TranscoderConfig(**cross, metadata=SAEMetadata(**pair))),
    "skip": SkipTranscoder(SkipTranscoderConfig(**cross, metadata=SAEMetadata(**pair))),
    "jumprelu skip": JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**cross, metadata=SAEMetadata(**pair))),
}
for name, sae in made.items():
    for parameter in sae.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    save = sae.save_inference_model if name == "topk, trained" else sae.save_model
    answer(name, sae, xs[str(d)])
    save(folder / "theirs" / name)
save_file(answers, folder / "answers.safetensors")
