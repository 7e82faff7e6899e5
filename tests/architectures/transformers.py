"""Transformers: the first, GPT-2, BERT, ViT, Swin, Llama, mixtures of experts."""

import math

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import classified, images
from tests.architectures.registry import published, small

cross_entropy = nn.functional.cross_entropy


def tokens(name="tokens", length="T"):
    return dlc.input(name, ("N", length), "int64")


def heads(x, count):
    """[..., T, count * d] -> [..., count, T, d]."""
    *rest, width = x.shape
    return dlc.moveaxis(x.reshape((*rest, count, width // count)), -2, -3)


def joined(x):
    """[..., heads, T, d] -> [..., T, heads * d]."""
    *rest, count, d = dlc.moveaxis(x, -3, -2).shape
    return dlc.moveaxis(x, -3, -2).reshape((*rest, count * d))


class SelfAttention(nn.Module):
    """Queries, keys and values from one projection."""

    def __init__(self, width, count, causal=False):
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.count, self.causal = count, causal

    def forward(self, x, mask=None):
        q, k, v = (heads(part, self.count) for part in dlc.chunk(self.project(x), 3, axis=-1))
        return self.out(joined(dlc.attention(q, k, v, mask=mask, causal=self.causal)))


class Block(nn.Module):
    """Attention and a wide layer, each added to its input; normalised before (GPT-2, ViT) or after (BERT)."""

    def __init__(self, width, count, activation=nn.GELU, eps=1e-5, causal=False, after=False):
        self.attention = SelfAttention(width, count, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), activation(), nn.Linear(4 * width, width))
        self.norms = [nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)]
        self.after = after

    def forward(self, x, mask=None):
        first, second = self.norms
        if self.after:
            x = first(x + self.attention(x, mask))
            return second(x + self.mlp(x))
        x = x + self.attention(first(x), mask)
        return x + self.mlp(second(x))


# ---------------------------------------------------------------- Transformer


def sinusoids(length, width):
    """Section 3.5: sines at even places, cosines at odd ones."""
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
    return dlc.constant(np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width).astype(np.float32))


class Transformer(nn.Module):
    """A. Vaswani et al., "Attention is all you need", 2017: one table embeds both languages and is the head."""

    def __init__(self, words, width=512, count=8, hidden=2048, layers=6, dropout=0.1):
        self.embed = nn.Embedding(words, width)
        how = (width, count, hidden, dropout)
        self.encoder = [nn.TransformerEncoderLayer(*how, batch_first=True) for _ in range(layers)]
        self.decoder = [nn.TransformerDecoderLayer(*how, batch_first=True) for _ in range(layers)]
        self.width = width

    def placed(self, words):
        return self.embed(words) * math.sqrt(self.width) + sinusoids(words.shape[1], self.width)

    def forward(self, source, target):
        """Words [N, S] and the translation so far [N, T] -> logits [N, T, words]; S and T are plain numbers."""
        x, y = self.placed(source), self.placed(target)
        for layer in self.encoder:
            x = layer(x)
        for layer in self.decoder:
            y = layer(y, x, tgt_is_causal=True)
        return y @ self.embed.weight.T


# ---------------------------------------------------------------- GPT-2, BERT, ViT


class GPT2(nn.Module):
    """A. Radford et al., "Language models are unsupervised multitask learners", 2019; the head is the embedding."""

    def __init__(self, words=50257, context=1024, width=768, count=12, layers=12):
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(context, width)
        self.blocks = [Block(width, count, lambda: nn.GELU("tanh"), causal=True) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)

    def forward(self, words):
        x = self.words(words) + self.places(dlc.arange(words.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.words.weight.T


def continued(model, words, given):
    """Words [N, T], of which the first `given` are set, with the rest filled in one by one, the likeliest each time."""
    places = dlc.arange(words.shape[1])

    def step(i, words):
        likeliest = dlc.argmax(dlc.take(model(words), i - 1, axis=1), axis=-1)
        return i + 1, dlc.where(places == i, likeliest[:, None], words)

    return dlc.while_loop(lambda i, _: i < words.shape[1], step, given, words)[1]


class BERT(nn.Module):
    """J. Devlin et al., "BERT: pre-training of deep bidirectional transformers ...", 2018, with its pooler."""

    def __init__(self, words=30522, context=512, width=768, count=12, layers=12):
        self.words, self.places, self.kinds = (nn.Embedding(rows, width) for rows in (words, context, 2))
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        self.blocks = [Block(width, count, eps=1e-12, after=True) for _ in range(layers)]
        self.pooler = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, words, kinds, valid):
        """Words, their sentence (0 or 1) and whether they are words [N, T] -> [N, T, width], and [N, width]."""
        x = self.words(words) + self.places(dlc.arange(words.shape[1])) + self.kinds(kinds)
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, valid[:, None, None, :])
        return x, self.pooler(x[:, 0])


