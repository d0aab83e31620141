"""What makes a network faster and smaller on a GPU and leaves what it computes alone."""

import torch
from torch import nn

_CAST = (nn.Linear, nn.Conv2d)
"""Autocast casts the weights of these, and of frozen ones anew in every pass."""


def to_bfloat16(network: nn.Module) -> None:
    """Keep frozen weights as bfloat16 autocast would make them: half the memory, no casting, the same results.

    Biases, norms and embeddings stay as they are. From then on the network runs under bfloat16 autocast alone.
    """
    for module in network.modules():
        if isinstance(module, _CAST) and not module.weight.requires_grad:
            module.weight.data = module.weight.data.to(torch.bfloat16)


def to_channels_last(network: nn.Module) -> None:
    """Lay frozen convolutions out as tensor cores read them; trained ones keep the layout that checkpoints have."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def compile_blocks(network: nn.Module) -> None:
    """Compile the blocks that a diffusers model repeats, each kind once; the taps beside them stay visible."""
    for module in network.modules():
        if callable(compile_repeated := getattr(module, "compile_repeated_blocks", None)) and module._repeated_blocks:
            compile_repeated()
