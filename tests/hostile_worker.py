"""Loads files with little memory, one a line: what came of each, or of what is not a `DlcError`, begins "escaped"."""

import resource
import sys
import warnings

import numpy as np

import dlc
from dlc import nn, optim
from dlc.errors import DlcError

trainers: list[dlc.Trainer] = []


def weights(path: str) -> None:
    dlc.load(nn.Sequential(nn.Linear(3), nn.BatchNorm1d(), nn.Linear(2)), path)


def checkpoint(path: str) -> None:
    if not trainers:
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        trainers.append(dlc.Trainer(model, "cross_entropy", optim.Adam(1e-2), backend="reference"))
        trainers[0].build(np.zeros((2, 4), "f"), np.zeros(2, "int64"))
    trainers[0].load(path)


def onnx(path: str) -> None:
    graph = dlc.onnx.load(path)
    dlc.passes.verify(graph)
    str(graph)


def graph(path: str) -> None:
    with open(path, "rb") as file:
        found = dlc.graph_from_json(file.read())
    dlc.passes.verify(found)
    str(found)


KINDS = {"weights": weights, "checkpoint": checkpoint, "onnx": onnx, "graph": graph}


def outcome(kind: str, path: str) -> str:
    try:
        KINDS[kind](path)
    except DlcError as error:
        text = str(error).partition("\n  at ")[0]
        plain = all(c.isprintable() or c == "\n" for c in text) and len(text) < 20_000
        return type(error).__name__ if plain else "escaped with text that is not plain: " + ascii(text[:300])
    except BaseException as error:
        return "escaped: " + ascii(f"{type(error).__name__}: {error}"[:300])
    return "accepted"


def main() -> None:
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(outcome(*line.rstrip("\n").split(" ", 1)), flush=True)


if __name__ == "__main__":
    main()
