"""Networks over sounds, letters and words: WaveNet, TCN, Deep Speech 2, char-CNN, word2vec, fastText."""

import dlc
from dlc import nn
from tests.architectures.registry import small
from tests.architectures.residual import Highway

cross_entropy = nn.functional.cross_entropy

# ---------------------------------------------------------------- causal convolutions


class CausalConv1d(nn.Module):
    """A convolution that reads no later sample."""

    def __init__(self, inside, outside, kernel_size=2, dilation=1):
        self.conv = nn.Conv1d(inside, outside, kernel_size, dilation=dilation)
        self.before = (kernel_size - 1) * dilation

    def forward(self, x):
        return self.conv(dlc.pad(x, [(0, 0), (0, 0), (self.before, 0)]))


class WaveNet(nn.Module):
    """A. van den Oord et al., "WaveNet: a generative model for raw audio", 2016."""

    def __init__(self, levels=256, width=32, skipped=512, layers=10):
        self.embed = nn.Embedding(levels, width)
        self.gates = [CausalConv1d(width, 2 * width, dilation=1 << i) for i in range(layers)]
        self.out = [nn.Conv1d(width, width, 1) for _ in range(layers)]
        self.skip = [nn.Conv1d(width, skipped, 1) for _ in range(layers)]
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(skipped, skipped, 1), nn.ReLU(), nn.Conv1d(skipped, levels, 1))

    def forward(self, samples):
        """Quantised samples [N, T] -> logits of the next ones [N, levels, T]."""
        x = dlc.moveaxis(self.embed(samples), -1, 1)
        total = 0.0
        for gates, out, skip in zip(self.gates, self.out, self.skip):
            a, b = dlc.chunk(gates(x), 2, axis=1)
            y = dlc.tanh(a) * dlc.sigmoid(b)
            total = total + skip(y)
            x = x + out(y)
        return self.head(total)


class WeightNorm(nn.Module):
    """A causal convolution whose kernels are a direction and a length each: T. Salimans and D. Kingma, 2016."""

    def __init__(self, inside, outside, kernel_size, dilation):
        self.direction = dlc.parameter((outside, inside, kernel_size), initialiser=nn.initialisers.he_normal)
        self.length = dlc.parameter((outside, 1, 1), initialiser=nn.initialisers.ones)
        self.bias = dlc.parameter((outside, 1), initialiser=nn.initialisers.zeros)
        self.before, self.dilation = (kernel_size - 1) * dilation, dilation

    def forward(self, x):
        weight = self.length * self.direction / dlc.vector_norm(self.direction, axis=(1, 2), keepdims=True)
        return dlc.conv1d(dlc.pad(x, [(0, 0), (0, 0), (self.before, 0)]), weight, dilation=self.dilation) + self.bias


class TemporalBlock(nn.Module):
    """S. Bai, J. Kolter and V. Koltun, "An empirical evaluation of generic convolutional ... networks", 2018."""

    def __init__(self, inside, outside, dilation, kernel_size=3, dropout=0.2):
        def half(width):
            return [WeightNorm(width, outside, kernel_size, dilation), nn.ReLU(), nn.Dropout(dropout)]

        self.branch = nn.Sequential(*half(inside), *half(outside))
        self.shortcut = nn.Identity() if inside == outside else nn.Conv1d(inside, outside, 1)

    def forward(self, x):
        return dlc.relu(self.branch(x) + self.shortcut(x))


# ---------------------------------------------------------------- speech


class DeepSpeech2(nn.Module):
    """D. Amodei et al., "Deep Speech 2: end-to-end speech recognition in English and Mandarin", 2015."""

    def __init__(self, bands=161, letters=29, channels=32, hidden=800, layers=5):
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, (41, 11), (2, 2), (20, 5)), nn.BatchNorm2d(), nn.Hardtanh(0.0, 20.0),
            nn.Conv2d(channels, channels, (21, 11), (2, 1), (10, 5)), nn.BatchNorm2d(), nn.Hardtanh(0.0, 20.0),
        )  # fmt: skip
        self.rnn = nn.GRU(None, hidden, layers, bidirectional=True)
        self.head = nn.Linear(letters)

    def forward(self, spectrum):
        """Spectra [N, bands, T] -> log-probabilities of letters [T / 2, N, letters]."""
        y = self.convolutions(spectrum[:, None])
        n, channels, bands, t = y.shape
        y, _ = self.rnn(dlc.permute_dims(y, (3, 0, 1, 2)).reshape((t, n, channels * bands)))
        return dlc.log_softmax(self.head(y))


