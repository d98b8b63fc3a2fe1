"""How every network of the zoo is trained, and the part that they have in common."""

from collections.abc import Callable

import numpy as np
import torch
from drawing import Drawn, draw, model_input
from torch import nn

IMAGES, EPOCHS, BATCH = 1400, 11, 40

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def body() -> nn.Sequential:
    """From images (N,3,32,32) to features (N,32,8,8)."""
    layers = [(3, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 2)]
    return nn.Sequential(
        *(each for given, made, step in layers for each in (nn.Conv2d(given, made, 3, step, 1), nn.ReLU()))
    )


def train(
    network: nn.Module, targets: Callable[[Drawn], torch.Tensor], loss: Loss, seed: int, *, coded: bool, several: bool
) -> nn.Module:
    """A network trained on pictures of its own: the seed draws them, their order and, before, the first weights."""
    drawn = draw(IMAGES, 7919 + seed, coded=coded, several=several)
    images, wanted = torch.from_numpy(model_input(drawn.pictures)), targets(drawn)
    order = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = IMAGES // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for rows in torch.from_numpy(order.permutation(IMAGES)).split(BATCH):
            optimizer.zero_grad()
            loss(network(images[rows]), wanted[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
