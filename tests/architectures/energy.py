"""Energies, codes and spikes: RBM, Hopfield networks, autoencoders with tied weights, capsules, spiking networks."""

from itertools import pairwise

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import images, labels
from tests.architectures.registry import published, small

# ---------------------------------------------------------------- restricted Boltzmann machine


class RBM(nn.Module):
    """G. Hinton, "Training products of experts by minimizing contrastive divergence", 2002."""

    def __init__(self, visible, hidden):
        self.weight = dlc.parameter((visible, hidden), initialiser=nn.initialisers.normal(0.1))
        self.visible = dlc.parameter((visible,), initialiser=nn.initialisers.zeros)
        self.hidden = dlc.parameter((hidden,), initialiser=nn.initialisers.zeros)

    def free_energy(self, v):
        """v [N, visible] -> [N]."""
        return -(v @ self.visible) - dlc.softplus(v @ self.weight + self.hidden).sum(axis=1)

    def sampled(self, v):
        """One step of Gibbs sampling."""
        h = dlc.bernoulli(dlc.sigmoid(v @ self.weight + self.hidden)).astype("float32")
        return dlc.bernoulli(dlc.sigmoid(h @ self.weight.T + self.visible)).astype("float32")

    def forward(self, v, steps=1):
        """Contrastive divergence: its gradient is that of the energy of v less that of a sample."""
        sample = v
        for _ in range(steps):
            sample = self.sampled(sample)
        return (self.free_energy(v) - self.free_energy(dlc.stop_gradient(sample))).mean()


# ---------------------------------------------------------------- Hopfield networks


class ModernHopfield(nn.Module):
    """H. Ramsauer et al., "Hopfield networks is all you need", 2020: a state falls to a stored pattern."""

    def __init__(self, patterns, features, beta=2.0, steps=3):
        self.patterns = dlc.parameter((patterns, features), initialiser=nn.initialisers.normal())
        self.beta, self.steps = beta, steps

    def forward(self, x):
        for _ in range(self.steps):
            x = dlc.softmax(self.beta * (x @ self.patterns.T)) @ self.patterns
        return x


def hopfield_recall(patterns, state, sweeps=5):
    """J. Hopfield, 1982: signs [V] that follow the field of the Hebbian weights of patterns [P, V], one at a time."""
    count = patterns.shape[1]
    weights = (patterns.T @ patterns) * (1.0 - dlc.eye(count)) / float(count)

    def follow(state, i):
        field = (dlc.take(weights, i) * state).sum()
        return dlc.where(dlc.arange(count) == i, dlc.where(field >= 0, 1.0, -1.0), state), ()

    state, _ = dlc.scan(follow, state, dlc.tile(dlc.arange(count), sweeps))
    return state


# ---------------------------------------------------------------- autoencoder with tied weights


class TiedAutoencoder(nn.Module):
    """P. Vincent et al., "Stacked denoising autoencoders", 2010: the decoder is the encoder's transpose."""

    def __init__(self, *widths, noise=0.1):
        self.layers, self.noise = [nn.Linear(a, b) for a, b in pairwise(widths)], noise
        self.biases = [dlc.parameter(np.zeros(a, np.float32)) for a in widths[:-1]]

    def forward(self, x):
        y = x + self.noise * dlc.normal(x.shape)
        for layer in self.layers:
            y = dlc.sigmoid(layer(y))
        for layer, bias in reversed(list(zip(self.layers, self.biases))):
            y = y @ layer.weight + bias
        return dlc.square(y - x).mean()


# ---------------------------------------------------------------- capsules


def squashed(x):
    """Vectors of the same direction and a length below one."""
    squares = dlc.square(x).sum(axis=-1, keepdims=True)
    return x * squares / ((1 + squares) * dlc.sqrt(squares + 1e-9))


class Capsules(nn.Module):
    """A layer of capsules, which agree by routing: S. Sabour, N. Frosst and G. Hinton, 2017."""

    def __init__(self, inside, outside, size_in, size_out, rounds=3):
        self.weight = dlc.parameter((inside, outside, size_out, size_in), initialiser=nn.initialisers.normal(0.05))
        self.rounds = rounds

    def forward(self, u):
        """u [N, inside, size_in] -> [N, outside, size_out]."""
        votes = dlc.einsum("iopq,niq->niop", self.weight, u)
        logits = dlc.zeros(votes.shape[:3])
        for i in range(self.rounds):
            last = i == self.rounds - 1
            seen = votes if last else dlc.stop_gradient(votes)
            v = squashed(dlc.einsum("nio,niop->nop", dlc.softmax(logits), seen))
            logits = logits if last else logits + dlc.einsum("niop,nop->nio", seen, v)
        return v


