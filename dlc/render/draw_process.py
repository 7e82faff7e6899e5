"""Draws DOT text with pygraphviz, in a process of its own, which a time limit can end.

    python draw_process.py FORMAT ENGINE < graph.dot > picture

`dlc.render.layout` runs this file; it is not imported, and imports nothing of dlc.
"""

import os
import sys


def main() -> int:
    """Read DOT on standard input, write the picture to standard output."""
    import pygraphviz

    picture = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not get into the picture
    form, engine, *settings = sys.argv[1:]
    graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode("utf-8"))
    for setting in settings:
        name, _, value = setting.partition("=")
        graph.graph_attr[name] = value
    with open(picture, "wb") as file:
        file.write(graph.draw(format=form, prog=engine))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
