"""Networks that make images: DCGAN, WGAN-GP, pix2pix, VAE, VQ-VAE, RealNVP, DDPM."""

import math

import numpy as np

import dlc
from dlc import nn
from tests.architectures.classics import images
from tests.architectures.registry import published, small

logistic = nn.functional.binary_cross_entropy_with_logits

# ---------------------------------------------------------------- DCGAN


def dcgan_generator(width=64, channels=3, doublings=3):
    """A. Radford, L. Metz and S. Chintala, "Unsupervised representation learning with ...", 2015."""
    layers = [nn.ConvTranspose2d(None, width << doublings, 4, bias=False), nn.BatchNorm2d(), nn.ReLU()]
    for i in reversed(range(doublings)):
        layers += [nn.ConvTranspose2d(None, width << i, 4, 2, padding=1, bias=False), nn.BatchNorm2d(), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, padding=1, bias=False), nn.Tanh())


def dcgan_discriminator(width=64, doublings=3):
    layers = [nn.Conv2d(None, width, 4, 2, padding=1, bias=False), nn.LeakyReLU(0.2)]
    for i in range(1, doublings + 1):
        layers += [nn.Conv2d(None, width << i, 4, 2, padding=1, bias=False), nn.BatchNorm2d(), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(None, 1, 4, bias=False), nn.Flatten())


def generator_loss(logits_of_made):
    """Minus the logarithm of the probability that the discriminator is deceived."""
    return logistic(logits_of_made, dlc.ones_like(logits_of_made))


def discriminator_loss(logits_of_real, logits_of_made):
    return generator_loss(logits_of_real) + logistic(logits_of_made, dlc.zeros_like(logits_of_made))


# ---------------------------------------------------------------- WGAN-GP


def gradient_penalty(critic, real, made):
    """(|d critic / d x| - 1)^2 at x between real and made: I. Gulrajani et al., "Improved training of ...", 2017."""
    between = dlc.uniform((real.shape[0], *(1,) * (real.ndim - 1)))
    x = real * between + made * (1 - between)
    slopes = dlc.grad(critic(x).sum(), x)
    lengths = dlc.sqrt(dlc.square(slopes).sum(axis=tuple(range(1, x.ndim))) + 1e-12)
    return dlc.square(lengths - 1.0).mean()


# ---------------------------------------------------------------- pix2pix


class UNetLevel(nn.Module):
    """One level of pix2pix's generator around the next: the input, joined with what comes back from below."""

    def __init__(self, width, outside, inside=None, norm=nn.BatchNorm2d, outermost=False, dropout=False):
        bias = norm is not nn.BatchNorm2d
        down = [nn.Conv2d(None, width, 4, 2, padding=1, bias=bias)]
        up = [nn.ReLU(), nn.ConvTranspose2d(None, outside, 4, 2, padding=1, bias=bias or outermost)]
        if outermost:
            up.append(nn.Tanh())
        else:
            down = [nn.LeakyReLU(0.2), *down, *([] if inside is None else [norm()])]
            up.append(norm())
        self.layers = nn.Sequential(*down, *([] if inside is None else [inside]), *up, *[nn.Dropout()] * dropout)
        self.outermost = outermost

    def forward(self, x):
        y = self.layers(x)
        return y if self.outermost else dlc.concat([x, y], axis=1)


def pix2pix_generator(width=64, levels=8, channels=3, norm=nn.BatchNorm2d):
    """P. Isola et al., "Image-to-image translation with conditional adversarial networks", 2016."""
    level = None
    for i in reversed(range(1, levels)):
        outside = width * min(1 << i - 1, 8)
        level = UNetLevel(width * min(1 << i, 8), outside, level, norm, dropout=4 <= i < levels - 1)
    return UNetLevel(width, channels, level, norm, outermost=True)


def patch_discriminator(width=64, norm=nn.BatchNorm2d):
    """Logits for overlapping patches."""
    bias = norm is not nn.BatchNorm2d
    layers = [nn.Conv2d(None, width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
    for factor, stride in ((2, 2), (4, 2), (8, 1)):
        layers += [nn.Conv2d(None, factor * width, 4, stride, padding=1, bias=bias), norm(), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(None, 1, 4, padding=1))


# ---------------------------------------------------------------- autoencoders


class VAE(nn.Module):
    """D. Kingma and M. Welling, "Auto-encoding variational Bayes", 2013."""

    def __init__(self, pixels=784, hidden=500, codes=20):
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, 2 * codes))
        self.decoder = nn.Sequential(nn.Linear(codes, hidden), nn.Tanh(), nn.Linear(hidden, pixels))

    def forward(self, x):
        """Pixels [N, pixels] of 0 to 1 -> minus the evidence's lower bound, the mean over N."""
        mean, log_variance = dlc.chunk(self.encoder(x), 2, axis=1)
        code = mean + dlc.exp(0.5 * log_variance) * dlc.normal(mean.shape)
        reconstruction = logistic(self.decoder(code), x, reduction="sum")
        divergence = 0.5 * (dlc.exp(log_variance) + dlc.square(mean) - 1 - log_variance).sum()
        return (reconstruction + divergence) / dlc.size_of(x.shape[0])


