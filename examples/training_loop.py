"""Distil in a training loop of your own: a smoothed teacher of handwritten digits, students at T = 1, 3 and 64."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lskd import DistillationLoss

pixels, digits = load_digits(return_X_y=True)  # 1797 images of 8×8, part of scikit-learn
images, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)
train, valid = slice(0, 1200), slice(1200, None)


def fit(width: int, loss: nn.Module, teacher: nn.Module | None = None, seed: int = 0) -> nn.Module:
    """Train a network with one hidden layer; ``loss`` also takes the teacher's logits if there is a teacher."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(10):
        for batch in torch.randperm(1200).split(64):
            outputs = [model(images[batch])]
            if teacher is not None:
                with torch.no_grad():
                    outputs.append(teacher(images[batch]))
            loss(*outputs, labels[batch]).backward()
            optimiser.step()
            optimiser.zero_grad()
    return model.eval()


def accuracy(model: nn.Module) -> float:
    """Top-1 on validation, in %."""
    predicted: Tensor = model(images[valid]).argmax(1)
    return 100 * (predicted == labels[valid]).double().mean().item()


if __name__ == "__main__":
    teacher = fit(256, nn.CrossEntropyLoss(label_smoothing=0.1))
    print(f"teacher, α = .1   {accuracy(teacher):.1f} %")
    for T in (1.0, 3.0, 64.0):
        tops = torch.tensor([accuracy(fit(16, DistillationLoss(temperature=T), teacher, seed)) for seed in (1, 2, 3)])
        print(f"student, T = {T:<3g}  {tops.mean():.1f} ± {tops.std():.1f} %, n = 3")
