"""Tiny random models on disk, and what `transformers` (or plain numpy, for llama2.c files) makes of them.

Weights are random and large, so that attention patterns and logits are far from flat, and a wrong scale, window,
rotation or bias shows.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

END = "<|endoftext|>"
WEIGHTS = "model.safetensors"
D_VOCAB = 300
STD = 0.3
TEXT = """Once upon a time, there was a little girl named Lily. She loved to play outside in the park.
One day, she saw a big, red ball. "It's mine!" said the boy. "I don't think so," she'd say. They'll share it, I'm sure.
"""


def make_gpt2(folder: Path, **config: Any) -> Path:
    """Write a random GPT-2 with its tokenizer into a new folder."""
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 40}
    return _save(transformers.GPT2LMHeadModel(transformers.GPT2Config(**_ids() | sizes | config)), folder)


def make_gpt_neo(folder: Path, **config: Any) -> Path:
    """Write a random GPT-Neo with its tokenizer into a new folder."""
    sizes = {
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "hidden_size": 32,
        "num_heads": 4,
        "max_position_embeddings": 40,
    }
    return _save(transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**_ids() | sizes | config)), folder)


def make_llama(folder: Path, **config: Any) -> Path:
    """Write a random Llama with a tokenizer (byte-level, which Llama models may have too) into a new folder."""
    sizes = {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    }
    return _save(transformers.LlamaForCausalLM(transformers.LlamaConfig(**_ids() | sizes | config)), folder)


def _ids() -> dict[str, Any]:
    return {"vocab_size": D_VOCAB, "bos_token_id": 0, "eos_token_id": 0}


def _save(model: nn.Module, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            is_gain = tensor.ndim == 1 and name.endswith("weight")
            tensor.normal_(float(is_gain), STD, generator=generator)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=D_VOCAB,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a written model."""
    return safetensors.torch.load_file(folder / WEIGHTS)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put other tensors into a written model."""
    safetensors.torch.save_file({key: t.contiguous() for key, t in tensors.items()}, folder / WEIGHTS)


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change keys of a written model's config.json; a value of ``...`` removes the key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


def make_llama2c(folder: Path, **header: int) -> Path:
    """Write a random llama2.c model with its tokenizer into a new folder, and return the model's path.

    A negative ``vocab_size`` means, as in that format, that the file holds an unembedding of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "vocab_size": 270}
    sizes = sizes | {"seq_len": 40} | header
    shapes = _llama2c_shapes(sizes)
    generator = np.random.default_rng(0)
    path = folder / "model.bin"
    with path.open("wb") as file:
        file.write(struct.pack("<7i", *sizes.values()))
        for name, shape in shapes.items():
            mean = 1.0 if "norm" in name else 0.0
            file.write(generator.normal(mean, STD, shape).astype("<f4").tobytes())
    named = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = named + [chr(ord("a") + i) for i in range(abs(sizes["vocab_size"]) - len(named))]
    with (folder / "tokenizer.bin").open("wb") as file:
        file.write(struct.pack("<i", 6))
        for rank, piece in enumerate(pieces):
            file.write(struct.pack("<fi", -float(rank), len(piece)) + piece.encode())
    return path


