"""Run in circuit-tracer's Python; see ``run_saelens.py``. Answers have one row of every layer, [layer, row, ...]."""

import json
import sys
from pathlib import Path

import torch
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from circuit_tracer.utils.caching import load_transcoders_from_cache
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
x = load_file(folder / "x.safetensors")["12"]
answers = {}
torch.set_grad_enabled(False)


def answer(name, coder, n_layers):
    stacked = torch.stack([x + layer for layer in range(n_layers)])
    codes = coder.encode(stacked)
    answers[f"{name} codes"] = codes.contiguous()
    answers[f"{name} out"] = coder.decode(codes, stacked).contiguous()


for path in sorted((folder / "ours").iterdir()):
    coder, config = load_transcoders_from_cache(
        f"ours/{path.name}", cache_dir=folder, dtype=torch.float32, lazy_decoder=False
    )
    answer(path.name, coder, coder.n_layers)
    assert coder.feature_input_hook == config["feature_input_hook"]

torch.manual_seed(3)
d, n, n_layers = 12, 40, 3


def randomise(module):
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    return module


def save(name, coder, kind):
    answer(name, coder, n_layers)
    place = folder / "theirs" / name
    place.mkdir(parents=True)
    coder.to_safetensors(str(place))
    config = {"model_kind": kind, "model_name": "tiny", "feature_output_hook": "mlp.hook_out"}
    (place / "config.yaml").write_text(json.dumps(config | {"feature_input_hook": "mlp.hook_in"}))  # JSON is YAML


for name, skip, jump in (("relu", False, False), ("jumprelu with skip", True, True)):
    layers = {}
    for layer in range(n_layers):
        act = JumpReLU(torch.rand(n)) if jump else torch.nn.functional.relu
        layers[layer] = randomise(SingleLayerTranscoder(d, n, act, layer, skip, dtype=torch.float32))
        if jump:
            layers[layer].activation_function.threshold.copy_(torch.rand(n))
    save(name, TranscoderSet(layers, "mlp.hook_in", "mlp.hook_out"), "transcoder_set")
for act in ("relu", "jump_relu"):
    coder = randomise(CrossLayerTranscoder(n_layers, n, d, act, lazy_decoder=False, dtype=torch.float32))
    if act == "jump_relu":
        coder.activation_function.threshold.copy_(torch.rand(n_layers, 1, n))
    save(f"crossing {act}", coder, "cross_layer_transcoder")
save_file(answers, folder / "answers.safetensors")
