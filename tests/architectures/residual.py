"""Networks of many layers: ResNet, ResNeXt, Wide ResNet, DenseNet, highway networks, ConvNeXt."""

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import classified, images, labels
from tests.architectures.registry import published, small


def norm_conv(channels, kernel_size, stride=1, groups=1):
    """A convolution that keeps the size but for its stride, and batch normalisation."""
    padding = kernel_size // 2
    return [nn.Conv2d(None, channels, kernel_size, stride, padding, groups=groups, bias=False), nn.BatchNorm2d()]


# ---------------------------------------------------------------- ResNet and its kin


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); the shortcut is a projection where the shape changes."""

    def __init__(self, branch, shortcut=None):
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x):
        return nn.functional.relu(self.branch(x) + self.shortcut(x))


def basic(width, stride):
    return [*norm_conv(width, 3, stride), nn.ReLU(), *norm_conv(width, 3)]


def bottleneck(width, stride, groups=1, inner=1):
    middle = norm_conv(width * inner, 3, stride, groups)
    return [*norm_conv(width * inner, 1), nn.ReLU(), *middle, nn.ReLU(), *norm_conv(4 * width, 1)]


def resnet(blocks, block, expansion, classes=1000, width=64):
    """K. He et al., "Deep residual learning for image recognition", 2015. `block` gives a branch's layers."""
    layers = [*norm_conv(width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    for stage, repeats in enumerate(blocks):
        for i in range(repeats):
            out, stride = width << stage, 2 if stage and i == 0 else 1
            projected = i == 0 and (stage > 0 or expansion > 1)
            shortcut = nn.Sequential(*norm_conv(out * expansion, 1, stride)) if projected else None
            layers.append(Residual(nn.Sequential(*block(out, stride)), shortcut))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(classes))


def resnext_block(width, stride):
    """32 groups of 4 channels: S. Xie et al., "Aggregated residual transformations ...", 2016."""
    return bottleneck(width, stride, groups=32, inner=2)


def wide_block(width, stride):
    """S. Zagoruyko and N. Komodakis, "Wide residual networks", 2016."""
    return bottleneck(width, stride, inner=2)


# ---------------------------------------------------------------- DenseNet


class Dense(nn.Module):
    """Each layer reads all earlier ones: G. Huang et al., "Densely connected convolutional networks", 2016."""

    def __init__(self, layers, growth):
        def layer():
            narrow = [nn.BatchNorm2d(), nn.ReLU(), nn.Conv2d(None, 4 * growth, 1, bias=False)]
            wide = [nn.BatchNorm2d(), nn.ReLU(), nn.Conv2d(None, growth, 3, padding=1, bias=False)]
            return nn.Sequential(*narrow, *wide)

        self.layers = [layer() for _ in range(layers)]

    def forward(self, x):
        for layer in self.layers:
            x = dlc.concat([x, layer(x)], axis=1)
        return x


def densenet(blocks=(6, 12, 24, 16), growth=32, classes=1000):
    channels = 2 * growth
    layers = [*norm_conv(channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    for i, repeats in enumerate(blocks):
        if i:
            channels //= 2
            layers += [nn.BatchNorm2d(), nn.ReLU(), nn.Conv2d(None, channels, 1, bias=False), nn.AvgPool2d(2)]
        layers.append(Dense(repeats, growth))
        channels += repeats * growth
    head = [nn.BatchNorm2d(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(classes)]
    return nn.Sequential(*layers, *head)


# ---------------------------------------------------------------- highway networks


class Highway(nn.Module):
    """t h(x) + (1 - t) x: R. Srivastava, K. Greff and J. Schmidhuber, "Highway networks", 2015."""

    def __init__(self, width):
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.gate.bias.assign(np.full(width, -2.0, np.float32))  # at first most is carried

    def forward(self, x):
        t = dlc.sigmoid(self.gate(x))
        return t * nn.functional.relu(self.transform(x)) + (1 - t) * x


# ---------------------------------------------------------------- ConvNeXt


class ChannelNorm(nn.Module):
    """Layer normalisation of the channels of [N, C, H, W]."""

    def __init__(self):
        self.norm = nn.LayerNorm(eps=1e-6)

    def forward(self, x):
        return dlc.moveaxis(self.norm(dlc.moveaxis(x, 1, -1)), -1, 1)


class StochasticDepth(nn.Module):
    """Drops whole samples in training: G. Huang et al., "Deep networks with stochastic depth", 2016."""

    def __init__(self, p):
        self.p = p

    def forward(self, x):
        return x * dlc.dropout(dlc.ones((x.shape[0], 1, 1, 1)), self.p)


class ConvNeXtBlock(nn.Module):
    """Z. Liu et al., "A ConvNet for the 2020s", 2022: depthwise 7x7, then two linear layers on the channels."""

    def __init__(self, channels, drop=0.0):
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(4 * channels), nn.GELU(), nn.Linear(channels))
        self.scale = dlc.parameter(np.full(channels, 1e-6, np.float32))
        self.drop = StochasticDepth(drop)

    def forward(self, x):
        y = dlc.moveaxis(self.depthwise(x), 1, -1)
        y = self.scale * self.mlp(self.norm(y))
        return x + self.drop(dlc.moveaxis(y, -1, 1))


def convnext(blocks=(3, 3, 9, 3), widths=(96, 192, 384, 768), classes=1000, drop=0.1):
    layers = [nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm()]
    for i, (repeats, width) in enumerate(zip(blocks, widths)):
        if i:
            layers += [ChannelNorm(), nn.Conv2d(None, width, 2, stride=2)]
        layers += [ConvNeXtBlock(width, drop) for _ in range(repeats)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), ChannelNorm(), nn.Flatten(), nn.Linear(classes))


for _name, _count, *_how in (
    ("ResNet-18", 11_689_512, (2, 2, 2, 2), basic, 1),
    ("ResNet-34", 21_797_672, (3, 4, 6, 3), basic, 1),
    ("ResNet-50", 25_557_032, (3, 4, 6, 3), bottleneck, 4),
    ("ResNet-101", 44_549_160, (3, 4, 23, 3), bottleneck, 4),
    ("ResNet-152", 60_192_808, (3, 8, 36, 3), bottleneck, 4),
    ("ResNeXt-50 32x4d", 25_028_904, (3, 4, 6, 3), resnext_block, 4),
    ("Wide ResNet-50-2", 68_883_240, (3, 4, 6, 3), wide_block, 4),
):
    published(_name, _count)(lambda how=_how: (resnet(*how), images(224)))


@published("DenseNet-121", 7_978_856)
def _():
    return densenet(), images(224)


@published("ConvNeXt-T", 28_589_128)
def _():
    return convnext(), images(224)


@small("ResNet, basic blocks")
def _():
    return classified(resnet((1, 1), basic, 1, classes=5, width=4), images(16))


@small("ResNeXt, bottlenecks in groups")
def _():
    def block(width, stride):
        return bottleneck(width, stride, groups=4, inner=2)

    return classified(resnet((1, 1), block, 4, classes=5, width=4), images(16))


@small("DenseNet")
def _():
    return classified(densenet((2, 2), growth=4, classes=5), images(16))


@small("Highway network")
def _():
    model = nn.Sequential(nn.Linear(6), *[Highway(6) for _ in range(10)], nn.Linear(4))
    x, y = dlc.input("x", ("N", 8)), labels()
    return model, [x, y], nn.functional.cross_entropy(model(x), y)


@small("ConvNeXt", decreases=False)
def _():
    return classified(convnext((1, 1), (4, 6), classes=5, drop=0.2), images(16))
