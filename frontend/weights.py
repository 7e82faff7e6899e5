"""Weights in and out: safetensors files with torch's names and layouts."""

from __future__ import annotations

import os
from typing import TypeVar

from dlc.errors import FileFormatError, listed
from dlc.frontend.checkpoint import PathLike, is_checkpoint, read_arrays, write_arrays
from dlc.frontend.nn.module import Module
from dlc.provenance import here

M = TypeVar("M", bound=Module)


def save(model: Module, path: PathLike) -> None:
    """Write all parameters and buffers of `model` into a safetensors file; `path` is replaced all or nothing.

    Raises `GraphError` where a shape is still open: trace the model first; `MissingFolderError` for no such folder.

    >>> import tempfile, dlc
    >>> from dlc import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dlc.save(nn.Linear(4, 2), folder + "/linear.safetensors")
    ...     dlc.load(nn.Linear(2), folder + "/linear.safetensors").weight.shape
    (2, 4)
    """
    write_arrays(path, model.state_dict())


def load(model: M, path: PathLike, strict: bool = True) -> M:
    """Read a safetensors file into `model`, which is returned; shapes that are still open are taken from the file.

    Nothing is changed unless everything fits. Raises `FileFormatError` for a damaged file, and listing what is missing,
    unexpected or of another shape; with ``strict=False`` missing and unexpected names are passed over.
    """
    arrays, metadata = read_arrays(path)
    if is_checkpoint(metadata):
        raise FileFormatError(
            f"{os.fspath(path)!r} is a checkpoint of a trainer, not weights alone; read it with trainer.load(path), "
            "then trainer.model has the weights, and dlc.save(trainer.model, path) writes them alone",
            where=here(),
        )
    problems = model.misfits(arrays, strict)
    if problems:
        raise FileFormatError(
            f"{os.fspath(path)!r} does not fit the model {type(model).__name__}:{listed(problems)}", where=here()
        )
    model.load_state_dict(arrays, strict)
    return model
