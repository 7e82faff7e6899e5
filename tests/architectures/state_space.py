"""Sequences by linear recurrences: S4 (diagonal) and Mamba."""

import math

import numpy as np

import dlc
from dlc import nn
from tests.architectures.registry import published, small
from tests.architectures.transformers import next_word, tokens


class S4D(nn.Module):
    """A. Gu et al., "On the parameterization and initialization of diagonal state space models", 2022.

    Each channel's kernel is the sum of damped waves, and the whole sequence is one long convolution.
    """

    def __init__(self, channels, states=16):
        self.log_step = dlc.parameter((channels, 1), initialiser=nn.initialisers.uniform(math.log(1e-3), math.log(0.1)))
        self.log_decay = dlc.parameter(np.full((channels, states), math.log(0.5), np.float32))
        self.frequency = dlc.parameter(np.tile(np.pi * np.arange(states, dtype=np.float32), (channels, 1)))
        self.real, self.imaginary = (
            dlc.parameter((channels, states), initialiser=nn.initialisers.normal()) for _ in range(2)
        )
        self.skip, self.channels = dlc.parameter(np.ones((channels, 1), np.float32)), channels

    def kernel(self, length):
        """[channels, length]; the complex exponentials are written as damping, cosine and sine."""
        step = dlc.exp(self.log_step)
        a, b = -dlc.exp(self.log_decay), self.frequency  # the poles a + ib
        damping, angle = a * step, b * step
        # (exp(step p) - 1) / p, by which discretisation multiplies the input
        re, im = dlc.exp(damping) * dlc.cos(angle) - 1.0, dlc.exp(damping) * dlc.sin(angle)
        norm = a * a + b * b
        re, im = (re * a + im * b) / norm, (im * a - re * b) / norm
        re, im = self.real * re - self.imaginary * im, self.real * im + self.imaginary * re
        t = dlc.arange(length).astype("float32")
        waves = dlc.exp(damping[..., None] * t)
        turned = re[..., None] * dlc.cos(angle[..., None] * t) - im[..., None] * dlc.sin(angle[..., None] * t)
        return 2.0 * (waves * turned).sum(axis=1)

    def forward(self, x):
        """x [N, channels, T] -> the same shape; T is a plain number."""
        length = x.shape[2]
        padded = dlc.pad(x, [(0, 0), (0, 0), (length - 1, 0)])
        kernel = dlc.flip(self.kernel(length), axis=1)[:, None]
        return dlc.conv1d(padded, kernel, groups=self.channels) + self.skip * x


class Mamba(nn.Module):
    """A. Gu and T. Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023: one block."""

    def __init__(self, width, states=16, expansion=2, kernel_size=4):
        inner, rank = expansion * width, math.ceil(width / 16)
        self.project = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel_size, groups=inner)
        self.select = nn.Linear(inner, rank + 2 * states, bias=False)
        self.step, self.out = nn.Linear(rank, inner), nn.Linear(inner, width, bias=False)
        self.log_decay = dlc.parameter(np.log(np.tile(np.arange(1.0, states + 1), (inner, 1))).astype(np.float32))
        self.skip = dlc.parameter(np.ones(inner, np.float32))
        self.rank, self.states, self.before = rank, states, kernel_size - 1

    def forward(self, x):
        """x [N, T, width] -> the same shape."""
        u, gate = dlc.chunk(self.project(x), 2, axis=-1)
        padded = dlc.pad(dlc.moveaxis(u, 1, 2), [(0, 0), (0, 0), (self.before, 0)])
        u = dlc.silu(dlc.moveaxis(self.conv(padded), 2, 1))
        step, into, out = dlc.split(self.select(u), [self.rank, self.states, self.states], axis=-1)
        step = dlc.softplus(self.step(step))  # [N, T, inner]
        decay = dlc.exp(step[..., None] * -dlc.exp(self.log_decay))  # [N, T, inner, states]
        states = dlc.linear_recurrence(decay, (step * u)[..., None] * into[:, :, None, :], axis=1)
        y = dlc.einsum("ntds,nts->ntd", states, out) + self.skip * u
        return self.out(y * dlc.silu(gate))


class MambaModel(nn.Module):
    """Blocks, each added to its input and normalised before; the head is the embedding."""

    def __init__(self, words, width, layers):
        self.embed = nn.Embedding(words, width)
        self.blocks = [Mamba(width) for _ in range(layers)]
        self.norms = [nn.RMSNorm(width, eps=1e-5) for _ in range(layers + 1)]

    def forward(self, words):
        x = self.embed(words)
        for block, norm in zip(self.blocks, self.norms):
            x = x + block(norm(x))
        return self.norms[-1](x) @ self.embed.weight.T


@published("Mamba 130M", 129_135_360)
def _():
    return MambaModel(50280, 768, 24), tokens()


@small("S4D")
def _():
    model, x = S4D(3, 4), dlc.input("x", ("N", 3, 9))
    return model, [x], dlc.square(model(x) - dlc.roll(x, 1, axis=2)).mean()


@small("Mamba")
def _():
    return next_word(MambaModel(3, 4, 1), tokens(length=6))