class ViT(nn.Module):
    """A. Dosovitskiy et al., "An image is worth 16x16 words", 2020."""

    def __init__(self, size=224, patch=16, width=768, count=12, layers=12, classes=1000):
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = dlc.parameter((1, 1, width), initialiser=nn.initialisers.zeros)
        self.places = dlc.parameter(((size // patch) ** 2 + 1, width), initialiser=nn.initialisers.normal(0.02))
        self.blocks = nn.Sequential(*[Block(width, count, eps=1e-6) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x):
        y = dlc.moveaxis(nn.Flatten(2)(self.patches(x)), 1, 2)
        first = dlc.broadcast_to(self.token, (x.shape[0], 1, y.shape[2]))
        y = self.blocks(dlc.concat([first, y], axis=1) + self.places)
        return self.head(self.norm(y)[:, 0])


# ---------------------------------------------------------------- Swin


def windows(x, size):
    """[N, H, W, C] -> [N, windows, size * size, C]."""
    n, h, w, c = x.shape
    x = dlc.permute_dims(x.reshape((n, h // size, size, w // size, size, c)), (0, 1, 3, 2, 4, 5))
    return x.reshape((n, (h // size) * (w // size), size * size, c))


def unwindowed(y, shape, size):
    """The reverse of `windows`."""
    n, h, w, c = shape
    y = dlc.permute_dims(y.reshape((n, h // size, w // size, size, size, c)), (0, 1, 3, 2, 4, 5))
    return y.reshape(shape)


class WindowAttention(nn.Module):
    """Attention within windows, with a bias for each offset; every other block's windows are moved by half."""

    def __init__(self, width, count, size, shift):
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = dlc.parameter(((2 * size - 1) ** 2, count), initialiser=nn.initialisers.normal(0.02))
        self.count, self.size, self.shift = count, size, shift
        at = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).reshape(2, -1)
        self.offset = ((at[:, :, None] - at[:, None, :] + size - 1) * np.array([2 * size - 1, 1])[:, None, None]).sum(0)

    def forward(self, x):
        _, h, w, _ = x.shape
        y = windows(dlc.roll(x, (-self.shift, -self.shift), axis=(1, 2)), self.size)
        q, k, v = (heads(part, self.count) for part in dlc.chunk(self.project(y), 3, axis=-1))
        bias = dlc.moveaxis(dlc.take(self.biases, self.offset), -1, 0)  # [heads, size^2, size^2]
        if self.shift:
            bias = dlc.where(self.seen(h, w)[:, None], bias, -100.0)  # [windows, heads, size^2, size^2]
        y = self.out(joined(dlc.attention(q, k, v, mask=bias)))
        return dlc.roll(unwindowed(y, x.shape, self.size), (self.shift, self.shift), axis=(1, 2))

    def seen(self, h, w):
        """Which pairs of a moved window were neighbours before."""
        size, shift = self.size, self.shift

        def region(length):
            i = np.arange(length)
            return np.where(i < length - size, 0, np.where(i < length - shift, 1, 2))

        regions = region(h)[:, None] * 3 + region(w)[None]
        of_window = regions.reshape(h // size, size, w // size, size).transpose(0, 2, 1, 3).reshape(-1, size * size)
        return dlc.constant(of_window[:, :, None] == of_window[:, None, :])


class SwinBlock(nn.Module):
    """Z. Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows", 2021."""

    def __init__(self, width, count, size, shift):
        self.attention = WindowAttention(width, count, size, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = [nn.LayerNorm(width), nn.LayerNorm(width)]

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class PatchMerging(nn.Module):
    """Four neighbours become one of twice the width."""

    def __init__(self, width):
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(dlc.concat(corners, axis=-1)))


class Swin(nn.Module):
    def __init__(self, width=96, blocks=(2, 2, 6, 2), counts=(3, 6, 12, 24), size=7, patch=4, classes=1000):
        self.patches, self.norm = nn.Conv2d(3, width, patch, stride=patch), nn.LayerNorm(width)
        layers = []
        for i, (repeats, count) in enumerate(zip(blocks, counts)):
            layers += [PatchMerging(width << i - 1)] if i else []
            # the windows of the last stage hold the whole image, so they are not moved
            shift = size // 2 if i + 1 < len(blocks) else 0
            layers += [SwinBlock(width << i, count, size, shift * (j % 2)) for j in range(repeats)]
        last = width << len(blocks) - 1
        self.blocks, self.last, self.head = nn.Sequential(*layers), nn.LayerNorm(last), nn.Linear(last, classes)

    def forward(self, x):
        y = self.blocks(self.norm(dlc.moveaxis(self.patches(x), 1, -1)))
        return self.head(self.last(y).mean(axis=(1, 2)))


# ---------------------------------------------------------------- Llama, Mixtral


def rotated(x, base=10000.0):
    """Pairs of features of [N, heads, T, d] turned by an angle for each place: J. Su et al., "RoFormer", 2021."""
    t, d = x.shape[2:]
    frequencies = dlc.constant((base ** (-np.arange(0, d, 2) / d)).astype(np.float32))
    angles = dlc.arange(t).astype("float32")[:, None] * frequencies
    cos, sin = dlc.cos(angles), dlc.sin(angles)
    a, b = dlc.chunk(x, 2, axis=-1)
    return dlc.concat([a * cos - b * sin, b * cos + a * sin], axis=-1)


class GroupedQueryAttention(nn.Module):
    """Several queries share a key: J. Ainslie et al., "GQA", 2023."""

    def __init__(self, width, count, shared):
        size = width // count
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, shared * size, bias=False)
        self.value, self.out = nn.Linear(width, shared * size, bias=False), nn.Linear(width, width, bias=False)
        self.count, self.shared = count, shared

    def forward(self, x):
        q, k, v = heads(self.query(x), self.count), heads(self.key(x), self.shared), heads(self.value(x), self.shared)
        k, v = (dlc.repeat(part, self.count // self.shared, axis=1) for part in (rotated(k), v))
        return self.out(joined(dlc.attention(rotated(q), k, v, causal=True)))


class SwiGLU(nn.Module):
    """N. Shazeer, "GLU variants improve Transformer", 2020."""

    def __init__(self, width, hidden):
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(dlc.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """The best `chosen` of several networks for each word: N. Shazeer et al., 2017; A. Jiang et al., 2024.

    All of them are computed and those not chosen weigh nothing, which is exact and dense.
    """

    def __init__(self, width, hidden, count, chosen):
        self.route = nn.Linear(width, count, bias=False)
        self.experts = [SwiGLU(width, hidden) for _ in range(count)]
        self.chosen = chosen

    def forward(self, x):
        best, which = dlc.topk(self.route(x), self.chosen)
        weights = dlc.put_along_axis(dlc.zeros((*x.shape[:-1], len(self.experts))), which, dlc.softmax(best))
        return sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class LlamaBlock(nn.Module):
    def __init__(self, width, count, shared, mlp):
        self.attention, self.mlp = GroupedQueryAttention(width, count, shared), mlp
        self.norms = [nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)]

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class Llama(nn.Module):
    """H. Touvron et al., "LLaMA: open and efficient foundation language models", 2023, and what came of it."""

    def __init__(self, words, width, count, shared, layers, mlp):
        self.embed = nn.Embedding(words, width)
        self.blocks = nn.Sequential(*[LlamaBlock(width, count, shared, mlp()) for _ in range(layers)])
        self.norm, self.head = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, words, bias=False)

    def forward(self, words):
        return self.head(self.norm(self.blocks(self.embed(words))))


# ---------------------------------------------------------------- full size


@published("GPT-2", 124_439_808)
def _():
    return GPT2(), tokens()


@published("BERT-base", 109_482_240)
def _():
    return BERT(), tokens(), tokens("kinds"), dlc.input("valid", ("N", "T"), "bool")


@published("ViT-B/16", 86_567_656)
def _():
    return ViT(), images(224)


@published("Swin-T", 28_288_354)
def _():
    return Swin(), images(224)


@published("Llama 2 7B", 6_738_415_616)
def _():
    return Llama(32000, 4096, 32, 32, 32, lambda: SwiGLU(4096, 11008)), tokens()


@published("Llama 3 8B", 8_030_261_248)
def _():
    return Llama(128256, 4096, 32, 8, 32, lambda: SwiGLU(4096, 14336)), tokens()


@published("Mixtral 8x7B", 46_702_792_704)
def _():
    return Llama(32000, 4096, 32, 8, 32, lambda: Experts(4096, 14336, 8, 2)), tokens()


# ---------------------------------------------------------------- small ones


def next_word(model, words):
    return model, [words], cross_entropy(model(words)[:, :-1], words[:, 1:])


@small("Transformer", decreases=False)
def _():
    model, source, target = Transformer(3, 8, 2, 12, 1), tokens("source", 4), tokens("target", 3)
    return model, [source, target], cross_entropy(model(source, target)[:, :-1], target[:, 1:])


@small("GPT-2")
def _():
    return next_word(GPT2(3, 8, 8, 2, 2), tokens(length=5))


@small("BERT", decreases=False)
def _():
    model, words, kinds = BERT(3, 8, 8, 2, 2), tokens(length=4), tokens("kinds", 4)
    y, pooled = model(words, dlc.minimum(kinds, 1), dlc.arange(4) < 1 + words[:, :1])
    return model, [words, kinds], cross_entropy(y @ model.words.weight.T, words) + dlc.square(pooled).mean()


@small("ViT")
def _():
    return classified(ViT(8, 4, 8, 2, 2, 5), images(8))


@small("Swin")
def _():
    return classified(Swin(4, (2, 1), (2, 2), 2, 2, 5), images(8))


@small("Llama, with experts")
def _():
    return next_word(Llama(3, 8, 4, 2, 1, lambda: Experts(8, 6, 3, 2)), tokens(length=5))
