"""The protocol once more, as one would write it down: numpy in double precision, Python loops, gradients by hand.

Nothing of `sublim_jax.training` or `sublim_jax.models.mlp.apply` is used. Random numbers are those of the laboratory:
an epoch's order is `permutation(fold_in(key, epoch), n)`, cut into batches of which the last may be short.
"""

import jax
import numpy as np


def from_jax(params):
    """A list of [weight, bias] in double precision."""
    return [[np.asarray(weight, float), np.asarray(bias, float)] for weight, bias in params]


class Rectified(list):
    """Parameters of a network of rectified units; a plain list is one of tanh."""


def forward(params, images):
    """Activations of a network, the images first and the logits last."""
    activations = [np.asarray(images, float)]
    for index, (weight, bias) in enumerate(params):
        outputs = activations[-1] @ weight.T + bias
        hidden = np.maximum(outputs, 0) if isinstance(params, Rectified) else np.tanh(outputs)
        activations.append(outputs if index == len(params) - 1 else hidden)
    return activations


def backward(params, activations, logit_gradient, hidden_gradient=0.0):
    """Gradients of the parameters from those of the logits, and of the last hidden layer where the loss looks at it."""
    gradients, slope, extra = [], logit_gradient, hidden_gradient
    for index in reversed(range(len(params))):
        gradients.append([slope.T @ activations[index], slope.sum(0)])
        below = activations[index]
        steepness = below > 0 if isinstance(params, Rectified) else 1 - below**2
        slope, extra = (slope @ params[index][0] + extra) * steepness, 0.0
    return gradients[::-1]


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, rate, b1=0.9, b2=0.999, eps=1e-8):
        self.rate, self.b1, self.b2, self.eps, self.time = rate, b1, b2, eps, 0
        self.moments = {}

    def step(self, params, gradients):
        self.time += 1
        for i, (layer, gradient) in enumerate(zip(params, gradients, strict=True)):
            for j in range(2):
                first, second = self.moments.get((i, j), (0.0, 0.0))
                first = self.b1 * first + (1 - self.b1) * gradient[j]
                second = self.b2 * second + (1 - self.b2) * gradient[j] ** 2
                self.moments[i, j] = first, second
                first, second = first / (1 - self.b1**self.time), second / (1 - self.b2**self.time)
                layer[j] = layer[j] - self.rate * first / (np.sqrt(second) + self.eps)


class Descent:
    """Plain gradient descent."""

    def __init__(self, rate):
        self.rate = rate

    def step(self, params, gradients):
        for layer, gradient in zip(params, gradients, strict=True):
            for j in range(2):
                layer[j] = layer[j] - self.rate * gradient[j]


def train(params, key, num_examples, loss_and_gradient, *, epochs, batch_size, optimizer):
    """Parameters after training, and the mean over steps of each epoch's losses.

    `loss_and_gradient(logits, indices)` gives a batch's mean loss and its gradient by the logits. A task with a `guide`
    adds to the loss `guide(hidden, indices)`, which gives a value and its gradient by the last hidden layer.
    """
    params, history = type(params)(list(layer) for layer in params), []
    for epoch in range(epochs):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), num_examples))
        values = []
        for start in range(0, num_examples, batch_size):
            indices = order[start : start + batch_size]
            activations = forward(params, loss_and_gradient.images[indices])
            value, slope = loss_and_gradient(activations[-1], indices)
            guide = getattr(loss_and_gradient, "guide", None)
            guidance, extra = guide(activations[-2], indices) if guide else (0.0, 0.0)
            value = value + guidance
            optimizer.step(params, backward(params, activations, slope, extra))
            values.append(value)
        history.append(np.mean(values))
    return params, np.array(history)


class Teaching:
    """Cross-entropy on the class logits."""

    def __init__(self, images, labels, num_classes):
        self.images = (np.asarray(images, float) - 127.5) / 127.5
        self.labels, self.num_classes = labels, num_classes

    def __call__(self, logits, indices):
        probabilities, rows = softmax(logits[:, : self.num_classes]), np.arange(len(indices))
        slope = np.zeros_like(logits)
        slope[:, : self.num_classes] = probabilities - np.eye(self.num_classes)[self.labels[indices]]
        return -np.mean(np.log(probabilities[rows, self.labels[indices]])), slope / len(indices)


