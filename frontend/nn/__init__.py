"""Layers and networks. Names, defaults and weight layouts are torch's, so that its weights load."""

from dlc.frontend import initialisers
from dlc.frontend.nn import functional
from dlc.frontend.nn.activations import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from dlc.frontend.nn.container import Flatten, Sequential
from dlc.frontend.nn.convolution import Conv2d
from dlc.frontend.nn.dropout import Dropout
from dlc.frontend.nn.embedding import Embedding
from dlc.frontend.nn.linear import Linear
from dlc.frontend.nn.module import Module
from dlc.frontend.nn.normalisation import BatchNorm1d, BatchNorm2d, LayerNorm
from dlc.frontend.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from dlc.frontend.nn.recurrent import LSTM
from dlc.frontend.parameter import Buffer, Parameter

__all__ = [
    "GELU",
    "LSTM",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "initialisers",
]
