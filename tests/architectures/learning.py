"""Ways to learn: MAML, neural ODEs, equilibria, DQN, PPO, spectral norm, mixed precision, games of two players."""

import math

import dlc
from dlc import nn
from tests.architectures.registry import small

# ---------------------------------------------------------------- MAML


def weights_of(model):
    return {name: p.as_tensor() for name, p in model.named_parameters()}


class MAML(nn.Module):
    """A start from which one step learns a task: C. Finn, P. Abbeel and S. Levine, 2017."""

    def __init__(self, network, lr=0.1):
        self.network, self.lr = network, lr

    def error(self, weights, x, y):
        return dlc.square(nn.functional_call(self.network, weights, x) - y).mean()

    def forward(self, x, y, x_test, y_test):
        """Points [tasks, points, 1] to learn from and to be judged by -> the loss after one step on each task."""

        def task(x, y, x_test, y_test):
            weights = weights_of(self.network)
            slopes = dlc.grad(self.error(weights, x, y), list(weights.values()))
            adapted = {name: w - self.lr * g for (name, w), g in zip(weights.items(), slopes)}
            return self.error(adapted, x_test, y_test)

        return dlc.vmap(task)(x, y, x_test, y_test).mean()


# ---------------------------------------------------------------- other weights than a module's own


class HyperNetwork(nn.Module):
    """A network that makes another's weights: D. Ha, A. Dai and Q. Le, "HyperNetworks", 2016."""

    def __init__(self, network, width):
        self.network = network  # its own weights stand for nothing
        self.shapes = {name: p.shape for name, p in network.named_parameters()}
        self.heads = {name.replace(".", "_"): nn.Linear(width, math.prod(s)) for name, s in self.shapes.items()}

    def forward(self, codes, x):
        """Codes [N, width] and x [N, ...] -> what a network of its own makes of each x."""
        made = {name: self.heads[name.replace(".", "_")](codes) for name in self.shapes}
        made = {name: w.reshape((w.shape[0], *self.shapes[name])) for name, w in made.items()}

        def one(x, *weights):
            return nn.functional_call(self.network, dict(zip(made, weights)), x[None])[0]

        return dlc.vmap(one)(x, *made.values())


def sharpness_aware(model, loss_of, radius=0.05):
    """Gradients at the worst place near the weights: P. Foret et al., "Sharpness-aware minimization", 2020."""
    weights = weights_of(model)
    slopes = dlc.grad(loss_of(weights), list(weights.values()))
    length = dlc.sqrt(sum(dlc.square(g).sum() for g in slopes) + 1e-12)
    worst = {name: w + dlc.stop_gradient(radius * g / length) for (name, w), g in zip(weights.items(), slopes)}
    return dlc.grad(loss_of(worst), list(worst.values()))


def sample_gradients(model, x, y):
    """The gradient of each sample by itself [N, ...], as differential privacy clips them: M. Abadi et al., 2016."""
    weights = weights_of(model)

    def one(x, y):
        loss = nn.functional.cross_entropy(nn.functional_call(model, weights, x[None]), y[None])
        return tuple(dlc.grad(loss, list(weights.values())))

    return dlc.vmap(one)(x, y)


# ---------------------------------------------------------------- neural ODE


class NeuralODE(nn.Module):
    """dx/dt = f(x, t): R. Chen et al., "Neural ordinary differential equations", 2018; backpropagation goes through
    the solver."""

    def __init__(self, features, hidden):
        self.f = nn.Sequential(nn.Linear(features + 1, hidden), nn.Tanh(), nn.Linear(hidden, features))

    def slope(self, x, t):
        return self.f(dlc.concat([x, dlc.broadcast_to(t, (x.shape[0], 1))], axis=1))

    def fixed(self, x, steps=8):
        """x at time 1 by the classical method of Runge and Kutta."""
        h = 1.0 / steps

        def step(x, t):
            a = self.slope(x, t)
            b = self.slope(x + 0.5 * h * a, t + 0.5 * h)
            c = self.slope(x + 0.5 * h * b, t + 0.5 * h)
            d = self.slope(x + h * c, t + h)
            return x + h / 6.0 * (a + 2.0 * b + 2.0 * c + d), ()

        return dlc.scan(step, x, dlc.arange(steps).astype("float32") * h)[0]

    def adaptive(self, x, tolerance=1e-3, max_steps=50):
        """x at time 1 by Heun's method, which takes shorter steps where it errs more."""

        def before_the_end(t, h, x):
            return t < 1.0

        def step(t, h, x):
            h = dlc.minimum(h, 1.0 - t)
            a = self.slope(x, t)
            b = self.slope(x + h * a, t + h)
            error = dlc.max(dlc.abs(0.5 * h * (b - a)))
            accepted = error < tolerance
            factor = dlc.clip(0.9 * dlc.sqrt(tolerance / (error + 1e-10)), 0.3, 3.0)
            new = dlc.where(accepted, x + 0.5 * h * (a + b), x)
            return dlc.where(accepted, t + h, t), h * factor, new

        return dlc.while_loop(before_the_end, step, 0.0, 0.1, x, max_steps=max_steps)[2]