class CapsNet(nn.Module):
    """S. Sabour, N. Frosst and G. Hinton, "Dynamic routing between capsules", 2017, with its decoder."""

    def __init__(self, size=28, classes=10, channels=256, kernel_size=9, capsules=32, hidden=(512, 1024)):
        self.conv, self.primary = nn.Conv2d(1, channels, kernel_size), nn.Conv2d(None, 8 * capsules, kernel_size, 2)
        cells = ((size - kernel_size + 1 - kernel_size) // 2 + 1) ** 2
        self.digits = Capsules(cells * capsules, classes, 8, 16)
        a, b = hidden
        self.decoder = nn.Sequential(
            nn.Linear(16 * classes, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, size**2), nn.Sigmoid()
        )
        self.classes = classes

    def forward(self, x, y):
        """Images [N, 1, size, size] and labels [N] -> the margin loss and the error of reconstruction."""
        n, u = x.shape[0], self.primary(dlc.relu(self.conv(x)))
        _, channels, h, w = u.shape
        u = dlc.moveaxis(u.reshape((n, channels // 8, 8, h * w)), 2, 3).reshape((n, channels // 8 * h * w, 8))
        v = self.digits(squashed(u))
        lengths, right = dlc.sqrt(dlc.square(v).sum(axis=-1) + 1e-9), dlc.one_hot(y, self.classes)
        present, absent = dlc.square(dlc.relu(0.9 - lengths)), dlc.square(dlc.relu(lengths - 0.1))
        margin = (right * present + 0.5 * (1 - right) * absent).sum(axis=1).mean()
        drawn = self.decoder((v * right[..., None]).reshape((n, v.shape[1] * v.shape[2])))
        return margin + 0.0005 * dlc.square(drawn - nn.Flatten()(x)).sum(axis=1).mean()


# ---------------------------------------------------------------- spikes


@dlc.custom_vjp
def spike(potential):
    """1 above the threshold."""
    return (potential > 0.0).astype("float32")


@spike.backward
def fast_sigmoid(g, y, potential):
    """The slope of a smooth step in its place: F. Zenke and S. Ganguli, "SuperSpike", 2018."""
    return g / dlc.square(1.0 + 10.0 * dlc.abs(potential))


class Spiking(nn.Module):
    """Leaky neurons that integrate and fire, over time."""

    def __init__(self, inputs, hidden, outputs, kept=0.9):
        self.read, self.write = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        self.hidden, self.kept = hidden, kept

    def forward(self, x):
        """Currents [T, N, inputs] -> the potentials of the outputs at the end [N, outputs]."""

        def step(carry, current):
            potential, outputs = carry
            potential = self.kept * potential + current
            fired = spike(potential - 1.0)
            return (potential - fired, self.kept * outputs + self.write(fired)), ()

        n = x.shape[1]
        start = dlc.zeros((n, self.hidden)), dlc.zeros((n, self.write.weight.shape[0]))
        (_, outputs), _ = dlc.scan(step, start, self.read(x))
        return outputs


@published("CapsNet, with its decoder", 8_215_568)
def _():
    return CapsNet(), images(28, 1), labels()


@small("Restricted Boltzmann machine, contrastive divergence", decreases=False)
def _():
    model, x = RBM(6, 4), dlc.input("v", ("N", 6))
    return model, [x], model((x > 0).astype("float32"))


@small("Hopfield network, modern")
def _():
    model, x = ModernHopfield(5, 4), dlc.input("x", ("N", 4))
    return model, [x], dlc.square(model(x) - x).mean()


@small("Autoencoder with tied weights", decreases=False)
def _():
    model, x = TiedAutoencoder(6, 4, 3), dlc.input("x", ("N", 6))
    return model, [x], model(x)


@small("CapsNet")
def _():
    model, x, y = CapsNet(8, 3, 3, 3, 2, (4, 5)), images(8, 1), labels()
    return model, [x, y], model(x, y)


@small("Spiking network", exact=False)  # the slope of a spike is a surrogate
def _():
    model, x, y = Spiking(3, 6, 2), dlc.input("x", (7, "N", 3)), labels()
    return model, [x, y], nn.functional.cross_entropy(model(x), dlc.minimum(y, 1))
