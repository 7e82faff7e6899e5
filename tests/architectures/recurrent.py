"""Networks with a state: Elman, Jordan, seq2seq, taggers; and with a memory: NTM, pointer and memory networks, ACT."""

import numpy as np

import dlc
from dlc import nn
from tests.architectures.registry import small

cross_entropy = nn.functional.cross_entropy

# ---------------------------------------------------------------- simple recurrent networks


class Elman(nn.Module):
    """J. Elman, "Finding structure in time", 1990: the hidden units of the last step are inputs of this one."""

    def __init__(self, symbols, hidden):
        self.embed, self.rnn = nn.Embedding(symbols, 4), nn.RNN(4, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, tokens):
        y, _ = self.rnn(self.embed(tokens))
        return self.head(y)


class Jordan(nn.Module):
    """M. Jordan, "Serial order", 1986: the outputs of the last step are inputs of this one."""

    def __init__(self, inputs, hidden, outputs):
        self.read, self.back, self.write = nn.Linear(inputs, hidden), nn.Linear(outputs, hidden), nn.Linear(outputs)
        self.outputs = outputs

    def forward(self, x):
        """x [T, N, inputs] -> [T, N, outputs]."""

        def step(y, part):
            y = dlc.sigmoid(self.write(dlc.tanh(part + self.back(y))))
            return y, y

        _, ys = dlc.scan(step, dlc.zeros((x.shape[1], self.outputs)), self.read(x))
        return ys


class Tagger(nn.Module):
    """A bidirectional LSTM over sentences of different lengths: A. Graves and J. Schmidhuber, 2005."""

    def __init__(self, words, tags, hidden):
        self.embed = nn.Embedding(words, 5)
        self.lstm = nn.LSTM(5, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, words, lengths):
        """Words [N, T] and their number [N] -> logits [N, T, tags]."""
        y, _ = self.lstm(self.embed(words), lengths=lengths)
        return self.head(y)


class EchoState(nn.Module):
    """H. Jaeger, "The echo state approach ...", 2001: the recurrent weights stay as they were drawn."""

    def __init__(self, inputs, hidden, outputs):
        drawn = np.random.default_rng(0).standard_normal((hidden, hidden))
        self.reservoir = nn.Buffer((hidden, hidden), nn.initialisers.zeros)
        self.reservoir.assign((0.9 * drawn / np.abs(np.linalg.eigvals(drawn)).max()).astype(np.float32))
        self.read, self.write = nn.Buffer((inputs, hidden), nn.initialisers.uniform(-1, 1)), nn.Linear(hidden, outputs)
        self.hidden = hidden

    def forward(self, x):
        """x [T, N, inputs] -> [T, N, outputs]."""

        def step(h, part):
            h = dlc.tanh(part + h @ self.reservoir)
            return h, h

        return self.write(dlc.scan(step, dlc.zeros((x.shape[1], self.hidden)), x @ self.read)[1])


