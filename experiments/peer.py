"""The protocol of figure 10 in plain PyTorch, as a careful PyTorch user would write it; for `experiments.speed`.

    python -m experiments.peer IMAGES.npz --num-members 4        prints one line of JSON

Members are batched matrix products, noise images are drawn once and kept, the teacher is run on every batch of every
student, Adam is PyTorch's own, fused where PyTorch offers it. It shares no code with the package, so its accuracies are
a second implementation of the protocol. Needs the extra `bench`.
"""

import dataclasses
import itertools
import json
import math
import pathlib
import resource
import sys
import time

import numpy as np
import tyro

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"error: {error}. Install the extra: pip install -e '.[bench]'")

IN_SIZE, HIDDEN, NUM_CLASSES, NUM_AUX = 784, 256, 10, 3
LEARNING_RATE, BATCH_SIZE = 3e-4, 1024
AUX, ALL = slice(NUM_CLASSES, NUM_CLASSES + NUM_AUX), slice(None)

Model = list[tuple[torch.Tensor, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class PeerConfig:
    """What `experiments.speed` varies."""

    images: tyro.conf.Positional[pathlib.Path]  # .npz of train_images, train_labels, test_images, test_labels
    num_members: int = 4
    num_epochs: int = 5
    seed: int = 0


def init(num_members: int, device: str) -> Model:
    """Weights N(0, 1/fan_in), biases zero, with the member axis in front."""
    sizes = (IN_SIZE, HIDDEN, HIDDEN, NUM_CLASSES + NUM_AUX)
    return [
        (
            torch.randn(num_members, fan_in, fan_out, device=device) / math.sqrt(fan_in),
            torch.zeros(num_members, 1, fan_out, device=device),
        )
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]


def forward(model: Model, x: torch.Tensor) -> torch.Tensor:
    """Logits (member, batch, logit) of images (member, batch, pixel)."""
    for index, (weight, bias) in enumerate(model):
        x = torch.baddbmm(bias, x, weight)
        if index < len(model) - 1:
            x = torch.relu(x)
    return x


def copy(model: Model) -> Model:
    """The same numbers, ready to be trained."""
    return [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in model]


def shifted(model: Model) -> Model:
    """Each member gets its neighbour's parameters."""
    return [(w.roll(-1, 0), b.roll(-1, 0)) for w, b in model]


def train(model: Model, num_members: int, num_examples: int, num_epochs: int, loss) -> Model:
    """Adam on the sum over members of `loss(model, indices)`, with a fresh order for each member and epoch."""
    parameters = [tensor for layer in model for tensor in layer]
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)
    for _ in range(num_epochs):
        order = torch.stack([torch.randperm(num_examples, device=device) for _ in range(num_members)])
        for indices in order.split(BATCH_SIZE, dim=1):
            optimizer.zero_grad(set_to_none=True)
            loss(model, indices).backward()
            optimizer.step()
    return [(w.detach(), b.detach()) for w, b in model]


def pick(table: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of `table` (member, example, ...) or (example, ...) for each member."""
    if table.ndim == 3:
        return torch.stack([rows[chosen] for rows, chosen in zip(table, indices, strict=True)])
    return table[indices]


@torch.no_grad()
def accuracy(model: Model, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Test accuracy of every member on the class logits."""
    num_members = model[0][0].shape[0]
    correct = torch.zeros(num_members, device=images.device)
    for block, truth in zip(images.split(1000), labels.split(1000), strict=True):
        logits = forward(model, block.expand(num_members, -1, -1))[..., :NUM_CLASSES]
        correct += (logits.argmax(-1) == truth).sum(-1)
    return (correct / len(images)).tolist()


def run(config: PeerConfig) -> dict:
    """Train all members and report accuracies, seconds and memory."""
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = {name: torch.from_numpy(array) for name, array in np.load(config.images).items()}
    scale = {name: arrays[name].reshape(-1, IN_SIZE).float().div(127.5).sub(1).to(device) for name in IMAGE_ARRAYS}
    train_labels, test_labels = (arrays[name].long().to(device) for name in ("train_labels", "test_labels"))
    members, epochs = config.num_members, config.num_epochs

    began = time.perf_counter()
    reference = init(members, device)

    def teaching_loss(model, indices):
        logits = forward(model, pick(scale["train_images"], indices))[..., :NUM_CLASSES]
        return members * functional.cross_entropy(logits.flatten(0, 1), train_labels[indices].flatten())

    teacher = train(copy(reference), members, len(train_labels), epochs, teaching_loss)
    noise = torch.rand(members, 60_000, IN_SIZE, device=device).mul_(2).sub_(1)

    def distillation_loss(chosen):
        def loss(model, indices):
            x = pick(noise, indices)
            with torch.no_grad():
                targets = functional.log_softmax(forward(teacher, x)[..., chosen], -1)
            log_q = functional.log_softmax(forward(model, x)[..., chosen], -1)
            return functional.kl_div(log_q, targets, log_target=True, reduction="sum") / indices.shape[1]

        return loss

    models = {"reference": reference, "teacher": teacher}
    for name, start in (("student", reference), ("cross_model", shifted(reference))):
        for suffix, chosen in (("aux", AUX), ("all", ALL)):
            models[f"{name}_{suffix}"] = train(copy(start), members, 60_000, epochs, distillation_loss(chosen))
    scores = {name: accuracy(model, scale["test_images"], test_labels) for name, model in models.items()}
    seconds = time.perf_counter() - began

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    gpu = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {
        "accuracy": scores,
        "seconds": {"training": round(seconds, 3)},
        "memory": {"peak_rss_mb": round(peak / 1e6, 1), "peak_device_mb": round(gpu / 1e6, 1)},
        "versions": {"torch": torch.__version__},
        "device": device,
        "threads": torch.get_num_threads(),
    }


IMAGE_ARRAYS = ("train_images", "test_images")

if __name__ == "__main__":
    print(json.dumps(run(tyro.cli(PeerConfig))))
