"""The optimizers without torch's compiler: the same bits as torch's own."""

import pytest
import torch

from clipmend.model import optimizers


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_an_optimizer_has_the_bits_of_the_fused_one_of_torch(name: str) -> None:
    def trained(module: object, **settings: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(64, 8, generator=generator))
        inputs = torch.randn(16, 64, generator=generator)
        optimizer = getattr(module, name)([weight], lr=1e-2, betas=(0.9, 0.98), **settings)
        for _ in range(5):
            optimizer.zero_grad()
            (inputs @ weight).square().mean().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        return weight.detach()

    assert torch.equal(trained(optimizers), trained(torch.optim, fused=True))
