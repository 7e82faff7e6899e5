"""Functions of coordinates and other all-linear networks: NeRF, SIREN, Kolmogorov-Arnold networks, MLP-Mixer."""

import math

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import classified, images
from tests.architectures.registry import published, small

# ---------------------------------------------------------------- NeRF


def waves(x, octaves):
    """x [..., 3] with its sines and cosines at `octaves` frequencies -> [..., 3 + 6 octaves]."""
    angles = x[..., None, :] * dlc.constant((2.0 ** np.arange(octaves)).astype(np.float32))[:, None]
    both = dlc.concat([dlc.sin(angles), dlc.cos(angles)], axis=-1)
    return dlc.concat([x, both.reshape((*x.shape[:-1], 6 * octaves))], axis=-1)


class NeRF(nn.Module):
    """B. Mildenhall et al., "NeRF: representing scenes as neural radiance fields for view synthesis", 2020."""

    def __init__(self, width=256, depth=8, again=5, octaves=(10, 4)):
        self.layers = [nn.Linear(width) for _ in range(depth)]
        self.density, self.feature = nn.Linear(1), nn.Linear(width)
        self.colour = nn.Sequential(nn.Linear(width // 2), nn.ReLU(), nn.Linear(3))
        self.again, self.octaves = again, octaves

    def forward(self, places, directions):
        """[..., 3] each -> (density [...], colour [..., 3])."""
        given = waves(places, self.octaves[0])
        y = given
        for i, layer in enumerate(self.layers):
            y = dlc.relu(layer(dlc.concat([given, y], axis=-1) if i == self.again else y))
        seen = dlc.concat([self.feature(y), waves(directions, self.octaves[1])], axis=-1)
        return self.density(y)[..., 0], dlc.sigmoid(self.colour(seen))


def rendered(density, colour, distance):
    """The colour [R, 3] along rays: density [R, S], colour [R, S, 3], and the distance of the samples."""
    opaque = 1.0 - dlc.exp(-dlc.softplus(density) * distance)
    reached = dlc.cumulative_prod(1.0 - opaque + 1e-10, axis=1, exclusive=True)
    return ((opaque * reached)[..., None] * colour).sum(axis=1)


# ---------------------------------------------------------------- SIREN


class Sine(nn.Module):
    """V. Sitzmann et al., "Implicit neural representations with periodic activation functions", 2020."""

    def __init__(self, inside, outside, first=False, omega=30.0):
        bound = 1.0 / inside if first else math.sqrt(6.0 / inside) / omega
        self.weight = dlc.parameter((outside, inside), initialiser=nn.initialisers.uniform(-bound, bound))
        self.bias = dlc.parameter((outside,), initialiser=nn.initialisers.uniform(-bound, bound))
        self.omega = omega

    def forward(self, x):
        return dlc.sin(self.omega * (x @ self.weight.T + self.bias))


# ---------------------------------------------------------------- Kolmogorov-Arnold


class KAN(nn.Module):
    """A spline on each edge: Z. Liu et al., "KAN: Kolmogorov-Arnold networks", 2024."""

    def __init__(self, inside, outside, cells=5, order=3):
        step = 2.0 / cells
        self.knots = (np.arange(-order, cells + order + 1) * step - 1.0).astype(np.float32)
        self.order = order
        self.base = dlc.parameter((inside, outside))
        self.spline = dlc.parameter((inside, cells + order, outside), initialiser=nn.initialisers.normal(0.1))

    def bases(self, x):
        """B-splines by the recursion of Cox and de Boor: [..., cells + order]."""
        x, t = x[..., None], self.knots
        b = dlc.logical_and(x >= t[:-1], x < t[1:]).astype("float32")
        for k in range(1, self.order + 1):
            left = (x - t[: -k - 1]) / (t[k:-1] - t[: -k - 1]) * b[..., :-1]
            right = (t[k + 1 :] - x) / (t[k + 1 :] - t[1:-k]) * b[..., 1:]
            b = left + right
        return b

    def forward(self, x):
        """x [N, inside] -> [N, outside]."""
        return dlc.silu(x) @ self.base + dlc.einsum("nik,iko->no", self.bases(x), self.spline)


# ---------------------------------------------------------------- MLP-Mixer


class MixerBlock(nn.Module):
    """A network across the patches, then one across the channels."""

    def __init__(self, patches, width, across, along):
        def mlp(size, hidden):
            return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))

        self.norms = [nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)]
        self.across, self.along = mlp(patches, across), mlp(width, along)

    def forward(self, x):
        x = x + dlc.matrix_transpose(self.across(dlc.matrix_transpose(self.norms[0](x))))
        return x + self.along(self.norms[1](x))


def mixer(size=224, patch=16, width=768, across=384, along=3072, layers=12, classes=1000):
    """I. Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", 2021."""
    blocks = [MixerBlock((size // patch) ** 2, width, across, along) for _ in range(layers)]
    patches = [nn.Conv2d(3, width, patch, stride=patch), nn.Flatten(2), Transposed()]
    return nn.Sequential(*patches, *blocks, nn.LayerNorm(width, eps=1e-6), Mean(), nn.Linear(width, classes))


class Transposed(nn.Module):
    def forward(self, x):
        return dlc.matrix_transpose(x)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(axis=1)


@published("NeRF", 595_844)
def _():
    return NeRF(), dlc.input("places", ("N", 3)), dlc.input("directions", ("N", 3))


@published("MLP-Mixer-B/16", 59_880_472)
def _():
    return mixer(), images(224)


@small("NeRF, through the rendering of a ray")
def _():
    model = NeRF(6, 3, 2, (2, 1))
    places, directions = dlc.input("places", ("R", 4, 3)), dlc.input("directions", ("R", 4, 3))
    return model, [places, directions], dlc.square(rendered(*model(places, directions), 0.5) - 0.5).mean()


@small("SIREN, fitted to a slope", lr=1e-5)
def _():
    model, x = nn.Sequential(Sine(2, 8, True, 3.0), Sine(8, 8, omega=3.0), nn.Linear(8, 1)), dlc.input("x", ("N", 2))
    slope = dlc.grad(model(x).sum(), x)  # Poisson's equation asks for the slope, so training takes second derivatives
    return model, [x], dlc.square(slope - x).mean()


@small("Kolmogorov-Arnold network")
def _():
    model, x = nn.Sequential(KAN(2, 3), KAN(3, 1)), dlc.input("x", ("N", 2))
    return model, [x], dlc.square(model(dlc.tanh(x)) - 1).mean()


@small("MLP-Mixer")
def _():
    return classified(mixer(8, 4, 6, 4, 8, 1, 5), images(8))
