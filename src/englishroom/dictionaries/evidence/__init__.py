"""Evidence for latents: when they are active, on what, and which tokens they vote for."""