class ConvLSTM(nn.Module):
    """X. Shi et al., "Convolutional LSTM network: a machine learning approach for precipitation ...", 2015."""

    def __init__(self, inside, hidden, kernel_size=3):
        self.gates = nn.Conv2d(inside + hidden, 4 * hidden, kernel_size, padding=kernel_size // 2)
        self.hidden = hidden

    def forward(self, x):
        """Films [T, N, C, H, W] -> [T, N, hidden, H, W]."""
        _, n, _, height, width = x.shape

        def step(state, image):
            h, c = state
            i, f, g, o = dlc.chunk(self.gates(dlc.concat([image, h], axis=1)), 4, axis=1)
            c = dlc.sigmoid(f) * c + dlc.sigmoid(i) * dlc.tanh(g)
            h = dlc.sigmoid(o) * dlc.tanh(c)
            return (h, c), h

        start = dlc.zeros((n, self.hidden, height, width))
        return dlc.scan(step, (start, start), x)[1]


# ---------------------------------------------------------------- sequence to sequence


class AdditiveAttention(nn.Module):
    """D. Bahdanau, K. Cho and Y. Bengio, "Neural machine translation by jointly learning to align ...", 2014."""

    def __init__(self, width):
        self.query, self.key, self.score = nn.Linear(width), nn.Linear(width), nn.Linear(1, bias=False)

    def forward(self, state, keys, values, valid):
        """state [N, h], keys [N, S, width] (read by `key` beforehand), values [N, S, d], valid [N, S] -> [N, d]."""
        scores = self.score(dlc.tanh(self.query(state)[:, None] + keys))[..., 0]
        weights = dlc.softmax(dlc.where(valid, scores, -1e9))
        return (weights[..., None] * values).sum(axis=1)


class Translator(nn.Module):
    """A bidirectional GRU reads, a GRU that attends writes."""

    def __init__(self, source, target, width):
        self.read, self.written = nn.Embedding(source, width), nn.Embedding(target, width)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.start, self.attention = nn.Linear(width), AdditiveAttention(width)
        self.cell, self.head = nn.GRUCell(3 * width, width), nn.Linear(target)

    def forward(self, source, lengths, target):
        """Tokens [N, S], their number [N], and the target's tokens so far [N, T] -> logits [N, T, target]."""
        values, last = self.encoder(self.read(source), lengths=lengths)
        keys = self.attention.key(values)
        valid = dlc.arange(source.shape[1]) < lengths[:, None]

        def step(state, word):
            context = self.attention(state, keys, values, valid)
            state = self.cell(dlc.concat([word, context], axis=1), state)
            return state, state

        words = dlc.moveaxis(self.written(target), 1, 0)
        _, states = dlc.scan(step, dlc.tanh(self.start(last[1])), words)
        return self.head(dlc.moveaxis(states, 0, 1))


class Pointer(nn.Module):
    """Chooses among the inputs: O. Vinyals, M. Fortunato and N. Jaitly, "Pointer networks", 2015."""

    def __init__(self, features, width):
        self.encoder = nn.LSTM(features, width, batch_first=True)
        self.decoder = nn.LSTMCell(width, width)
        self.query, self.key, self.score = nn.Linear(width), nn.Linear(width), nn.Linear(1, bias=False)
        self.start = dlc.parameter(np.zeros(width, np.float32))

    def forward(self, x, chosen):
        """x [N, S, features] and the right choices [N, T] -> logits [N, T, S]; later choices see the right ones."""
        encoded, state = self.encoder(x)
        keys = self.key(encoded)
        n, _, width = encoded.shape
        earlier = dlc.broadcast_to(chosen[:, :-1, None], (n, chosen.shape[1] - 1, width))
        before = dlc.take_along_axis(encoded, earlier, axis=1)
        first = dlc.broadcast_to(self.start, (n, 1, width))

        def step(state, part):
            h, c = self.decoder(part, state)
            return (h, c), self.score(dlc.tanh(keys + self.query(h)[:, None]))[..., 0]

        _, scores = dlc.scan(step, state, dlc.moveaxis(dlc.concat([first, before], axis=1), 1, 0))
        return dlc.moveaxis(scores, 0, 1)


# ---------------------------------------------------------------- memories


class MemoryNetwork(nn.Module):
    """S. Sukhbaatar et al., "End-to-end memory networks", 2015, with adjacent weights shared."""

    def __init__(self, words, width, hops=3):
        self.embeddings = [nn.Embedding(words, width) for _ in range(hops + 1)]

    def forward(self, story, question):
        """Sentences [N, S, W] and a question [N, W] of words -> logits [N, words]."""
        u = self.embeddings[0](question).sum(axis=1)
        for key, value in zip(self.embeddings, self.embeddings[1:]):
            weights = dlc.softmax(dlc.einsum("nsd,nd->ns", key(story).sum(axis=2), u))
            u = u + dlc.einsum("ns,nsd->nd", weights, value(story).sum(axis=2))
        return u @ self.embeddings[-1].weight.T


def address(memory, key, strength, gate, shift, sharpness, before):
    """Where a head of a neural Turing machine looks: by content, mixed with where it looked, shifted, sharpened.

    memory [N, R, W], key [N, W], shift [N, 3] for -1, 0, +1, before [N, R], the others [N, 1] -> [N, R].
    """
    lengths = dlc.sqrt(dlc.square(memory).sum(axis=2) * dlc.square(key).sum(axis=1, keepdims=True) + 1e-8)
    content = dlc.softmax(strength * dlc.einsum("nrw,nw->nr", memory, key) / lengths)
    mixed = gate * content + (1 - gate) * before
    moved = sum(shift[:, i : i + 1] * dlc.roll(mixed, i - 1, axis=1) for i in range(3))
    sharp = dlc.pow(moved + 1e-8, sharpness)
    return sharp / sharp.sum(axis=1, keepdims=True)


class NeuralTuringMachine(nn.Module):
    """A. Graves, G. Wayne and I. Danihelka, "Neural Turing machines", 2014: one head reads, one writes."""

    def __init__(self, inputs, hidden, outputs, rows, width):
        self.controller, self.head = nn.LSTMCell(inputs + width, hidden), nn.Linear(outputs)
        self.parameters_of_heads = nn.Linear(2 * (width + 6) + 2 * width)
        self.memory = dlc.parameter((rows, width), initialiser=nn.initialisers.normal(0.1))
        self.hidden, self.rows, self.width = hidden, rows, width

    def forward(self, x):
        """x [T, N, inputs] -> [T, N, outputs]."""
        n = x.shape[1]

        def start(*shape):
            return dlc.zeros((n, *shape))

        def step(carry, part):
            h, c, memory, read, reading, writing = carry
            h, c = self.controller(dlc.concat([part, read], axis=1), (h, c))
            told = self.parameters_of_heads(h)
            heads, w = [], self.width
            for at, before in ((0, reading), (w + 6, writing)):
                key, strength, gate, shift, sharp = dlc.split(told[:, at : at + w + 6], [w, 1, 1, 3, 1], axis=1)
                how = dlc.softplus(strength), dlc.sigmoid(gate), dlc.softmax(shift), 1 + dlc.softplus(sharp)
                heads.append(address(memory, dlc.tanh(key), *how, before))
            reading, writing = heads
            erase, add = dlc.chunk(told[:, 2 * (w + 6) :], 2, axis=1)
            memory = memory * (1 - writing[..., None] * dlc.sigmoid(erase)[:, None])
            memory = memory + writing[..., None] * dlc.tanh(add)[:, None]
            read = dlc.einsum("nr,nrw->nw", reading, memory)
            return (h, c, memory, read, reading, writing), dlc.concat([h, read], axis=1)

        memory = dlc.broadcast_to(self.memory, (n, self.rows, self.width))
        looks = dlc.full((n, self.rows), 1.0 / self.rows)
        carry = (start(self.hidden), start(self.hidden), memory, start(self.width), looks, looks)
        return self.head(dlc.scan(step, carry, x)[1])


class AdaptiveComputation(nn.Module):
    """A. Graves, "Adaptive computation time for recurrent neural networks", 2016: a step thinks until it halts."""

    def __init__(self, inputs, hidden, outputs, most=6):
        self.cell, self.halt, self.head = nn.RNNCell(inputs + 1, hidden), nn.Linear(1), nn.Linear(outputs)
        self.most = most

    def forward(self, x, h):
        """x [N, inputs], h [N, hidden] -> (outputs [N, outputs], the cost of thinking, 0-d)."""
        n = x.shape[0]

        def thinks(spent, *_):
            return dlc.any(spent < 0.99)

        def think(spent, h, mean, cost, first):
            h = self.cell(dlc.concat([x, first], axis=1), h)
            p = dlc.sigmoid(self.halt(h))
            running = (spent < 0.99).astype("float32")
            p = running * dlc.where(spent + p >= 0.99, 1 - spent, p)  # the last share is what is left
            return spent + p, h, mean + p * h, cost + running, dlc.zeros((n, 1))

        start = dlc.zeros((n, 1))
        spent, _, mean, cost, _ = dlc.while_loop(
            thinks, think, start, h, dlc.zeros_like(h), start, dlc.ones((n, 1)), max_steps=self.most
        )
        return self.head(mean), (cost + 1 - spent).mean()


# ---------------------------------------------------------------- small ones


@small("Elman network")
def _():
    model, tokens, y = Elman(3, 5), dlc.input("tokens", ("N", "T"), "int64"), dlc.input("y", ("N", "T"), "int64")
    return model, [tokens, y], cross_entropy(model(tokens), y)


@small("Jordan network")
def _():
    model, x, y = Jordan(3, 4, 2), dlc.input("x", ("T", "N", 3)), dlc.input("y", ("T", "N", 2))
    return model, [x, y], dlc.square(model(x) - y).mean()


@small("Echo state network")
def _():
    model, x, y = EchoState(3, 6, 2), dlc.input("x", ("T", "N", 3)), dlc.input("y", ("T", "N", 2))
    return model, [x, y], dlc.square(model(x) - y).mean()


@small("Convolutional LSTM")
def _():
    model, x = ConvLSTM(2, 2), dlc.input("films", (3, "N", 2, 4, 4))
    return model, [x], dlc.square(model(x) - x).mean()


@small("Bidirectional LSTM tagger with lengths")
def _():
    words, lengths = dlc.input("words", ("N", 5), "int64"), dlc.input("lengths", ("N",), "int64")
    model, y = Tagger(3, 3, 4), dlc.input("tags", ("N", 5), "int64")
    kept = dlc.where(dlc.arange(5) < lengths[:, None], y, -100)
    return model, [words, lengths, y], cross_entropy(model(words, lengths), kept, ignore_index=-100)


@small("Seq2seq with Bahdanau's attention")
def _():
    source, lengths = dlc.input("source", ("N", 4), "int64"), dlc.input("lengths", ("N",), "int64")
    target, y = dlc.input("target", ("N", 3), "int64"), dlc.input("y", ("N", 3), "int64")
    model = Translator(3, 3, 4)
    logits = model(source, dlc.maximum(lengths, 1), target)
    return model, [source, lengths, target, y], cross_entropy(logits, y)


@small("Pointer network")
def _():
    model, x, chosen = Pointer(2, 4), dlc.input("x", ("N", 5, 2)), dlc.input("chosen", ("N", 3), "int64")
    return model, [x, chosen], cross_entropy(model(x, chosen), chosen)


@small("Memory network")
def _():
    story, question = dlc.input("story", ("N", 3, 4), "int64"), dlc.input("question", ("N", 4), "int64")
    model, y = MemoryNetwork(3, 4), dlc.input("y", ("N",), "int64")
    return model, [story, question, y], cross_entropy(model(story, question), y)


@small("Neural Turing machine")
def _():
    model, x, y = NeuralTuringMachine(3, 4, 2, 5, 3), dlc.input("x", (4, "N", 3)), dlc.input("y", (4, "N", 2))
    return model, [x, y], dlc.square(model(x) - y).mean()


@small("Adaptive computation time")
def _():
    model, x, h = AdaptiveComputation(3, 4, 2), dlc.input("x", ("N", 3)), dlc.input("h", ("N", 4))
    y, cost = model(x, h)
    return model, [x, h], dlc.square(y - 1).mean() + 0.01 * cost
