"""Networks for small machines: SqueezeNet, Xception, MobileNet v1 to v3, ShuffleNet v2, EfficientNet."""

import dlc
from dlc import nn
from tests.architectures.classics import classified, images
from tests.architectures.inception import Branches
from tests.architectures.registry import published, small


class Unit(nn.Sequential):
    """Convolution, batch normalisation and an activation; `groups` of one channel each where it is depthwise."""

    def __init__(self, inside, outside, kernel_size=1, stride=1, activation=nn.ReLU, depthwise=False):
        how = (kernel_size, stride, (kernel_size - 1) // 2)
        convolution = nn.Conv2d(inside, outside, *how, groups=inside if depthwise else 1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outside), activation())


def head(classes, *before):
    return [*before, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(classes)]


# ---------------------------------------------------------------- SqueezeNet


def fire(squeezed, expanded):
    wide = [nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)]
    return nn.Sequential(nn.Conv2d(None, squeezed, 1), nn.ReLU(), Branches(*wide), nn.ReLU())


def squeezenet(classes=1000):
    """F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters ...", 2016."""
    pool = (3, 2, 0, 1, False, True)  # windows that reach over the edge count
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), nn.MaxPool2d(*pool),
        fire(16, 64), fire(16, 64), fire(32, 128), nn.MaxPool2d(*pool),
        fire(32, 128), fire(48, 192), fire(48, 192), fire(64, 256), nn.MaxPool2d(*pool),
        fire(64, 256), nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


# ---------------------------------------------------------------- Xception


def separable(inside, outside):
    """A convolution for each channel, then one across the channels."""
    each = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
    return [each, nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside)]


class XceptionBlock(nn.Module):
    """Separable convolutions, added to the input or its projection."""

    def __init__(self, inside, widths, stride=2, first=True):
        layers = []
        for a, b in zip((inside, *widths), widths):
            layers += [nn.ReLU(), *separable(a, b)]
        pool = [nn.MaxPool2d(3, stride, padding=1)] if stride > 1 else []
        self.branch = nn.Sequential(*layers[0 if first else 1 :], *pool)
        projected = nn.Conv2d(inside, widths[-1], 1, stride, bias=False), nn.BatchNorm2d()
        self.shortcut = nn.Sequential(*projected) if stride > 1 else nn.Identity()

    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


def xception(middle=8, w=(32, 64, 128, 256, 728, 1024, 1536, 2048), classes=1000):
    """F. Chollet, "Xception: deep learning with depthwise separable convolutions", 2016."""
    a, b, c, d, e, f, g, h = w
    return nn.Sequential(
        Unit(3, a, 3, 2), Unit(a, b, 3), XceptionBlock(b, (c, c), first=False),
        XceptionBlock(c, (d, d)), XceptionBlock(d, (e, e)), *[XceptionBlock(e, (e, e, e), 1) for _ in range(middle)],
        XceptionBlock(e, (e, f)), *separable(f, g), nn.ReLU(), *separable(g, h), nn.ReLU(), *head(classes),
    )  # fmt: skip


# ---------------------------------------------------------------- MobileNet


def mobilenet_v1(classes=1000):
    """A. Howard et al., "MobileNets: efficient convolutional neural networks ...", 2017."""
    widths = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    widths += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]
    layers = [Unit(3, 32, 3, stride=2)]
    for inside, outside, stride in widths:
        layers += [Unit(inside, inside, 3, stride, depthwise=True), Unit(inside, outside)]
    return nn.Sequential(*layers, *head(classes))


class Excitation(nn.Module):
    """Scales each channel: J. Hu, L. Shen and G. Sun, "Squeeze-and-excitation networks", 2017."""

    def __init__(self, channels, squeezed, activation=nn.ReLU, gate=nn.Hardsigmoid):
        narrow, wide = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), narrow, activation(), wide, gate())

    def forward(self, x):
        return x * self.scale(x)


class InvertedResidual(nn.Module):
    """Wide inside: M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018."""

    def __init__(self, inside, wide, outside, kernel_size=3, stride=1, activation=nn.ReLU6, excitation=None):
        layers = [] if wide == inside else [Unit(inside, wide, activation=activation)]
        layers.append(Unit(wide, wide, kernel_size, stride, activation, depthwise=True))
        layers += [] if excitation is None else [excitation]
        self.layers = nn.Sequential(*layers, Unit(wide, outside, activation=nn.Identity))
        self.kept = stride == 1 and inside == outside

    def forward(self, x):
        return x + self.layers(x) if self.kept else self.layers(x)


def mobilenet_v2(classes=1000):
    layers, inside = [Unit(3, 32, 3, 2, nn.ReLU6)], 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outside, repeats, stride in stages:
        for i in range(repeats):
            layers.append(InvertedResidual(inside, expansion * inside, outside, stride=stride if i == 0 else 1))
            inside = outside
    return nn.Sequential(*layers, *head(classes, Unit(320, 1280, activation=nn.ReLU6), nn.Dropout(0.2)))


