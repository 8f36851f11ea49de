"""The protocol once more, as one would write it down: numpy in double precision, Python loops, gradients by hand.

Nothing of `sublim_jax.training` or `sublim_jax.models.mlp.apply` is used. Random numbers are those of the laboratory:
an epoch's order is `permutation(fold_in(key, epoch), n)`, cut into batches of which the last may be short.
"""

import jax
import numpy as np


def from_jax(params):
    """A list of [weight, bias] in double precision."""
    return [[np.asarray(weight, float), np.asarray(bias, float)] for weight, bias in params]


def forward(params, images):
    """Activations of a tanh network, the images first and the logits last."""
    activations = [np.asarray(images, float)]
    for index, (weight, bias) in enumerate(params):
        outputs = activations[-1] @ weight.T + bias
        activations.append(outputs if index == len(params) - 1 else np.tanh(outputs))
    return activations


def backward(params, activations, logit_gradient):
    gradients, slope = [], logit_gradient
    for index in reversed(range(len(params))):
        gradients.append([slope.T @ activations[index], slope.sum(0)])
        slope = (slope @ params[index][0]) * (1 - activations[index] ** 2)
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

    `loss_and_gradient(logits, indices)` gives a batch's mean loss and its gradient by the logits.
    """
    params, history = [list(layer) for layer in params], []
    for epoch in range(epochs):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), num_examples))
        values = []
        for start in range(0, num_examples, batch_size):
            indices = order[start : start + batch_size]
            activations = forward(params, loss_and_gradient.images[indices])
            value, slope = loss_and_gradient(activations[-1], indices)
            optimizer.step(params, backward(params, activations, slope))
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
    """KL(teacher || student) on some logits."""

    def __init__(self, images, targets, chosen: slice, temperature=1.0):
        self.images, self.targets = np.asarray(images, float), np.asarray(targets, float)
        self.chosen, self.temperature = chosen, temperature

    def __call__(self, logits, indices):
        t = self.temperature
        p, q = (softmax(x[:, self.chosen] / t) for x in (self.targets[indices], logits))
        slope = np.zeros_like(logits)
        slope[:, self.chosen] = t * (q - p)
        return t**2 * np.mean(np.sum(p * np.log(p / q), axis=-1)), slope / len(indices)


def accuracy(params, images, labels, num_classes):
    logits = forward(params, (np.asarray(images, float) - 127.5) / 127.5)[-1][:, :num_classes]
    return np.mean(np.argmax(logits, axis=-1) == labels)
