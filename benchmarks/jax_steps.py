"""The training steps in JAX: one jitted function of donated buffers, in either layout of images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.networks import LEARNING_RATE, Array, Network
from benchmarks.timing import Run

Values = dict[str, Any]
EPS, MOMENTUM = 1e-5, 0.1


class Layers:
    """Layers as functions of named weights. Running statistics that a forward pass moves are gathered in `moved`."""

    def __init__(self, weights: Values, layout: str) -> None:
        self.weights, self.layout, self.moved = weights, layout, {}
        self.channel = layout.index("C")
        self.pixels = tuple(layout.index(a) for a in "HW")

    def linear(self, x: Any, name: str) -> Any:
        """x [N, in] -> [N, out]."""
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def conv(self, x: Any, name: str, stride: int = 1, padding: int = 0) -> Any:
        """A convolution, with a bias where there is one."""
        w = self.weights[f"{name}.weight"]
        names = (self.layout, "OIHW", self.layout)
        y = lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=names)
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + self._beside(bias)

    def norm(self, x: Any, name: str) -> Any:
        """Batch normalisation in training."""
        axes = tuple(a for a in range(4) if a != self.channel)
        mean, var = x.mean(axes), x.var(axes)
        count = x.size // x.shape[self.channel]
        for kind, value in (("mean", mean), ("var", var * (count / (count - 1)))):
            running = self.weights[f"{name}.running_{kind}"]
            self.moved[f"{name}.running_{kind}"] = (1 - MOMENTUM) * running + MOMENTUM * lax.stop_gradient(value)
        scale = self.weights[f"{name}.weight"] * lax.rsqrt(var + EPS)
        return x * self._beside(scale) + self._beside(self.weights[f"{name}.bias"] - mean * scale)

    def pool(self, x: Any) -> Any:
        """The maximum over windows of 2x2; by reshaping, whose gradient XLA runs quicker than that of a window."""
        h, w = self.pixels
        shape = [*x.shape[:h], x.shape[h] // 2, 2, x.shape[w] // 2, 2, *x.shape[w + 1 :]]
        return x.reshape(shape).max((h + 1, h + 3))

    def _beside(self, v: Any) -> Any:
        return v.reshape([-1 if a == self.channel else 1 for a in range(4)])


def _mlp(layers: Layers, x: Any) -> Any:
    names = sorted(n.removesuffix(".weight") for n in layers.weights if n.endswith(".weight"))
    for name in names[:-1]:
        x = jax.nn.relu(layers.linear(x, name))
    return layers.linear(x, names[-1])


def _lenet(layers: Layers, x: Any) -> Any:
    x = layers.pool(jax.nn.relu(layers.conv(x, "0", padding=2)))
    x = layers.pool(jax.nn.relu(layers.conv(x, "3")))
    x = x if layers.layout == "NCHW" else x.transpose(0, 3, 1, 2)
    x = x.reshape(len(x), -1)
    for name in ("7", "9"):
        x = jax.nn.relu(layers.linear(x, name))
    return layers.linear(x, "11")


def _resnet(layers: Layers, x: Any) -> Any:
    x = jax.nn.relu(layers.norm(layers.conv(x, "conv", padding=1), "bn"))
    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    for b, (i, o) in enumerate(pairwise(widths)):
        name, stride, carried = f"blocks.{b}", 1 + (i != o), x
        if i != o:
            carried = layers.norm(layers.conv(x, f"{name}.shortcut.0", stride), f"{name}.shortcut.1")
        x = jax.nn.relu(layers.norm(layers.conv(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
        x = jax.nn.relu(layers.norm(layers.conv(x, f"{name}.conv2", 1, 1), f"{name}.bn2") + carried)
    return layers.linear(x.mean(layers.pixels), "head")


MODELS = {"xor": _mlp, "mlp": _mlp, "lenet": _lenet, "resnet": _resnet}


def training_step(network: Network, weights: dict[str, Array], layout: str = "NCHW") -> Run:
    """A step from these weights; each call gives the loss before its update. `layout` is NCHW or NHWC."""
    model = MODELS[network.kind]
    images, labels = network.data()
    images = images.transpose(0, 2, 3, 1) if layout == "NHWC" else images

    def loss_of(trained: Values, running: Values, x: Any, y: Any) -> tuple[Any, Values]:
        layers = Layers(trained | running, layout)
        logits = model(layers, x)
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
        return loss, layers.moved

    def step(trained: Values, running: Values, m: Values, v: Values, t: Any, x: Any, y: Any) -> Any:
        (loss, running), g = jax.value_and_grad(loss_of, has_aux=True)(trained, running, x, y)
        t = t + 1
        trained, m, v = adam(trained, g, m, v, t)
        return loss, (trained, running, m, v, t)

    run = jax.jit(step, donate_argnums=(0, 1, 2, 3, 4))
    arrays = {name: jnp.array(v) for name, v in weights.items()}
    running = {name: a for name, a in arrays.items() if ".running_" in name}
    trained = {name: a for name, a in arrays.items() if name not in running}
    state = (trained, running, zeros(trained), zeros(trained), jnp.zeros((), jnp.int32))
    x, y = jnp.array(images), jnp.array(labels, jnp.int32)

    def one() -> float:
        nonlocal state
        loss, state = run(*state, x, y)
        return float(loss)

    return one


def zeros(like: Values) -> Values:
    """Zeros of the shapes of these."""
    return {name: jnp.zeros_like(a) for name, a in like.items()}


def adam(p: Values, g: Values, m: Values, v: Values, t: Any, lr: float = LEARNING_RATE) -> tuple[Values, ...]:
    """Adam's update number t >= 1, with the usual betas. Kingma and Ba (2015), arXiv:1412.6980, algorithm 1."""
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    c1, c2 = 1 - 0.9**t, 1 - 0.999**t
    p = jax.tree.map(lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
    return p, m, v
