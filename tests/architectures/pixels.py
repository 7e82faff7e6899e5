"""A label, a box or a mask for each place: FCN, U-Net, C3D, YOLOv3, SSD, and the parts of Mask R-CNN."""

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import images, vgg
from tests.architectures.registry import published, small

# ---------------------------------------------------------------- FCN-8s


class FCN8(nn.Module):
    """J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic segmentation", 2015."""

    def __init__(self, classes=21, widths=(64, 128, 256, 512, 512), hidden=4096):
        layers = list(vgg(16, widths=widths))[:31]  # up to the fifth pooling
        self.low, self.middle, self.high = (nn.Sequential(*layers[i:j]) for i, j in ((0, 17), (17, 24), (24, 31)))
        wide = [nn.Conv2d(None, hidden, 7, padding=3), nn.ReLU(), nn.Dropout()]
        deep = [nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(hidden, classes, 1)]
        self.head = nn.Sequential(*wide, *deep)
        self.scores = [nn.Conv2d(None, classes, 1), nn.Conv2d(None, classes, 1)]
        self.up = [nn.ConvTranspose2d(classes, classes, 2 * s, s, padding=s // 2, bias=False) for s in (2, 2, 8)]

    def forward(self, x):
        """Images [N, 3, H, W], H and W multiples of 32 -> logits [N, classes, H, W]."""
        low = self.low(x)
        middle = self.middle(low)
        y = self.up[0](self.head(self.high(middle))) + self.scores[0](middle)
        return self.up[2](self.up[1](y) + self.scores[1](low))


# ---------------------------------------------------------------- U-Net


class UNet(nn.Module):
    """O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for biomedical ...", 2015."""

    def __init__(self, classes=2, width=64, depth=4):
        widths = [width << i for i in range(depth + 1)]
        self.down = [self.pair(w) for w in widths]
        self.up = [nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1]]
        self.joined = [self.pair(w) for w in widths[-2::-1]]
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def pair(width):
        return nn.Sequential(nn.Conv2d(None, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU())

    def forward(self, x):
        """Images [N, channels, 572, 572] -> logits [N, classes, 388, 388]."""
        kept = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else dlc.max_pool2d(x, 2))
            kept.append(x)
        for up, joined, aside in zip(self.up, self.joined, kept[-2::-1]):
            x = up(x)
            x = joined(dlc.concat([centre(aside, x.shape[2:]), x], axis=1))
        return self.head(x)


def centre(x, size):
    """The middle of an image."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], size))
    return x[:, :, top : top + size[0], left : left + size[1]]


# ---------------------------------------------------------------- C3D


def c3d(classes, widths=(64, 128, 256, 256, 512, 512, 512, 512), hidden=4096):
    """D. Tran et al., "Learning spatiotemporal features with 3D convolutional networks", 2015."""
    convolutions = iter([[nn.Conv3d(None, w, 3, padding=1), nn.ReLU()] for w in widths])
    layers = []
    for repeats, *pool in ((1, (1, 2, 2)), (1, 2), (2, 2), (2, 2), (2, 2, 2, (0, 1, 1))):
        for _ in range(repeats):
            layers += next(convolutions)
        layers.append(nn.MaxPool3d(*pool))
    head = [nn.Flatten(), nn.Linear(hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, *head, nn.Linear(classes))


# ---------------------------------------------------------------- YOLOv3


class Unit(nn.Sequential):
    """Convolution, batch normalisation, leaky ReLU."""

    def __init__(self, channels, kernel_size=1, stride=1):
        convolution = nn.Conv2d(None, channels, kernel_size, stride, kernel_size // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(), nn.LeakyReLU(0.1))


class DarknetBlock(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels):
        self.branch = nn.Sequential(Unit(channels // 2), Unit(channels, 3))

    def forward(self, x):
        return x + self.branch(x)


class YOLOv3(nn.Module):
    """J. Redmon and A. Farhadi, "YOLOv3: an incremental improvement", 2018: three grids of boxes."""

    def __init__(self, classes=80, width=32, blocks=(1, 2, 8, 8, 4)):
        def stage(i):
            return [Unit(width << i + 1, 3, 2), *[DarknetBlock(width << i + 1) for _ in range(blocks[i])]]

        def neck(channels):
            return nn.Sequential(*[Unit(*how) for how in ((channels,), (2 * channels, 3)) * 2], Unit(channels))

        fine = [Unit(width, 3), *stage(0), *stage(1), *stage(2)]
        self.stages = [nn.Sequential(*layers) for layers in (fine, stage(3), stage(4))]
        self.necks = [neck(width << i) for i in (4, 3, 2)]
        self.heads = [
            nn.Sequential(Unit(width << i + 1, 3), nn.Conv2d(None, 3 * (5 + classes), 1)) for i in (4, 3, 2)
        ]
        self.narrow = [Unit(width << i) for i in (3, 2)]

    def forward(self, x):
        """Images [N, 3, H, W] -> grids [N, 3 (5 + classes), H / s, W / s] for s = 32, 16, 8."""
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        grids = []
        for i, (neck, head) in enumerate(zip(self.necks, self.heads)):
            if i:
                x = dlc.resize(self.narrow[i - 1](x), scale=2)
                x = dlc.concat([x, kept[2 - i]], axis=1)
            x = neck(x)
            grids.append(head(x))
        return grids


def yolo_loss(grid, boxes, present, classes):
    """Squared errors of boxes (x and y after a sigmoid), logistic losses of presence and classes.

    grid [N, A (5 + K), H, W]; boxes [N, A, H, W, 4]; present [N, A, H, W] of 0 and 1; classes [N, A, H, W].
    """
    n, channels, h, w = grid.shape
    anchors = boxes.shape[1]
    y = dlc.moveaxis(grid.reshape((n, anchors, channels // anchors, h, w)), 2, -1)
    centres = dlc.square(dlc.sigmoid(y[..., :2]) - boxes[..., :2]).sum(axis=-1)
    sizes = dlc.square(y[..., 2:4] - boxes[..., 2:]).sum(axis=-1)
    presence = nn.functional.binary_cross_entropy_with_logits(y[..., 4], present)
    kinds = nn.functional.cross_entropy(y[..., 5:], classes, reduction="none")
    return (present * (centres + sizes + kinds)).mean() + presence


# ---------------------------------------------------------------- SSD


class L2Norm(nn.Module):
    """Each place's vector of channels, made of length one and scaled for each channel."""

    def __init__(self, channels):
        self.weight = dlc.parameter(np.full((channels, 1, 1), 20.0, np.float32))

    def forward(self, x):
        return self.weight * x / (dlc.sqrt(dlc.square(x).sum(axis=1, keepdims=True)) + 1e-10)


class SSD300(nn.Module):
    """W. Liu et al., "SSD: single shot multibox detector", 2016."""

    def __init__(self, classes=21):
        layers = list(vgg(16))[:30]  # up to the last convolution
        layers[16] = nn.MaxPool2d(2, ceil_mode=True)
        self.low = nn.Sequential(*layers[:23])
        dilated = [nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU()]
        stages = [[*layers[23:], *dilated, nn.Conv2d(1024, 1024, 1), nn.ReLU()]]
        for narrow, wide, how in ((256, 512, (2, 1)), (128, 256, (2, 1)), (128, 256, ()), (128, 256, ())):
            stages.append([nn.Conv2d(None, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, wide, 3, *how), nn.ReLU()])
        self.norm = L2Norm(512)
        self.stages = [nn.Sequential(*stage) for stage in stages]
        self.classes = classes
        self.heads = [nn.Conv2d(None, boxes * (4 + classes), 3, padding=1) for boxes in (4, 6, 6, 6, 4, 4)]

    def forward(self, x):
        """Images [N, 3, 300, 300] -> (offsets [N, 8732, 4], logits [N, 8732, classes])."""
        x = self.low(x)
        maps = [self.norm(x)]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        found = []
        for head, features in zip(self.heads, maps):
            y = dlc.moveaxis(head(features), 1, -1)
            n, h, w, channels = y.shape
            found.append(y.reshape((n, h * w * (channels // (4 + self.classes)), 4 + self.classes)))
        boxes = dlc.concat(found, axis=1)
        return boxes[..., :4], boxes[..., 4:]


# ---------------------------------------------------------------- Mask R-CNN, without its choice of boxes


class FeaturePyramid(nn.Module):
    """T.-Y. Lin et al., "Feature pyramid networks for object detection", 2017."""

    def __init__(self, levels, channels=256):
        self.lateral = [nn.Conv2d(None, channels, 1) for _ in range(levels)]
        self.smooth = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels)]

    def forward(self, maps):
        """Maps, the finest first -> as many, all of one width."""
        found, above = [], None
        for features, lateral, smooth in reversed(list(zip(maps, self.lateral, self.smooth))):
            y = lateral(features)
            above = y if above is None else y + dlc.resize(above, size=y.shape[2:])
            found.append(smooth(above))
        return found[::-1]


class RegionHeads(nn.Module):
    """What Mask R-CNN (K. He et al., 2017) has for given boxes: classes, corrections, and a mask for each class."""

    def __init__(self, classes, channels, hidden):
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(hidden), nn.ReLU(), nn.Linear(hidden), nn.ReLU())
        self.classify, self.correct = nn.Linear(classes), nn.Linear(4 * classes)
        self.masks = nn.Sequential(
            nn.Conv2d(None, channels, 3, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.ReLU(), nn.Conv2d(channels, classes, 1),
        )  # fmt: skip

    def forward(self, features, boxes, of):
        """Features [N, C, H, W], boxes [R, 4] in them, and the image [R] of each box."""
        y = self.trunk(dlc.roi_align(features, boxes, of, 4))
        return self.classify(y), self.correct(y), self.masks(dlc.roi_align(features, boxes, of, 6))


@published("U-Net", 31_030_658)
def _():
    return UNet(), images(572, 1)


@published("C3D, Sports-1M", 79_991_015)
def _():
    return c3d(487), dlc.input("clips", ("N", 3, 16, 112, 112))


@published("C3D, UCF101", 78_409_573)
def _():
    return c3d(101), dlc.input("clips", ("N", 3, 16, 112, 112))


@published("YOLOv3", 61_949_149)
def _():
    return YOLOv3(), images(416)


@published("SSD300", 26_285_486)
def _():
    return SSD300(), images(300)


def segmented(model, x):
    logits = model(x)
    y = dlc.input("labels", (logits.shape[0], *logits.shape[2:]), "int64")
    return model, [x, y], nn.functional.cross_entropy(logits, y, axis=1)


@small("FCN-8s", decreases=False)
def _():
    return segmented(FCN8(4, (2, 2, 3, 3, 3), 4), images(32))


@small("U-Net")
def _():
    return segmented(UNet(3, 2, 2), images(44, 1))


@small("C3D", decreases=False)
def _():
    x = dlc.input("clips", ("N", 3, 16, 16, 16))
    y = dlc.input("labels", ("N",), "int64")
    model = c3d(4, (2, 2, 2, 3, 3, 3, 3, 3), 5)
    return model, [x, y], nn.functional.cross_entropy(model(x), y)


@small("YOLOv3", slow=True)
def _():
    model, x = YOLOv3(3, 2, (0, 0, 1, 0, 0)), images(64)
    grids = model(x)
    grid = grids[1]
    n, _, h, w = grid.shape
    boxes, present = dlc.input("boxes", (n, 3, h, w, 4)), dlc.input("present", (n, 3, h, w), "int64")
    kinds = dlc.input("kinds", (n, 3, h, w), "int64")
    loss = yolo_loss(grid, boxes, dlc.minimum(present, 1).astype("float32"), kinds)
    return model, [x, boxes, present, kinds], loss + 0.01 * sum(dlc.square(g).mean() for g in grids)


@small("Feature pyramid, RoIAlign and the heads of Mask R-CNN")
def _():
    class Model(nn.Module):
        def __init__(self):
            self.stages = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)]
            self.pyramid, self.heads = FeaturePyramid(2, 4), RegionHeads(3, 4, 8)

        def forward(self, x, boxes):
            maps = [dlc.tanh(self.stages[0](x))]
            maps.append(dlc.tanh(self.stages[1](maps[0])))
            fine, coarse = self.pyramid(maps)
            return *self.heads(fine, boxes, [0, 1]), dlc.square(coarse).mean()

    model, x = Model(), images(17)
    boxes, kinds = dlc.constant([[0.3, 0.7, 5.2, 6.1], [2.2, 1.4, 7.6, 3.3]]), dlc.input("kinds", (2,), "int64")
    logits, corrections, masks, rest = model(x, boxes)
    mask = nn.functional.binary_cross_entropy_with_logits(masks, dlc.ones_like(masks))
    correction = nn.functional.smooth_l1_loss(corrections, dlc.ones_like(corrections))
    return model, [x, kinds], nn.functional.cross_entropy(logits, kinds) + correction + mask + rest
