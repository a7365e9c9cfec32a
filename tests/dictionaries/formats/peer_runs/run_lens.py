"""Run in SAELens's Python, which has TransformerLens: write down the values at the sites of a model.

    python run_lens.py FOLDER

Reads the Hugging Face model in ``FOLDER/model`` and ``FOLDER/tokens.safetensors``.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(300)}, unk_token="w0"))
named = {"bos_token": "w1", "eos_token": "w2", "pad_token": "w3"}
PreTrainedTokenizerFast(tokenizer_object=words, **named).save_pretrained(folder / "model")
model = AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="eager").eval()
bridge = TransformerBridge.boot_transformers(str(folder / "model"), hf_model=model)
with torch.no_grad():
    _, cache = bridge.run_with_cache(load_file(folder / "tokens.safetensors")["tokens"])
save_file({name: value.clone().contiguous() for name, value in cache.items()}, folder / "answers.safetensors")
