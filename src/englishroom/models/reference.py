"""The oracle: the same model in ``transformers``, and how far our forward pass is from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from englishroom.errors import ArtifactError
from englishroom.models.adapters import llama
from englishroom.models.adapters.mapping import Family, write_weights
from englishroom.models.forward import log_probs
from englishroom.models.load import Target


def reference_model(target: Target) -> nn.Module:
    """Build the target in ``transformers``: from its own folder, or for llama2.c files from our reading of them."""
    import transformers

    with _quiet():
        if target.kind == "huggingface":
            model = transformers.AutoModelForCausalLM.from_pretrained(
                target.path, dtype=next(iter(target.weights.values())).dtype, trust_remote_code=False
            )
        else:
            model = transformers.LlamaForCausalLM(_llama_config(target))
            model.load_state_dict(_llama_tensors(target), strict=False, assign=True)
            model.tie_weights()
    return model.eval()


def _llama_config(target: Target):
    import transformers

    spec = target.spec
    return transformers.LlamaConfig.from_dict(
        {
            "vocab_size": spec.d_vocab,
            "hidden_size": spec.d_model,
            "intermediate_size": spec.d_mlp,
            "num_hidden_layers": spec.n_layers,
            "num_attention_heads": spec.n_heads,
            "num_key_value_heads": spec.n_kv_heads,
            "max_position_embeddings": spec.n_ctx,
            "rms_norm_eps": spec.norm_eps,
            "rope_theta": spec.rotary_theta,
            "tie_word_embeddings": spec.tied,
        }
    )


def _llama_tensors(target: Target) -> dict[str, Tensor]:
    tensors = write_weights(Family(target.spec, llama.sources(target.spec), ()), target.weights)
    if target.spec.tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    return tensors


def reference_log_probs(model: nn.Module, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
    """Compute the reference's log-probabilities of the next token."""
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=False).logits.log_softmax(-1)


def largest_difference(target: Target, n_positions: int = 64, seed: int = 0) -> float:
    """Compare our log-probabilities with those of ``transformers`` on random tokens.

    Random tokens reach rows of the vocabulary that text rarely does, and need no tokenizer.

    Returns:
        The largest absolute difference, in nats, over ``n_positions`` positions and the whole vocabulary.

    Raises:
        ArtifactError: ``transformers`` refuses the folder.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        model = reference_model(target)
    except (OSError, ValueError, RuntimeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{target.path}: transformers cannot load it ({reason}); use --no-check to go on") from None
    generator = torch.Generator().manual_seed(seed)
    n_positions = min(n_positions, target.spec.n_ctx)
    tokens = torch.randint(target.spec.d_vocab, (1, n_positions), generator=generator)
    ours = log_probs(target.spec, target.weights, tokens)
    return float((ours - reference_log_probs(model, tokens)).abs().max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice out of our output."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
