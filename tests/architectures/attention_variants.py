"""Other forms of attention and of its use: T5, CLIP, Performer, Perceiver, LoRA."""

import math

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import images
from tests.architectures.registry import published, small
from tests.architectures.relations import info_nce
from tests.architectures.transformers import Block, heads, joined, tokens

cross_entropy = nn.functional.cross_entropy

# ---------------------------------------------------------------- T5


def buckets(queries, keys, both_ways, count=32, furthest=128):
    """The bucket [queries, keys] of each distance: exact when near, logarithmic when far."""
    distance = np.arange(keys)[None] - np.arange(queries)[:, None]
    offset = np.zeros_like(distance)
    if both_ways:
        count //= 2
        offset = count * (distance > 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = count // 2
    far = np.log(np.maximum(distance, 1) / exact) / math.log(furthest / exact) * (count - exact)
    far = np.minimum(exact + far.astype(np.int64), count - 1)
    return offset + np.where(distance < exact, distance, far)


class T5Attention(nn.Module):
    """Without scale and bias; what is added to the scores depends on the distance."""

    def __init__(self, width, count):
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.count = count

    def forward(self, x, memory, bias=None):
        parts = ((self.query, x), (self.key, memory), (self.value, memory))
        q, k, v = (heads(project(t), self.count) for project, t in parts)
        return self.out(joined(dlc.attention(q, k, v, mask=bias, scale=1.0)))


class T5(nn.Module):
    """C. Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text ...", 2019."""

    def __init__(self, words=32128, width=512, count=8, hidden=2048, layers=6):
        def parts(attentions):
            wide = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False))
            return [*[T5Attention(width, count) for _ in range(attentions)], wide]

        def norms(n):
            return [nn.RMSNorm(width, eps=1e-6) for _ in range(n)]

        self.embed, self.width = nn.Embedding(words, width), width
        self.encoder, self.decoder = [parts(1) for _ in range(layers)], [parts(2) for _ in range(layers)]
        self.encoder_norms, self.decoder_norms = [norms(2) for _ in range(layers)], [norms(3) for _ in range(layers)]
        self.last = norms(2)
        self.distances = [nn.Embedding(32, count), nn.Embedding(32, count)]

    def forward(self, source, target):
        """Words [N, S] and the answer so far [N, T] -> logits [N, T, words]; S and T are plain numbers."""
        s, t = source.shape[1], target.shape[1]
        x, y = self.embed(source), self.embed(target)
        bias = dlc.moveaxis(self.distances[0](buckets(s, s, True)), -1, 0)
        for (attention, wide), (first, second) in zip(self.encoder, self.encoder_norms):
            x = x + attention(first(x), first(x), bias)
            x = x + wide(second(x))
        x = self.last[0](x)
        bias = dlc.moveaxis(self.distances[1](buckets(t, t, False)), -1, 0)
        bias = dlc.where(np.tri(t, dtype=bool), bias, -math.inf)
        for (attention, cross, wide), (first, second, third) in zip(self.decoder, self.decoder_norms):
            y = y + attention(first(y), first(y), bias)
            y = y + cross(second(y), x)
            y = y + wide(third(y))
        return self.last[1](y) * self.width**-0.5 @ self.embed.weight.T


# ---------------------------------------------------------------- CLIP


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * dlc.sigmoid(1.702 * x)


