"""Graphs, sets and pairs: GCN, GAT, message passing, DeepSets, Siamese networks."""

import dlc
from dlc import nn
from tests.architectures.registry import small

# ---------------------------------------------------------------- graphs, as lists of edges


def segment_sum(values, segments, count):
    """Sums of the rows [E, ...] of `values` that belong to each of `count` segments [E]."""
    return dlc.index_add(dlc.zeros((count, *values.shape[1:])), segments, values)


def segment_softmax(scores, segments, count):
    """exp(scores) [E, ...] over its sum in the segment, with the segment's largest taken off before."""
    lowest = dlc.full((count, *scores.shape[1:]), -1e30)
    largest = dlc.scatter_nd(lowest, segments[:, None], scores, reduction="max")
    shares = dlc.exp(scores - dlc.stop_gradient(dlc.take(largest, segments)))
    return shares / dlc.take(segment_sum(shares, segments, count), segments)


class GraphConvolution(nn.Module):
    """T. Kipf and M. Welling, "Semi-supervised classification with graph convolutional networks", 2016."""

    def __init__(self, features):
        self.linear = nn.Linear(features)

    def forward(self, x, sources, targets):
        """Nodes [V, in] and edges [E] -> [V, features]; a node is its own neighbour too."""
        count = x.shape[0]
        degrees = segment_sum(dlc.ones((targets.shape[0],)), targets, count) + 1.0
        scaled = self.linear(x) * dlc.rsqrt(degrees)[:, None]
        return (segment_sum(dlc.take(scaled, sources), targets, count) + scaled) * dlc.rsqrt(degrees)[:, None]


class GraphAttention(nn.Module):
    """P. Veličković et al., "Graph attention networks", 2017."""

    def __init__(self, features, heads):
        self.linear = nn.Linear(features * heads, bias=False)
        self.source, self.target = (dlc.parameter((heads, features)) for _ in range(2))
        self.heads, self.features = heads, features

    def forward(self, x, sources, targets):
        """Nodes [V, in] and edges [E] -> [V, heads * features]."""
        count = x.shape[0]
        y = self.linear(x).reshape((count, self.heads, self.features))
        a, b = (y * self.source).sum(axis=-1), (y * self.target).sum(axis=-1)
        scores = dlc.leaky_relu(dlc.take(a, sources) + dlc.take(b, targets), 0.2)  # [E, heads]
        weights = segment_softmax(scores, targets, count)
        found = segment_sum(weights[..., None] * dlc.take(y, sources), targets, count)
        return found.reshape((count, self.heads * self.features))


class MessagePassing(nn.Module):
    """J. Gilmer et al., "Neural message passing for quantum chemistry", 2017: messages, a GRU, and a set's sum."""

    def __init__(self, width, rounds=2):
        self.message = nn.Sequential(nn.Linear(width), nn.Tanh(), nn.Linear(width))
        self.update, self.read, self.rounds = nn.GRUCell(width, width), nn.Linear(1), rounds

    def forward(self, x, sources, targets):
        for _ in range(self.rounds):
            pairs = dlc.concat([dlc.take(x, sources), dlc.take(x, targets)], axis=1)
            x = self.update(segment_sum(self.message(pairs), targets, x.shape[0]), x)
        return self.read(x).sum()


# ---------------------------------------------------------------- sets and pairs


class DeepSets(nn.Module):
    """M. Zaheer et al., "Deep sets", 2017: a function of a sum."""

    def __init__(self, hidden, outputs):
        self.each = nn.Sequential(nn.Linear(hidden), nn.Tanh(), nn.Linear(hidden))
        self.all = nn.Sequential(nn.Linear(hidden), nn.Tanh(), nn.Linear(outputs))

    def forward(self, x):
        """x [N, M, features] -> [N, outputs], whatever the order of the M."""
        return self.all(self.each(x).sum(axis=1))


def info_nce(a, b, temperature=0.1):
    """Which of the b's belongs to each a: A. van den Oord et al., 2018; both ways, as in CLIP."""
    a, b = (x / dlc.vector_norm(x, axis=1, keepdims=True) for x in (a, b))
    logits = a @ b.T / temperature
    right = dlc.arange(a.shape[0])
    cross_entropy = nn.functional.cross_entropy
    return 0.5 * (cross_entropy(logits, right) + cross_entropy(logits.T, right))


def nodes_and_edges():
    return dlc.input("x", (4, 3)), dlc.input("sources", ("E",), "int64"), dlc.input("targets", ("E",), "int64")


@small("Graph convolutional network", bindings={"E": 6})
def _():
    x, sources, targets = nodes_and_edges()
    layers = [GraphConvolution(5), GraphConvolution(2)]
    y = layers[1](dlc.tanh(layers[0](x, sources, targets)), sources, targets)
    return nn.Sequential(*layers), [x, sources, targets], dlc.square(y - 1).mean()


@small("Graph attention network", bindings={"E": 6})
def _():
    x, sources, targets = nodes_and_edges()
    model = GraphAttention(3, 2)
    return model, [x, sources, targets], dlc.square(model(x, sources, targets) - 1).mean()


@small("Message passing network", bindings={"E": 6})
def _():
    x, sources, targets = nodes_and_edges()
    model = MessagePassing(3)
    return model, [x, sources, targets], dlc.square(model(x, sources, targets) - 1)


@small("Deep sets")
def _():
    model, x, y = DeepSets(4, 3), dlc.input("x", ("N", 5, 2)), dlc.input("y", ("N",), "int64")
    return model, [x, y], nn.functional.cross_entropy(model(x), y)


@small("Siamese networks: contrastive, triplet and CLIP's losses")
def _():
    model = nn.Sequential(nn.Linear(5), nn.Tanh(), nn.Linear(3))
    a, b, c = (dlc.input(name, ("N", 4)) for name in ("anchor", "positive", "negative"))
    x, y, z = model(a), model(b), model(c)
    alike = dlc.astype(dlc.arange(x.shape[0]) % 2, "float32")
    loss = nn.functional.contrastive_loss(x, y, alike) + nn.functional.triplet_margin_loss(x, y, z)
    return model, [a, b, c], loss + info_nce(x, y)
