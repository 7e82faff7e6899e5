"""Passes: plain functions from graph to graph, and the means to write your own.

A rewrite rule is a pattern and a replacement, both written in the DSL; `rewriter` makes a pass of rules; `PIPELINE` is
the order that `dlc.compile` uses, and `pipeline=` takes one of your own.
"""

from dlc.passes.autodiff import autodiff, gradients
from dlc.passes.batching_rules import batching_rule
from dlc.passes.bind import bind_ambients, specialise
from dlc.passes.constant_folding import constant_folding
from dlc.passes.dead_code import dead_code
from dlc.passes.driver import Record, run_pipeline
from dlc.passes.fuse import fuse
from dlc.passes.halves import halves
from dlc.passes.inline_calls import inline_calls
from dlc.passes.merge_scans import merge_scans
from dlc.passes.pipeline import PIPELINE, Pass, Pipeline
from dlc.passes.rewrite import Rewriter, Rule, anything, rewriter, rule
from dlc.passes.simplify import simplify
from dlc.passes.verify import verify

__all__ = [
    "PIPELINE",
    "Pass",
    "Pipeline",
    "Record",
    "Rewriter",
    "Rule",
    "anything",
    "autodiff",
    "batching_rule",
    "bind_ambients",
    "constant_folding",
    "dead_code",
    "fuse",
    "gradients",
    "halves",
    "inline_calls",
    "merge_scans",
    "rewriter",
    "rule",
    "run_pipeline",
    "simplify",
    "specialise",
    "verify",
]