def eighths(n):
    """The multiple of 8 next to n, but at least nine tenths of it."""
    rounded = max(8, (int(n) + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * n else rounded


MOBILENET_V3_LARGE = [  # kernel, wide, outside, excitation, activation, stride
    (3, 16, 16, False, nn.ReLU, 1), (3, 64, 24, False, nn.ReLU, 2), (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2), (5, 120, 40, True, nn.ReLU, 1), (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2), (3, 200, 80, False, nn.Hardswish, 1), (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1), (3, 480, 112, True, nn.Hardswish, 1), (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2), (5, 960, 160, True, nn.Hardswish, 1), (5, 960, 160, True, nn.Hardswish, 1),
]  # fmt: skip


def mobilenet_v3(table=MOBILENET_V3_LARGE, last=960, hidden=1280, classes=1000):
    """A. Howard et al., "Searching for MobileNetV3", 2019."""
    layers, inside = [Unit(3, 16, 3, 2, nn.Hardswish)], 16
    for kernel_size, wide, outside, excited, activation, stride in table:
        excitation = Excitation(wide, eighths(wide / 4)) if excited else None
        layers.append(InvertedResidual(inside, wide, outside, kernel_size, stride, activation, excitation))
        inside = outside
    pooled = [Unit(inside, last, activation=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pooled, nn.Linear(hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(classes))


# ---------------------------------------------------------------- ShuffleNet v2


class ShuffleUnit(nn.Module):
    """N. Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design", 2018."""

    def __init__(self, inside, outside, stride):
        half = outside // 2
        within = half if stride == 1 else inside
        self.stride = stride
        self.left = nn.Sequential(
            Unit(within, within, 3, stride, nn.Identity, depthwise=True), Unit(within, half)
        ) if stride > 1 else nn.Identity()  # fmt: skip
        self.right = nn.Sequential(
            Unit(within, half), Unit(half, half, 3, stride, nn.Identity, depthwise=True), Unit(half, half)
        )

    def forward(self, x):
        left, right = dlc.chunk(x, 2, axis=1) if self.stride == 1 else (x, x)
        joined = dlc.stack([self.left(left), self.right(right)], axis=2)  # [N, C/2, 2, H, W]: the shuffle
        n, half, two, h, w = joined.shape
        return joined.reshape((n, two * half, h, w))


def shufflenet_v2(widths=(24, 116, 232, 464, 1024), repeats=(4, 8, 4), classes=1000):
    layers = [Unit(3, widths[0], 3, 2), nn.MaxPool2d(3, 2, padding=1)]
    for inside, outside, count in zip(widths, widths[1:], repeats):
        layers.append(ShuffleUnit(inside, outside, 2))
        layers += [ShuffleUnit(outside, outside, 1) for _ in range(count - 1)]
    return nn.Sequential(*layers, *head(classes, Unit(widths[-2], widths[-1])))


# ---------------------------------------------------------------- EfficientNet


def efficientnet_b0(classes=1000):
    """M. Tan and Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019."""
    stages = [  # expansion, kernel, stride, outside, repeats
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    ]  # fmt: skip
    layers, inside = [Unit(3, 32, 3, 2, nn.SiLU)], 32
    for expansion, kernel_size, stride, outside, repeats in stages:
        for i in range(repeats):
            wide = expansion * inside
            excitation = Excitation(wide, inside // 4, nn.SiLU, nn.Sigmoid)
            how = (kernel_size, stride if i == 0 else 1, nn.SiLU, excitation)
            layers.append(InvertedResidual(inside, wide, outside, *how))
            inside = outside
    return nn.Sequential(*layers, *head(classes, Unit(320, 1280, activation=nn.SiLU), nn.Dropout(0.2)))


for _name, _count, _build in (
    ("SqueezeNet 1.0", 1_248_424, squeezenet),
    ("Xception", 22_855_952, xception),
    ("MobileNet v1", 4_231_976, mobilenet_v1),
    ("MobileNet v2", 3_504_872, mobilenet_v2),
    ("MobileNet v3, large", 5_483_032, mobilenet_v3),
    ("ShuffleNet v2 x1.0", 2_278_604, shufflenet_v2),
    ("EfficientNet-B0", 5_288_548, efficientnet_b0),
):
    published(_name, _count)(lambda build=_build: (build(), images(224)))


@small("SqueezeNet, fire modules")
def _():
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, fire(2, 3), fire(3, 4), nn.Conv2d(8, 5, 1), *head(5))
    return classified(model, images(12))


@small("Xception")
def _():
    return classified(xception(1, (3, 4, 4, 5, 6, 6, 7, 8), classes=5), images(32))


@small("MobileNet v3", decreases=False)
def _():
    table = [(3, 16, 16, False, nn.ReLU, 1), (5, 24, 8, True, nn.Hardswish, 2), (3, 16, 8, True, nn.Hardswish, 1)]
    return classified(mobilenet_v3(table, last=12, hidden=10, classes=5), images(12))


@small("ShuffleNet v2")
def _():
    return classified(shufflenet_v2((4, 8, 12, 16), (2, 2), classes=5), images(32))


@small("EfficientNet block")
def _():
    block = InvertedResidual(6, 12, 6, 5, 1, nn.SiLU, Excitation(12, 2, nn.SiLU, nn.Sigmoid))
    return classified(nn.Sequential(Unit(3, 6, 3, 2, nn.SiLU), block, *head(5)), images(12))