class CLIP(nn.Module):
    """A. Radford et al., "Learning transferable visual models from natural language supervision", 2021."""

    def __init__(self, size=224, patch=32, wide=768, words=49408, context=77, width=512, layers=12):
        normal = nn.initialisers.normal
        self.patches = nn.Conv2d(3, wide, patch, stride=patch, bias=False)
        self.token = dlc.parameter((1, 1, wide), initialiser=normal(0.02))
        self.places = dlc.parameter(((size // patch) ** 2 + 1, wide), initialiser=normal(0.02))
        self.norms = [nn.LayerNorm(wide), nn.LayerNorm(wide), nn.LayerNorm(width)]
        self.image = nn.Sequential(*[Block(wide, max(wide // 64, 1), QuickGELU) for _ in range(layers)])
        self.words, self.order = nn.Embedding(words, width), dlc.parameter((context, width), initialiser=normal(0.01))
        self.text = nn.Sequential(*[Block(width, max(width // 64, 1), QuickGELU, causal=True) for _ in range(layers)])
        self.from_image, self.from_text = dlc.parameter((wide, width)), dlc.parameter((width, width))
        self.scale = dlc.parameter(math.log(1 / 0.07))

    def forward(self, x, words):
        """Images [N, 3, H, W] and texts [N, T], whose last word is of the highest number -> their codes [N, width]."""
        y = dlc.moveaxis(nn.Flatten(2)(self.patches(x)), 1, 2)
        first = dlc.broadcast_to(self.token, (x.shape[0], 1, y.shape[2]))
        y = self.image(self.norms[0](dlc.concat([first, y], axis=1) + self.places))
        z = self.norms[2](self.text(self.words(words) + self.order[: words.shape[1]]))
        ends = dlc.one_hot(dlc.argmax(words, axis=1), words.shape[1])
        return self.norms[1](y[:, 0]) @ self.from_image, dlc.einsum("nt,ntd->nd", ends, z) @ self.from_text


# ---------------------------------------------------------------- cheaper attention



class Performer(nn.Module):
    """Causal attention in linear time: K. Choromanski et al., "Rethinking attention with performers", 2020."""

    def __init__(self, width, features):
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        drawn = np.random.default_rng(0).standard_normal((width, features))
        self.directions = dlc.constant(drawn.astype(np.float32))

    def kernel(self, x):
        """Positive random features of exp(q k)."""
        x = x * x.shape[-1] ** -0.25
        return dlc.exp(x @ self.directions - 0.5 * dlc.square(x).sum(axis=-1, keepdims=True)) + 1e-6

    def forward(self, x):
        """x [N, T, width] -> the same shape."""
        q, k, v = self.kernel(self.query(x)), self.kernel(self.key(x)), self.value(x)
        outer = dlc.cumulative_sum(dlc.einsum("ntf,ntd->ntfd", k, v), axis=1)
        total = dlc.einsum("ntf,ntf->nt", q, dlc.cumulative_sum(k, axis=1))
        return dlc.einsum("ntf,ntfd->ntd", q, outer) / total[..., None]


class Perceiver(nn.Module):
    """A few latents read a long input: A. Jaegle et al., "Perceiver: general perception with ...", 2021."""

    def __init__(self, inputs, latents, width, count, layers, classes):
        self.latents = dlc.parameter((latents, width), initialiser=nn.initialisers.normal(0.02))
        self.read = nn.MultiheadAttention(width, count, batch_first=True, kdim=inputs, vdim=inputs)
        self.think = nn.Sequential(*[Block(width, count) for _ in range(layers)])
        self.norm, self.head, self.rounds = nn.LayerNorm(width), nn.Linear(width, classes), 2

    def forward(self, x):
        """x [N, M, inputs] -> logits; the same weights read twice."""
        y = dlc.broadcast_to(self.latents, (x.shape[0], *self.latents.shape))
        for _ in range(self.rounds):
            y = y + self.read(self.norm(y), x, x, need_weights=False)[0]
            y = self.think(y)
        return self.head(y.mean(axis=1))


class LoRA(nn.Module):
    """A frozen layer and a trained product of low rank: E. Hu et al., "LoRA: low-rank adaptation ...", 2021."""

    def __init__(self, width, outside, rank):
        self.frozen = nn.Buffer((outside, width), nn.initialisers.fan_in_uniform())
        self.down = dlc.parameter((rank, width), initialiser=nn.initialisers.normal(0.02))
        self.up = dlc.parameter((outside, rank), initialiser=nn.initialisers.zeros)

    def forward(self, x):
        return x @ self.frozen.T + (x @ self.down.T) @ self.up.T


@published("T5-small", 60_506_624)
def _():
    return T5(), tokens("source", 12), tokens("target", 8)


@published("CLIP ViT-B/32", 151_277_313)
def _():
    model = CLIP()
    return Scored(model), images(224), tokens(length=77)


class Scored(nn.Module):
    """CLIP and its loss."""

    def __init__(self, clip):
        self.clip = clip

    def forward(self, x, words):
        image, text = self.clip(x, words)
        return info_nce(image, text, dlc.exp(-self.clip.scale))


@small("Performer")
def _():
    model, x = Performer(4, 6), dlc.input("x", ("N", 5, 4))
    return model, [x], dlc.square(model(x)).mean()


@small("Perceiver", lr=1e-4)
def _():
    model, x, y = Perceiver(3, 4, 8, 2, 1, 5), dlc.input("x", ("N", 7, 3)), dlc.input("y", ("N",), "int64")
    return model, [x, y], cross_entropy(model(x), y)


@small("LoRA")
def _():
    model = nn.Sequential(LoRA(5, 6, 2), nn.Tanh(), LoRA(6, 4, 2))
    x, y = dlc.input("x", ("N", 5)), dlc.input("y", ("N",), "int64")
    return model, [x, y], cross_entropy(model(x), y)


@small("T5")
def _():
    model, source, target = T5(3, 8, 2, 12, 1), tokens("source", 5), tokens("target", 4)
    return model, [source, target], cross_entropy(model(source, target)[:, :-1], target[:, 1:])


@small("CLIP", lr=1e-5)
def _():
    model, x, words = Scored(CLIP(8, 4, 8, 3, 4, 6, 1)), images(8), tokens(length=4)
    return model, [x, words], model(x, words)
