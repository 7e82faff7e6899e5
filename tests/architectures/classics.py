"""The first convolutional networks: LeNet-5, AlexNet, ZFNet and VGG."""

import numpy as np

import dlc
from dlc import nn
from tests.architectures.registry import published, small


class TrainableSubsampling(nn.Module):
    """LeNet-5's S layers: the sum of each 2x2 window, times a coefficient and plus a bias for each map."""

    def __init__(self, maps):
        self.coefficient = dlc.parameter(np.full((maps, 1, 1), 0.25, np.float32))
        self.bias = dlc.parameter(np.zeros((maps, 1, 1), np.float32))

    def forward(self, x):
        return dlc.avg_pool2d(x, 2) * 4.0 * self.coefficient + self.bias


class PartlyConnected(nn.Module):
    """A convolution whose output maps read some input maps each."""

    def __init__(self, table, kernel_size):
        self.table = table
        self.maps = [nn.Conv2d(len(sources), 1, kernel_size) for sources in table]

    def forward(self, x):
        return dlc.concat([conv(x[:, list(sources)]) for conv, sources in zip(self.maps, self.table)], axis=1)


def squash(x):
    return 1.7159 * dlc.tanh(x * (2.0 / 3.0))


class LeNet5(nn.Module):
    """Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, with the table of C3."""

    C3 = (
        *[tuple((i + j) % 6 for j in range(3)) for i in range(6)],  # three neighbours
        *[tuple((i + j) % 6 for j in range(4)) for i in range(6)],  # four neighbours
        (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),  # four, two by two
        tuple(range(6)),
    )  # fmt: skip

    def __init__(self, classes=10):
        self.c1, self.s2 = nn.Conv2d(1, 6, 5), TrainableSubsampling(6)
        self.c3, self.s4 = PartlyConnected(self.C3, 5), TrainableSubsampling(16)
        self.c5, self.f6 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        codes = np.random.default_rng(0).choice([-1.0, 1.0], (classes, 84))  # the paper draws 7x12 bitmaps of digits
        self.codes = dlc.constant(codes.astype(np.float32))

    def forward(self, x):
        """Images [N, 1, 32, 32] -> the distance of F6 from each class's code, [N, 10]: the nearest class wins."""
        x = squash(self.s2(self.c1(x)))
        x = squash(self.s4(self.c3(x)))
        x = squash(self.f6(nn.Flatten()(squash(self.c5(x)))))
        return dlc.square(x[:, None] - self.codes).sum(axis=-1)


def alexnet(classes=1000):
    """One tower: A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Dropout(), nn.Linear(4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096), nn.ReLU(), nn.Linear(classes),
    )  # fmt: skip


def alexnet_two_towers(classes=1000, width=1.0):
    """Two GPUs, as groups: A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet classification ...", 2012."""
    a, b, c, hidden = (int(width * n) for n in (96, 256, 384, 4096))
    return nn.Sequential(
        nn.Conv2d(3, a, 11, stride=4), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2, groups=2), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, c, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(c, b, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden), nn.ReLU(), nn.Dropout(), nn.Linear(classes),
    )  # fmt: skip


def zfnet(classes=1000):
    """M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", 2013."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.LocalResponseNorm(5),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096), nn.ReLU(), nn.Dropout(), nn.Linear(classes),
    )  # fmt: skip


VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(depth, classes=1000, widths=(64, 128, 256, 512, 512), hidden=4096):
    """K. Simonyan and A. Zisserman, "Very deep convolutional networks ...", 2014."""
    layers = []
    for repeats, width in zip(VGG[depth], widths):
        for _ in range(repeats):
            layers += [nn.Conv2d(None, width, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, *head, nn.Linear(classes))


def images(size, channels=3, batch="N"):
    return dlc.input("images", (batch, channels, size, size))


def labels():
    return dlc.input("labels", ("N",), "int64")


def classified(model, x):
    """(model, inputs, loss) of a classifier of images."""
    y = labels()
    return model, [x, y], nn.functional.cross_entropy(model(x), y)


@published("LeNet-5, with the table of C3", 60_000)
def _():
    return LeNet5(), images(32, 1)


@published("AlexNet, one tower", 61_100_840)
def _():
    return alexnet(), images(224)


@published("AlexNet, two towers", 60_965_224)
def _():
    return alexnet_two_towers(), images(227)


@published("ZFNet", 62_357_608)
def _():
    return zfnet(), images(224)


for _depth, _count in ((11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)):
    published(f"VGG-{_depth}", _count)(lambda depth=_depth: (vgg(depth), images(224)))


@small("LeNet-5")
def _():
    model, x, y = LeNet5(), images(32, 1), labels()
    distances = model(x)
    return model, [x, y], dlc.take_along_axis(distances, y[:, None]).mean() / 84.0


@small("AlexNet, two towers", decreases=False)
def _():
    return classified(alexnet_two_towers(10, width=1 / 24), images(67))


@small("VGG-11", decreases=False)
def _():
    return classified(vgg(11, 10, (2, 3, 4, 4, 4), 8), images(32))
