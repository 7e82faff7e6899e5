"""Layers and networks. Names, defaults and weight layouts are torch's, so that its weights load."""

from dlc.frontend import initialisers
from dlc.frontend.nn import functional
from dlc.frontend.nn.activations import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from dlc.frontend.nn.container import Flatten, Sequential
from dlc.frontend.nn.convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from dlc.frontend.nn.dropout import Dropout
from dlc.frontend.nn.embedding import Embedding
from dlc.frontend.nn.linear import Linear
from dlc.frontend.nn.module import Module
from dlc.frontend.nn.normalisation import BatchNorm1d, BatchNorm2d, LayerNorm
from dlc.frontend.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from dlc.frontend.nn.recurrent import LSTM
from dlc.frontend.parameter import Buffer, Parameter

__all__ = [
    "ELU",
    "GELU",
    "LSTM",
    "SELU",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MaxPool2d",
    "Mish",
    "Module",
    "PReLU",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "functional",
    "initialisers",
]
