"""AdamW as PyTorch has it, without loading PyTorch's compiler."""

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, whose methods are called without the wrappers that first import `torch._dynamo`.

    That import takes a new process seconds, and matters only to optimisers that `torch.compile` compiles.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