# ---------------------------------------------------------------- letters and words


class CharacterModel(nn.Module):
    """Words from their letters: Y. Kim et al., "Character-aware neural language models", 2016."""

    def __init__(self, letters, words, filters=((1, 4), (2, 4), (3, 6)), hidden=8):
        self.embed = nn.Embedding(letters, 5)
        self.filters = [nn.Conv1d(5, count, length) for length, count in filters]
        self.highway = Highway(sum(count for _, count in filters))
        self.lstm, self.head = nn.LSTM(None, hidden, batch_first=True), nn.Linear(words)

    def forward(self, letters):
        """Letters [N, T, L] of words -> logits of the next words [N, T, words]."""
        n, t, length = letters.shape
        x = dlc.moveaxis(self.embed(letters.reshape((n * t, length))), -1, 1)
        x = dlc.concat([dlc.tanh(conv(x)).max(axis=-1) for conv in self.filters], axis=1)
        y, _ = self.lstm(self.highway(x).reshape((n, t, x.shape[1])))
        return self.head(y)


class Word2Vec(nn.Module):
    """Skip-grams with negative samples: T. Mikolov et al., "Distributed representations of words ...", 2013."""

    def __init__(self, words, width, negatives=5):
        self.inside, self.outside = nn.Embedding(words, width), nn.Embedding(words, width)
        self.words, self.negatives = words, negatives

    def forward(self, centre, context):
        """Words [N] and their neighbours [N] -> the loss; other words are drawn on every step."""
        v = self.inside(centre)
        near = (v * self.outside(context)).sum(axis=-1)
        drawn = dlc.randint((centre.shape[0], self.negatives), 0, self.words)
        far = dlc.einsum("nd,nkd->nk", v, self.outside(drawn))
        return -(dlc.log_sigmoid(near) + dlc.log_sigmoid(-far).sum(axis=1)).mean()


class FastText(nn.Module):
    """The mean of words and hashed pairs of words: A. Joulin et al., "Bag of tricks ...", 2016."""

    def __init__(self, words, buckets, width, classes):
        self.words, self.pairs = nn.Embedding(words, width), nn.Embedding(buckets, width)
        self.buckets, self.head = buckets, nn.Linear(classes)

    def forward(self, words):
        """Words [N, T] -> logits [N, classes]."""
        hashed = (words[:, :-1] * 116049371 + words[:, 1:]) % self.buckets
        total = self.words(words).sum(axis=1) + self.pairs(hashed).sum(axis=1)
        return self.head(total / float(2 * words.shape[1] - 1))


# ---------------------------------------------------------------- small ones


@small("WaveNet")
def _():
    model, samples = WaveNet(5, 4, 6, 4), dlc.input("samples", ("N", 12), "int64")
    return model, [samples], cross_entropy(model(samples)[..., :-1], samples[:, 1:], axis=1)


@small("Temporal convolutional network, with weight norm", decreases=False)
def _():
    model = nn.Sequential(TemporalBlock(2, 4, 1), TemporalBlock(4, 4, 2), nn.Conv1d(4, 1, 1))
    x, y = dlc.input("x", ("N", 2, 9)), dlc.input("y", ("N", 1, 9))
    return model, [x, y], dlc.square(model(x) - y).mean()


@small("Deep Speech 2, with CTC")
def _():
    model, x = DeepSpeech2(8, 4, 2, 3, 1), dlc.input("spectra", (2, 8, 10))
    letters = dlc.input("letters", (2, 2), "int64")
    return model, [x, letters], nn.functional.ctc_loss(model(x), letters + 1, [5, 4], [2, 1])


@small("Character-aware language model")
def _():
    model, letters = CharacterModel(3, 4), dlc.input("letters", ("N", 3, 5), "int64")
    y = dlc.input("y", ("N", 3), "int64")
    return model, [letters, y], cross_entropy(model(letters), y)


@small("word2vec, skip-grams with negative samples", decreases=False)
def _():
    model, centre, context = Word2Vec(6, 4), dlc.input("centre", ("N",), "int64"), dlc.input("context", ("N",), "int64")
    return model, [centre, context], model(centre, context)


@small("fastText")
def _():
    model, words, y = FastText(3, 7, 4, 3), dlc.input("words", ("N", 5), "int64"), dlc.input("y", ("N",), "int64")
    return model, [words, y], cross_entropy(model(words), y)