# ---------------------------------------------------------------- deep equilibrium models


def settled(f, start, tolerance=1e-6):
    """Where z = f(z), by going there; how often that is nobody knows beforehand."""

    def moves(z, before):
        return dlc.max(dlc.abs(z - before)) > tolerance

    return dlc.while_loop(moves, lambda z, before: (f(z), z), f(start), start)[0]


def layer_of(z, x, w):
    return dlc.tanh(z @ w + x)


@dlc.custom_vjp
def equilibrium(x, w):
    """z = tanh(z w + x), the output of infinitely many layers."""
    return settled(lambda z: layer_of(z, x, w), dlc.zeros_like(x))


@equilibrium.backward
def implicit(g, z, x, w):
    """The implicit function theorem: the cotangent is the fixed point of another loop, and no layer is kept."""

    def through(cotangent, of):
        return dlc.vjp(layer_of(z, x, w), of, cotangent)

    total = settled(lambda v: g + through(v, z), g)
    return through(total, x), through(total, w)


class DEQ(nn.Module):
    """S. Bai, J. Kolter and V. Koltun, "Deep equilibrium models", 2019."""

    def __init__(self, width, outputs):
        self.read, self.write = nn.Linear(width), nn.Linear(width, outputs)
        self.weight = dlc.parameter((width, width), initialiser=nn.initialisers.normal(0.1))

    def forward(self, x):
        return self.write(equilibrium(self.read(x), self.weight.as_tensor()))


# ---------------------------------------------------------------- reinforcement learning


def dqn_loss(online, target, state, action, reward, following, ended, discount=0.99):
    """V. Mnih et al., "Human-level control through deep reinforcement learning", 2015; doubled: van Hasselt, 2015."""
    value = dlc.take_along_axis(online(state), action[:, None], axis=1)[:, 0]
    best = dlc.argmax(online(following), axis=1)
    later = dlc.take_along_axis(target(following), best[:, None], axis=1)[:, 0]
    wanted = dlc.stop_gradient(reward + discount * (1.0 - ended) * later)
    return nn.functional.huber_loss(value, wanted)


def advantages(rewards, values, discount=0.99, trace=0.95):
    """Generalised advantage estimates from the end: rewards [T], values [T + 1] -> [T]; J. Schulman et al., 2015."""
    errors = rewards + discount * values[1:] - values[:-1]
    return dlc.linear_recurrence(dlc.full_like(errors, discount * trace), errors, reverse=True)


def ppo_loss(logits, values, actions, old, advantage, returns, clipped=0.2):
    """J. Schulman et al., "Proximal policy optimization algorithms", 2017: policy, value and entropy."""
    logs = dlc.log_softmax(logits)
    ratio = dlc.exp(dlc.take_along_axis(logs, actions[:, None], axis=1)[:, 0] - old)
    policy = -dlc.minimum(ratio * advantage, dlc.clip(ratio, 1 - clipped, 1 + clipped) * advantage).mean()
    entropy = -(dlc.exp(logs) * logs).sum(axis=1).mean()
    return policy + 0.5 * dlc.square(values - returns).mean() - 0.01 * entropy


# ---------------------------------------------------------------- spectral norm


class SpectralLinear(nn.Module):
    """A layer divided by its largest singular value: T. Miyato et al., 2018. Each training step takes the estimate one
    power iteration further."""

    def __init__(self, inside, outside):
        self.weight = dlc.parameter((outside, inside))
        self.u = nn.Buffer((outside,), nn.initialisers.normal())

    def forward(self, x):
        v = dlc.stop_gradient(self.u @ self.weight)
        v = v / dlc.vector_norm(v)
        u = dlc.stop_gradient(self.weight @ v)
        u = u / dlc.vector_norm(u)
        y = x @ self.weight.T / (u @ (self.weight @ v))
        return y.with_updates((self.u.state, u))