class VQVAE(nn.Module):
    """A. van den Oord, O. Vinyals and K. Kavukcuoglu, "Neural discrete representation learning", 2017."""

    def __init__(self, width=256, entries=512):
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1))
        up = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.decoder = nn.Sequential(up, nn.ReLU(), nn.ConvTranspose2d(width, 3, 4, 2, 1))
        self.codebook = dlc.parameter((entries, width), initialiser=nn.initialisers.uniform(-1, 1))

    def forward(self, x):
        """Images -> the loss of reconstruction, codebook and commitment."""
        codes = dlc.moveaxis(self.encoder(x), 1, -1)
        distances = dlc.square(codes[..., None, :] - self.codebook).sum(axis=-1)
        nearest = dlc.take(self.codebook, dlc.argmin(distances, axis=-1))
        straight = codes + dlc.stop_gradient(nearest - codes)  # forward the entry, back as if it were the code
        y = self.decoder(dlc.moveaxis(straight, -1, 1))
        codebook = dlc.square(nearest - dlc.stop_gradient(codes)).mean()
        commitment = dlc.square(codes - dlc.stop_gradient(nearest)).mean()
        return dlc.square(y - x).mean() + codebook + 0.25 * commitment


# ---------------------------------------------------------------- RealNVP


class Coupling(nn.Module):
    """Half of x scaled and moved by what a network makes of the other half."""

    def __init__(self, features, hidden, flipped):
        self.network = nn.Sequential(nn.Linear(features // 2, hidden), nn.Tanh(), nn.Linear(hidden, features))
        self.flipped = flipped

    def forward(self, x):
        """x [N, features] -> (y, the logarithm of the determinant of its derivative [N])."""
        kept, moved = dlc.chunk(x, 2, axis=1)[:: -1 if self.flipped else 1]
        scale, shift = dlc.chunk(self.network(kept), 2, axis=1)
        scale = dlc.tanh(scale)
        halves = [kept, moved * dlc.exp(scale) + shift]
        return dlc.concat(halves[:: -1 if self.flipped else 1], axis=1), scale.sum(axis=1)


class RealNVP(nn.Module):
    """L. Dinh, J. Sohl-Dickstein and S. Bengio, "Density estimation using real NVP", 2016."""

    def __init__(self, features, hidden, layers):
        self.layers = [Coupling(features, hidden, i % 2 == 1) for i in range(layers)]

    def forward(self, x):
        """x [N, features] -> minus its log-likelihood under a normal distribution of what it is mapped to."""
        total = 0.0
        for layer in self.layers:
            x, log_determinant = layer(x)
            total = total + log_determinant
        density = -0.5 * (dlc.square(x) + math.log(2 * math.pi)).sum(axis=1)
        return -(density + total).mean()


# ---------------------------------------------------------------- DDPM


def time_embedding(t, width):
    """Sines and cosines of the step [N] at frequencies from 1 to 1/10000 -> [N, width]."""
    half = width // 2
    frequencies = dlc.exp(dlc.arange(half).astype("float32") * (-math.log(10000.0) / (half - 1)))
    angles = t.astype("float32")[:, None] * frequencies
    return dlc.concat([dlc.sin(angles), dlc.cos(angles)], axis=1)


class TimedBlock(nn.Module):
    """A residual block that is told the time."""

    def __init__(self, inside, outside, groups, dropout):
        self.first = nn.Sequential(nn.GroupNorm(groups), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(outside))
        self.second = nn.Sequential(
            nn.GroupNorm(groups), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(outside, outside, 3, padding=1)
        )
        self.shortcut = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x, time):
        y = self.first(x) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.second(y)


class ImageAttention(nn.Module):
    """Each place attends to all others."""

    def __init__(self, channels, groups):
        self.norm = nn.GroupNorm(groups)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (dlc.moveaxis(p(y).reshape((n, c, h * w)), 1, 2) for p in (self.query, self.key, self.value))
        return x + self.out(dlc.moveaxis(dlc.attention(q, k, v), 1, 2).reshape(x.shape))


class DiffusionUNet(nn.Module):
    """The noise in an image: J. Ho, A. Jain and P. Abbeel, "Denoising diffusion probabilistic models", 2020."""

    def __init__(self, width=128, factors=(1, 2, 2, 2), blocks=2, attends=(1,), groups=32, dropout=0.1):
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.stem = nn.Conv2d(3, width, 3, padding=1)

        def level(i, inside, outside):
            block = TimedBlock(inside, outside, groups, dropout)
            return [block, ImageAttention(outside, groups)] if i in attends else [block]

        widths, last = [width], width
        self.down, self.smaller = [], []
        for i, factor in enumerate(factors):
            for _ in range(blocks):
                self.down.append(level(i, last, width * factor))
                last = width * factor
                widths.append(last)
            if i < len(factors) - 1:
                self.smaller.append(nn.Conv2d(last, last, 3, stride=2, padding=1))
                widths.append(last)
        around = ImageAttention(last, groups)
        self.middle = [TimedBlock(last, last, groups, dropout), around, TimedBlock(last, last, groups, dropout)]
        self.up, self.larger = [], []
        for i, factor in reversed(list(enumerate(factors))):
            for _ in range(blocks + 1):
                self.up.append(level(i, last + widths.pop(), width * factor))
                last = width * factor
            if i:
                self.larger.append(nn.Conv2d(last, last, 3, padding=1))
        self.head = nn.Sequential(nn.GroupNorm(groups), nn.SiLU(), nn.Conv2d(last, 3, 3, padding=1))
        self.blocks = blocks

    def forward(self, x, t):
        """Noisy images [N, 3, H, W] and their steps [N] -> the noise."""
        time = self.time(time_embedding(t, self.width))

        def applied(parts, y):
            for part in parts:
                y = part(y, time) if isinstance(part, TimedBlock) else part(y)
            return y

        kept = [self.stem(x)]
        for i, level in enumerate(self.down):
            kept.append(applied(level, kept[-1]))
            if (i + 1) % self.blocks == 0 and i + 1 < len(self.down):
                kept.append(self.smaller[i // self.blocks](kept[-1]))
        y = applied(self.middle, kept[-1])
        for i, level in enumerate(self.up):
            y = applied(level, dlc.concat([y, kept.pop()], axis=1))
            if (i + 1) % (self.blocks + 1) == 0 and kept:
                y = self.larger[i // (self.blocks + 1)](dlc.resize(y, scale=2))
        return self.head(y)


def diffusion_loss(network, x, t, steps=1000):
    """The squared error of the noise that was mixed into x at step t, with betas from 1e-4 to 0.02."""
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, steps)).astype(np.float32)
    share = dlc.take(dlc.constant(kept), t)[:, None, None, None]
    noise = dlc.normal(x.shape)
    return dlc.square(network(dlc.sqrt(share) * x + dlc.sqrt(1 - share) * noise, t) - noise).mean()


@published("DCGAN, generator", 3_576_704)
def _():
    return dcgan_generator(), dlc.input("codes", ("N", 100, 1, 1))


@published("DCGAN, discriminator", 2_765_568)
def _():
    return dcgan_discriminator(), images(64)


@published("pix2pix, generator", 54_413_955)
def _():
    return pix2pix_generator(), images(256)


@published("pix2pix, discriminator", 2_768_705)
def _():
    return patch_discriminator(), images(256, channels=6)


@published("DDPM for CIFAR-10", 35_746_307)
def _():
    return DiffusionUNet(), images(32), dlc.input("t", ("N",), "int64")


@small("DCGAN, generator through discriminator")
def _():
    model = nn.Sequential(dcgan_generator(2, doublings=1), dcgan_discriminator(2, doublings=1))
    codes = dlc.input("codes", ("N", 5, 1, 1))
    return model, [codes], generator_loss(model(codes))


@small("WGAN-GP, critic with gradient penalty", decreases=False)
def _():
    critic = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(6), nn.Tanh(), nn.Linear(1))
    real, made = images(7), dlc.input("made", ("N", 3, 7, 7))
    loss = critic(made).mean() - critic(real).mean() + 10.0 * gradient_penalty(critic, real, made)
    return critic, [real, made], loss


@small("pix2pix, with instance norm", decreases=False)
def _():
    generator, critic = pix2pix_generator(2, 4, norm=nn.InstanceNorm2d), patch_discriminator(2, nn.InstanceNorm2d)
    x, y = images(32), dlc.input("wanted", ("N", 3, 32, 32))
    made = generator(x)
    loss = generator_loss(critic(dlc.concat([x, made], axis=1))) + nn.functional.l1_loss(made, y)
    return nn.Sequential(generator, critic), [x, y], loss


@small("VAE", decreases=False)
def _():
    model, x = VAE(12, 8, 3), dlc.input("x", ("N", 12))
    return model, [x], model(dlc.sigmoid(x))


@small("VQ-VAE")
def _():
    model, x = VQVAE(3, 5), images(8)
    return model, [x], model(x)


@small("RealNVP")
def _():
    model, x = RealNVP(6, 8, 4), dlc.input("x", ("N", 6))
    return model, [x], model(x)


@small("DDPM", decreases=False, slow=True)
def _():
    model = DiffusionUNet(4, (1, 2), 1, (1,), groups=2)
    x, t = images(8), dlc.input("t", ("N",), "int64")
    return model, [x, t], diffusion_loss(model, x, t)