def _llama2c_shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """List the arrays of a llama2.c file in their order, as the writer of llama2.c lays them out."""
    d, h, n, v = sizes["dim"], sizes["hidden_dim"], sizes["n_layers"], abs(sizes["vocab_size"])
    d_head = d // sizes["n_heads"]
    kv = d_head * sizes["n_kv_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (v, d),
        "attention_norm": (n, d),
        "wq": (n, d, d),
        "wk": (n, kv, d),
        "wv": (n, kv, d),
        "wo": (n, d, d),
        "ffn_norm": (n, d),
        "w1": (n, h, d),
        "w2": (n, d, h),
        "w3": (n, h, d),
        "final_norm": (d,),
        "cosines": (sizes["seq_len"], d_head // 2),
        "sines": (sizes["seq_len"], d_head // 2),
    }
    return shapes if sizes["vocab_size"] > 0 else shapes | {"unembedding": (v, d)}


def llama2c_log_probs(path: Path, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute log-probabilities the way llama2.c's ``run.c`` does, position by position, in float64.

    Args:
        tokens: one text, [pos].
    """
    data = path.read_bytes()
    names = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
    sizes = dict(zip(names, struct.unpack("<7i", data[:28]), strict=True))
    flat, at, w = np.frombuffer(data, "<f4", offset=28).astype(np.float64), 0, {}
    for name, shape in _llama2c_shapes(sizes).items():
        w[name] = flat[at : at + np.prod(shape)].reshape(shape)
        at += np.prod(shape)
    n_heads, n_kv, d_head = sizes["n_heads"], sizes["n_kv_heads"], sizes["dim"] // sizes["n_heads"]
    turn = 10000.0 ** (-np.arange(0, d_head, 2) / d_head)

    def norm(x: NDArray, gain: NDArray) -> NDArray:
        return gain * x / np.sqrt((x * x).mean() + 1e-5)

    def rotate(x: NDArray, position: int) -> NDArray:
        """Turn neighbouring coordinates, seen as complex numbers."""
        turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * position * turn)
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)

    past: list[list[tuple[NDArray, NDArray]]] = [[] for _ in range(sizes["n_layers"])]
    answers = []
    for position, token in enumerate(tokens):
        x = w["embedding"][token]
        for layer in range(sizes["n_layers"]):
            y = norm(x, w["attention_norm"][layer])
            q = rotate((w["wq"][layer] @ y).reshape(n_heads, d_head), position)
            k = rotate((w["wk"][layer] @ y).reshape(n_kv, d_head), position)
            past[layer].append((k, (w["wv"][layer] @ y).reshape(n_kv, d_head)))
            mixed = []
            for head in range(n_heads):
                shared = head * n_kv // n_heads
                scores = np.array([q[head] @ keys[shared] for keys, _ in past[layer]]) / np.sqrt(d_head)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed.append(sum(a * values[shared] for a, (_, values) in zip(weights, past[layer], strict=True)))
            x = x + w["wo"][layer] @ np.concatenate(mixed)
            y = norm(x, w["ffn_norm"][layer])
            gate = w["w1"][layer] @ y
            x = x + w["w2"][layer] @ (gate / (1 + np.exp(-gate)) * (w["w3"][layer] @ y))
        logits = w.get("unembedding", w["embedding"]) @ norm(x, w["final_norm"])
        answers.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(answers)


@dataclass(frozen=True)
class Case:
    """One shape of one family."""

    make: Callable[..., Path]
    config: Mapping[str, Any]

    def write(self, folder: Path) -> Path:
        """Write the model, and return what names it: its folder, or for llama2.c its file."""
        return self.make(folder, **self.config)


CASES: Mapping[str, Case] = {
    "gpt2": Case(make_gpt2, {}),
    "gpt2-untied-gelu": Case(
        make_gpt2,
        {"tie_word_embeddings": False, "activation_function": "gelu", "n_inner": 40, "n_head": 2, "n_layer": 3},
    ),
    "gpt2-one-head-relu-padded": Case(
        make_gpt2,
        {"activation_function": "relu", "n_head": 1, "n_layer": 1, "n_embd": 20, "vocab_size": D_VOCAB + 7},
    ),
    "gpt_neo-local": Case(make_gpt_neo, {}),
    "gpt_neo-untied-window-1": Case(
        make_gpt_neo,
        {
            "tie_word_embeddings": False,
            "num_layers": 3,
            "attention_types": [[["local"], 1], [["global", "local"], 1]],
            "window_size": 1,
            "intermediate_size": 40,
            "num_heads": 2,
            "layer_norm_epsilon": 1e-3,
        },
    ),
    "gpt_neo-global-swish": Case(
        make_gpt_neo, {"attention_types": [[["global"], 2]], "activation_function": "swish", "num_heads": 8}
    ),
    "llama-untied": Case(make_llama, {}),
    "llama-grouped-tied": Case(
        make_llama,
        {
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "num_hidden_layers": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
    "llama-one-key-wide-heads-biased": Case(
        make_llama,
        {
            "num_key_value_heads": 1,
            "num_attention_heads": 3,
            "head_dim": 14,
            "hidden_size": 24,
            "attention_bias": True,
            "mlp_bias": True,
            "hidden_act": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-3,
        },
    ),
    "llama2c-tied": Case(make_llama2c, {}),
    "llama2c-grouped-untied": Case(make_llama2c, {"n_kv_heads": 2, "vocab_size": -270, "n_layers": 3}),
}
HF_CASES = tuple(name for name in CASES if not name.startswith("llama2c"))


class InFloat64(TorchFunctionMode):
    """Turn every conversion to float32 into one to float64.

    ``transformers`` pins some steps to float32 whatever the precision of the model: rotary angles, RMSNorm, GPT-Neo's
    scores, the softmax of Llama's attention. Under this mode a float64 model is float64 throughout.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def widened(value: object) -> object:
            return torch.float64 if value is torch.float32 else value

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})


def oracle(folder: Path, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a written model in ``transformers``, its attention spelt out."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with precision(dtype):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype)
    tensors = {key: t.to(dtype) for key, t in safetensors.torch.load_file(folder / WEIGHTS).items()}
    result = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert set(result.missing_keys) == tied
    assert not result.unexpected_keys
    return model.eval()


def precision(dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Return the context in which `transformers` computes in ``dtype`` throughout."""
    return InFloat64() if dtype == torch.float64 else contextlib.nullcontext()


def oracle_log_probs(path: Path, tokens: Tensor, dtype: torch.dtype = torch.float64) -> NDArray[Any]:
    """Compute what a written model answers, [batch, pos, d_vocab]; llama2.c files are always computed in float64."""
    if path.is_file():
        return np.stack([llama2c_log_probs(path, row) for row in tokens.numpy()])
    model = oracle(path, dtype)
    with torch.inference_mode(), precision(dtype):
        logits = model(input_ids=tokens, use_cache=False).logits
        assert logits.dtype == dtype
        return logits.log_softmax(-1).numpy()


def random_tokens(path: Path, batch: int, n_pos: int) -> Tensor:
    """Draw tokens over the whole vocabulary of a written model."""
    if path.is_file():
        d_vocab = abs(struct.unpack("<7i", path.read_bytes()[:28])[5])
    else:
        d_vocab = json.loads((path / "config.json").read_text())["vocab_size"]
    return torch.randint(d_vocab, (batch, n_pos), generator=torch.Generator().manual_seed(1))