# ---------------------------------------------------------------- steps of one's own


def averaged_step(model, inputs, loss, optimizer, decay=0.99):
    """A step that also keeps a moving average of the weights; returns the program and the averages."""
    averages = [nn.Buffer(p.shape, nn.initialisers.zeros, name=f"average.{p.name}") for p in model.parameters()]
    for average, p in zip(averages, model.parameters()):
        average.assign(p.value)
    updates = optimizer.updates(model.parameters(), dlc.grad(loss, model.parameters()))
    new = dict(updates)
    updates += [(a.state, decay * a + (1 - decay) * new[p.state]) for a, p in zip(averages, model.parameters())]
    return dlc.graph(inputs, [loss], updates), averages


def adversarial_step(generator, critic, real, codes, losses, optimizers):
    """One program that trains both players of a game, each against the other as it was."""
    updates = []
    for model, loss, optimizer in zip((generator, critic), losses, optimizers):
        updates += optimizer.updates(model.parameters(), dlc.grad(loss, model.parameters()))
    return dlc.graph([real, codes], losses, updates)


# ---------------------------------------------------------------- small ones


@small("MAML")
def _():
    model = MAML(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)))
    inputs = [dlc.input(name, (3, 5, 1)) for name in ("x", "y", "x_test", "y_test")]
    return model, inputs, model(*inputs)


@small("Hypernetwork")
def _():
    inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model, codes, x = HyperNetwork(inner, 5), dlc.input("codes", ("N", 5)), dlc.input("x", ("N", 3))
    return model, [codes, x], dlc.square(model(codes, x) - 1).mean()


@small("Neural ODE, fixed steps")
def _():
    model, x = NeuralODE(2, 5), dlc.input("x", ("N", 2))
    return model, [x], dlc.square(model.fixed(x) - 1).mean()


@small("Neural ODE, adaptive steps")
def _():
    model, x = NeuralODE(2, 5), dlc.input("x", ("N", 2))
    return model, [x], dlc.square(model.adaptive(x, 0.02, 8) - 1).mean()


@small("Deep equilibrium model")
def _():
    model, x = DEQ(4, 2), dlc.input("x", ("N", 3))
    return model, [x], dlc.square(model(x) - 1).mean()


@small("DQN, doubled, with a target network")
def _():
    def network():
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    online, target = network(), network()
    state, following = dlc.input("state", ("N", 4)), dlc.input("following", ("N", 4))
    action, reward = dlc.input("action", ("N",), "int64"), dlc.input("reward", ("N",))
    target.initialise(1)
    loss = dqn_loss(online, target, state, action, reward, following, 0.0)
    return online, [state, action, reward, following], loss


@small("PPO, with generalised advantages")
def _():
    body, policy, value = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 3), nn.Linear(6, 1)
    states, rewards = dlc.input("states", (6, 4)), dlc.input("rewards", (5,))
    actions = dlc.input("actions", (5,), "int64")
    y = body(states)
    logits, values = policy(y), value(y)[:, 0]
    advantage = dlc.stop_gradient(advantages(rewards, values))
    returns = advantage + dlc.stop_gradient(values[:-1])
    old = dlc.full((5,), math.log(1 / 3))
    model = nn.Sequential(body, policy, value)
    return model, [states, actions, rewards], ppo_loss(logits[:-1], values[:-1], actions, old, advantage, returns)


@small("Spectral norm", decreases=False)
def _():
    model = nn.Sequential(SpectralLinear(4, 5), nn.Tanh(), SpectralLinear(5, 1))
    x = dlc.input("x", ("N", 4))
    return model, [x], dlc.square(model(x) - 1).mean()


@small("Mixed precision: bfloat16 weights and activations", exact=False, lr=0.1)
def _():
    model = nn.Sequential(nn.Linear(4, 8, dtype="bfloat16"), nn.Tanh(), nn.Linear(8, 3, dtype="bfloat16"))
    x, y = dlc.input("x", ("N", 4)), dlc.input("y", ("N",), "int64")
    return model, [x, y], nn.functional.cross_entropy(model(x.astype("bfloat16")).astype("float32"), y)


@small("Checkpointed blocks")
def _():
    blocks = [nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(3)]
    x = dlc.input("x", ("N", 4))
    y = x
    for block in blocks:
        y = y + dlc.checkpoint(block, y)
    return nn.Sequential(*blocks), [x], dlc.square(y - 1).mean()
