"""Modules of parallel branches: GoogLeNet and Inception-v3."""

import dlc
from dlc import nn
from tests.architectures.classics import classified, images, labels
from tests.architectures.registry import published, small


class Unit(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, channels, kernel_size=1, stride=1, padding=0):
        convolution = nn.Conv2d(None, channels, kernel_size, stride, padding, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(eps=1e-3), nn.ReLU())


class Branches(nn.Module):
    """The branches' outputs, joined along the channels."""

    def __init__(self, *branches):
        self.branches = branches

    def forward(self, x):
        return dlc.concat([branch(x) for branch in self.branches], axis=1)


class Classifier(nn.Sequential):
    """Global average pooling, dropout and a linear layer."""

    def __init__(self, classes, dropout):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(classes))


# ---------------------------------------------------------------- GoogLeNet


def inception(one, three_in, three, five_in, five, pooled):
    """Figure 2b. As in the weights that went round, the branch of 5x5 has a kernel of 3x3."""
    return Branches(
        Unit(one),
        nn.Sequential(Unit(three_in), Unit(three, 3, padding=1)),
        nn.Sequential(Unit(five_in), Unit(five, 3, padding=1)),
        nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Unit(pooled)),
    )


def auxiliary(classes):
    """A classifier in the middle, which brings gradients to the lower layers."""
    pooled = (nn.AdaptiveAvgPool2d(4), Unit(128), nn.Flatten())
    return nn.Sequential(*pooled, nn.Linear(1024), nn.ReLU(), nn.Dropout(0.7), nn.Linear(classes))


class GoogLeNet(nn.Module):
    """C. Szegedy et al., "Going deeper with convolutions", 2014, with batch normalisation."""

    def __init__(self, classes=1000, auxiliaries=True):
        self.stem = nn.Sequential(
            Unit(64, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, ceil_mode=True),
            Unit(64), Unit(192, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True),
            inception(64, 96, 128, 16, 32, 32), inception(128, 128, 192, 32, 96, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True), inception(192, 96, 208, 16, 48, 64),
        )  # fmt: skip
        self.middle = nn.Sequential(
            inception(160, 112, 224, 24, 64, 64), inception(128, 128, 256, 24, 64, 64),
            inception(112, 144, 288, 32, 64, 64),
        )  # fmt: skip
        self.top = nn.Sequential(
            inception(256, 160, 320, 32, 128, 128), nn.MaxPool2d(2, 2, ceil_mode=True),
            inception(256, 160, 320, 32, 128, 128), inception(384, 192, 384, 48, 128, 128),
            Classifier(classes, 0.2),
        )  # fmt: skip
        self.auxiliaries = [auxiliary(classes), auxiliary(classes)] if auxiliaries else []

    def forward(self, x):
        """Images [N, 3, H, W] -> logits [N, classes], and those of each auxiliary classifier."""
        low = self.stem(x)
        middle = self.middle(low)
        return self.top(middle), *(head(y) for head, y in zip(self.auxiliaries, (low, middle)))


# ---------------------------------------------------------------- Inception-v3


def pooled(channels):
    return nn.Sequential(nn.AvgPool2d(3, 1, padding=1), Unit(channels))


def sevens(*channels):
    """A 1x1 convolution, then 7x1 and 1x7 by turns."""
    kernels = [((7, 1), (3, 0)), ((1, 7), (0, 3))]
    order = kernels[::-1] if len(channels) == 3 else kernels
    return [Unit(channels[0]), *(Unit(c, *order[i % 2][:1], 1, order[i % 2][1]) for i, c in enumerate(channels[1:]))]


def inception_a(pool):
    return Branches(
        Unit(64),
        nn.Sequential(Unit(48), Unit(64, 5, padding=2)),
        nn.Sequential(Unit(64), Unit(96, 3, padding=1), Unit(96, 3, padding=1)),
        pooled(pool),
    )


def inception_b():
    return Branches(
        Unit(384, 3, stride=2),
        nn.Sequential(Unit(64), Unit(96, 3, padding=1), Unit(96, 3, stride=2)),
        nn.MaxPool2d(3, 2),
    )


def inception_c(c):
    return Branches(
        Unit(192), nn.Sequential(*sevens(c, c, 192)), nn.Sequential(*sevens(c, c, c, c, 192)), pooled(192)
    )


def inception_d():
    return Branches(
        nn.Sequential(Unit(192), Unit(320, 3, stride=2)),
        nn.Sequential(*sevens(192, 192, 192), Unit(192, 3, stride=2)),
        nn.MaxPool2d(3, 2),
    )


def inception_e():
    def fork():
        return Branches(Unit(384, (1, 3), padding=(0, 1)), Unit(384, (3, 1), padding=(1, 0)))

    return Branches(
        Unit(320),
        nn.Sequential(Unit(384), fork()),
        nn.Sequential(Unit(448), Unit(384, 3, padding=1), fork()),
        pooled(192),
    )


class InceptionV3(nn.Module):
    """C. Szegedy et al., "Rethinking the Inception architecture for computer vision", 2015."""

    def __init__(self, classes=1000):
        self.body = nn.Sequential(
            Unit(32, 3, stride=2), Unit(32, 3), Unit(64, 3, padding=1), nn.MaxPool2d(3, 2),
            Unit(80), Unit(192, 3), nn.MaxPool2d(3, 2),
            inception_a(32), inception_a(64), inception_a(64), inception_b(),
            inception_c(128), inception_c(160), inception_c(160), inception_c(192),
        )  # fmt: skip
        self.head = nn.Sequential(inception_d(), inception_e(), inception_e(), Classifier(classes, 0.5))
        self.auxiliary = nn.Sequential(
            nn.AvgPool2d(5, 3), Unit(128), Unit(768, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(classes)
        )

    def forward(self, x):
        """Images [N, 3, 299, 299] -> logits, and those of the auxiliary classifier."""
        y = self.body(x)
        return self.head(y), self.auxiliary(y)


@published("GoogLeNet", 6_624_904)
def _():
    return GoogLeNet(auxiliaries=False), images(224)


@published("GoogLeNet, with auxiliary classifiers", 13_004_888)
def _():
    return GoogLeNet(), images(224)


@published("Inception-v3, with its auxiliary classifier", 27_161_264)
def _():
    return InceptionV3(), images(299)


@small("Inception module and auxiliary classifier", decreases=False)
def _():
    low = nn.Sequential(Unit(4, 3, padding=1), inception(2, 2, 3, 2, 3, 2))
    head = Classifier(5, 0.0)
    aux = nn.Sequential(nn.AdaptiveAvgPool2d(2), Unit(3), nn.Flatten(), nn.Linear(5))
    model = nn.Sequential(low, nn.Sequential(head, aux))
    x, y = images(8), labels()
    features = low(x)
    cross_entropy = nn.functional.cross_entropy
    return model, [x, y], cross_entropy(head(features), y) + 0.3 * cross_entropy(aux(features), y)


@small("Inception-v3 modules C and E")
def _():
    fork = Branches(Unit(2, (1, 3), padding=(0, 1)), Unit(2, (3, 1), padding=(1, 0)))
    c = Branches(Unit(2), nn.Sequential(*sevens(2, 2, 3)), nn.Sequential(*sevens(2, 2, 2, 2, 3)), pooled(2))
    return classified(nn.Sequential(c, fork, Classifier(4, 0.0)), images(7))