class Distilling:
    """A distance from the teacher's logits on some logits, of which only the largest `top_k` may be shown."""

    def __init__(self, images, targets, chosen: slice, temperature=1.0, loss="kl", top_k=None, guide=None):
        self.images, self.targets = np.asarray(images, float), np.asarray(targets, float)
        self.chosen, self.temperature, self.loss, self.top_k, self.guide = chosen, temperature, loss, top_k, guide

    def __call__(self, logits, indices):
        ours, theirs, t = logits[:, self.chosen], self.targets[indices][:, self.chosen], self.temperature
        if self.top_k is not None:
            smallest = np.sort(theirs, axis=-1)[:, -self.top_k, None]
            theirs = np.where(theirs >= smallest, theirs, -np.inf)
        slope = np.zeros_like(logits)
        if self.loss == "mse":
            slope[:, self.chosen] = 2 * (ours - theirs)
            return np.mean(np.sum((ours - theirs) ** 2, axis=-1)), slope / len(indices)
        p, q = softmax(theirs / t), softmax(ours / t)
        log_ratio = np.log(np.where(p > 0, p, 1.0) / q)  # of what is not shown, times a probability of zero
        forward, backward = np.sum(p * log_ratio, axis=-1), -np.sum(q * log_ratio, axis=-1)
        # The gradient of sum q log(q / p) by the logits over t is q (log(q / p) - its mean under q).
        shares = {"kl": (1.0, 0.0), "reverse_kl": (0.0, 1.0), "jeffreys": (0.5, 0.5)}[self.loss]
        reverse_slope = q * (-log_ratio - backward[:, None])
        slope[:, self.chosen] = t * (shares[0] * (q - p) + shares[1] * reverse_slope)
        return t**2 * np.mean(shares[0] * forward + shares[1] * backward), slope / len(indices)


class Guide:
    """`weight` times 1 minus the cosine of the Gram matrices of a hidden layer and of the teacher's."""

    def __init__(self, hidden, weight):
        self.hidden, self.weight = hidden, weight

    def __call__(self, hidden, indices):
        ours, theirs = hidden @ hidden.T, self.hidden[indices] @ self.hidden[indices].T
        product, ours_size, theirs_size = np.sum(ours * theirs), np.linalg.norm(ours), np.linalg.norm(theirs)
        cosine = product / ours_size / theirs_size
        gram_slope = theirs / ours_size / theirs_size - cosine * ours / ours_size**2
        return self.weight * (1 - cosine), -2 * self.weight * gram_slope @ hidden


def noise(key, count, num_pixels, law, amplitude):
    """Noise images: number n from `fold_in(key, n)`, four bytes a word where a pixel is made of bytes."""
    images = []
    for number in range(count):
        own = jax.random.fold_in(key, number)
        if law == "gaussian":
            images.append(amplitude * np.asarray(jax.random.normal(own, (num_pixels,)), float))
            continue
        words = np.asarray(jax.random.bits(own, (-(-num_pixels // 4),), np.uint32))
        pixels = words.astype("<u4").view(np.uint8)[:num_pixels].astype(float)
        grey = (2 * pixels - 255) / 255
        images.append(amplitude * (np.where(pixels >= 128, 1.0, -1.0) if law == "bernoulli" else grey))
    return np.array(images)


def blur(images, sigma):
    """Gaussian blur of square images, with the kernel cut at the border and normalised again."""
    side = round(images.shape[1] ** 0.5)
    kernel = np.exp(-0.5 * (np.subtract.outer(np.arange(side), np.arange(side)) / sigma) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    return np.array([(kernel @ image.reshape(side, side) @ kernel.T).ravel() for image in images])


def rounded(targets, bits):
    """Targets on `2**bits` equal levels from the smallest to the largest of all."""
    levels = np.linspace(targets.min(), targets.max(), 2**bits)
    return levels[np.abs(targets[..., None] - levels).argmin(-1)]


def accuracy(params, images, labels, num_classes):
    logits = forward(params, (np.asarray(images, float) - 127.5) / 127.5)[-1][:, :num_classes]
    return np.mean(np.argmax(logits, axis=-1) == labels)
