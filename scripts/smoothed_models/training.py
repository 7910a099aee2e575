"""Train the models of the smoothing study, each for seconds on one core, and compute their validation logits."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from smoothed_models.data import Data, load
from smoothed_models.settings import Setting

STEPS = {
    "perceptron": (40, 300, 1000),
    "overtrained": (40, 1000, 4000),
    "resnet": (47, 140, 280),
    "transformer": (60, 150, 300),
}
STAGES = ("early", "converged", "long")
BATCH = 64  # images; half as many lines of text
KEPT = 1200  # validation samples


def snapshots(setting: Setting) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """Train a model, and yield the stage and logits (N, K) of each snapshot; the largest logit of a row is 0."""
    torch.manual_seed(setting.seed)
    data = load(setting.data, setting.seed % 3)
    data = _changed(data, setting)
    if setting.model == "linear":
        yield "converged", _logits(_linear(data, setting), data)
        return
    teacher = None
    if setting.training == "student":
        teacher = _network(data, setting).train()
        for _ in _trained(teacher, data, setting, None):
            pass
        teacher.eval()
    network = _network(data, setting)
    for stage in _trained(network, data, setting, teacher):
        yield stage, _logits(network, data)


def _changed(data: Data, setting: Setting) -> Data:
    """The data with wrong labels or classes of unequal size, if the setting has those."""
    inputs, labels = data.train
    if setting.training == "noise":
        wrong = torch.rand(labels.shape) < setting.amount
        labels = torch.where(wrong, torch.randint(data.classes, labels.shape), labels)
    if setting.training == "imbalance":
        share = setting.amount ** -(torch.arange(data.classes) / (data.classes - 1))
        kept = torch.rand(len(labels)) < share[labels]
        inputs, labels = inputs[kept], labels[kept]
    return Data((inputs, labels), data.valid, data.classes)


def _targets(labels: Tensor, classes: int, alpha: float) -> Tensor:
    return F.one_hot(labels, classes) * (1 - alpha) + alpha / classes


def _linear(data: Data, setting: Setting) -> nn.Module:
    """Logistic regression at its minimum: the mean loss plus ``amount`` times half the squared weights."""
    inputs, labels = data.train
    layer = nn.Linear(inputs.shape[1], data.classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    targets = _targets(labels, data.classes, setting.alpha)
    penalty = 1e-4 if setting.training != "plain" else setting.amount
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(inputs), targets) + penalty / 2 * (layer.weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer


def _trained(network: nn.Module, data: Data, setting: Setting, teacher: nn.Module | None) -> Iterator[str]:
    """Train, and yield the name of each stage at its end."""
    inputs, labels = data.train
    steps = STEPS[setting.model]
    rate = (1e-3, 3e-3)[setting.digest % 2] * (3 if setting.model == "resnet" else 1)
    decay = setting.amount if setting.training == "decay" else 0
    optimizer = torch.optim.Adam(network.parameters(), rate, weight_decay=decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps[-1], pct_start=0.1)
    size = BATCH // 2 if setting.model == "transformer" else BATCH
    order = iter(())
    for step in range(1, steps[-1] + 1):
        batch = next(order, None)
        if batch is None:
            order = iter(torch.randperm(len(labels)).split(size))
            batch = next(order)
        x, target = inputs[batch], _targets(labels[batch], data.classes, setting.alpha)
        if setting.training in ("mixup", "cutmix"):
            x, target = _mixed(x, target, setting)
        logits = network(x)
        loss = _loss(logits, target, setting, teacher(x) if teacher else None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in steps:
            yield STAGES[steps.index(step)]


def _mixed(x: Tensor, target: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """mixup, or cutmix of complete rows of an image."""
    other = torch.randperm(len(x))
    share = float(np.random.default_rng(int(other[0]) + 1000 * int(other[1])).beta(setting.amount, setting.amount))
    if setting.training == "cutmix":
        cut = round(share * x.shape[1])
        x = torch.cat([x[:, :cut], x[other, cut:]], 1)
    else:
        x = share * x + (1 - share) * x[other]
    return x, share * target + (1 - share) * target[other]


def _loss(logits: Tensor, target: Tensor, setting: Setting, teacher: Tensor | None) -> Tensor:
    log_p = logits.log_softmax(-1)
    if teacher is not None:
        target = teacher.detach().softmax(-1)
    if setting.training == "focal":
        return -(target * (1 - log_p.exp()) ** setting.amount * log_p).sum(-1).mean()
    loss = -(target * log_p).sum(-1).mean()
    if setting.training == "penalty":
        loss = loss + setting.amount * (log_p.exp() * log_p).sum(-1).mean()
    return loss


@torch.no_grad()
def _logits(network: nn.Module, data: Data) -> NDArray[np.float16]:
    network.eval()
    found = torch.cat([network(each).flatten(0, -2) for each in data.valid[0].split(200)])[:KEPT]
    network.train()
    return (found - found.max(1, keepdim=True).values).to(torch.float16).numpy()


def _network(data: Data, setting: Setting) -> nn.Module:
    size = data.train[0].shape[1]
    if setting.model == "resnet":
        return ResNet(round(size**0.5), data.classes, (8, 12)[setting.digest // 2 % 2])
    if setting.model == "transformer":
        return Transformer(data.classes, size, causal=setting.data == "characters")
    width, layers = (64, 256)[setting.digest // 2 % 2], 1 + setting.digest // 4 % 2
    sizes = [size, *[width] * layers]
    hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, data.classes))


class ResNet(nn.Module):
    """Three residual blocks with batch norm, of ``width``, twice and four times as many channels."""

    def __init__(self, side: int, classes: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        sizes = [width, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Sequential(
                        nn.Conv2d(a, b, 3, stride=min(b // a, 2), padding=1, bias=False),
                        nn.BatchNorm2d(b),
                        nn.ReLU(),
                        nn.Conv2d(b, b, 3, padding=1, bias=False),
                        nn.BatchNorm2d(b),
                    ),
                    nn.Conv2d(a, b, 1, stride=min(b // a, 2)),
                ]
            )
            for a, b in pairwise(sizes)
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.view(-1, 1, self.side, self.side))
        blocks: Any = self.blocks
        for block, shortcut in blocks:
            x = F.relu(block(x) + shortcut(x))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """Two layers of 48 dimensions; the output layer shares the embedding's weight, as in fairseq."""

    def __init__(self, vocabulary: int, length: int, causal: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 48)
        nn.init.normal_(self.embedding.weight, std=48**-0.5)
        self.position = nn.Parameter(torch.randn(length, 48) * 0.1)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(48, 4, 128, 0.1, batch_first=True) for _ in range(2))
        self.mask = nn.Transformer.generate_square_subsequent_mask(length) if causal else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) * 48**0.5 + self.position
        for layer in self.layers:
            x = layer(x, src_mask=self.mask, is_causal=self.mask is not None)
        return F.linear(x, self.embedding.weight)
