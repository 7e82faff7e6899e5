"""Colours: told apart by the colour-blind, readable in grey, and never the only thing that tells two boxes apart.

Colour blindness is simulated after Vienot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of
displays by dichromats" (1999); differences are CIE 1976 distances in L*a*b*, of which about 2.3 is just noticeable.
"""

import itertools

import numpy as np
import pytest

from dlc.render import curves, dot

RGB_TO_LMS = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = RGB_TO_XYZ @ np.ones(3)
BLACK_TEXT = "#000000"

LINES = {name: style["color"] for name, style in {**dot.ROLES, **dot.PHASES}.items()}
FILLS = {name: style["fillcolor"] for name, style in {**dot.ROLES, **dot.PHASES}.items()} | {
    "kernel": dot.KERNEL["fillcolor"], "pale": dot.PALE["fillcolor"]
}  # fmt: skip


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(colour, seen="normal"):
    rgb = np.linalg.inv(RGB_TO_LMS) @ SEEN[seen] @ RGB_TO_LMS @ linear(colour)
    t = RGB_TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a, b, seen):
    return float(np.linalg.norm(lab(a, seen) - lab(b, seen)))


def near_pairs(colours, seen, limit):
    """Pairs of colours that are too near to each other, with their distance."""
    pairs = itertools.combinations(colours, 2)
    return {pair: d for pair in pairs if (d := distance(*pair, seen)) < limit}


def contrast(a, b):
    """The contrast ratio of WCAG 2, by relative luminance: what grey print keeps."""
    lighter, darker = sorted((float(RGB_TO_XYZ[1] @ linear(c)) for c in (a, b)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_simulation_knows_a_pair_that_the_colour_blind_confuse():
    """Red and the dark yellow that deuteranopes see it as; grey stays grey for everyone."""
    assert distance("#FF0000", "#A39000", "deuteranopia") < 10 < 60 < distance("#FF0000", "#A39000", "normal")
    assert all(distance("#808080", "#808080", seen) == 0 for seen in SEEN)
    assert all(abs(lab("#808080", seen) - lab("#808080")).max() < 1 for seen in SEEN)


@pytest.mark.parametrize("seen", SEEN)
def test_lines_are_told_apart(seen):
    assert not near_pairs(sorted(set(LINES.values())), seen, 12)


@pytest.mark.parametrize("seen", SEEN)
def test_fills_are_told_apart_where_shapes_are_not(seen):
    columns = [FILLS[name] for name in ("forward", "backward", "update", "kernel")]
    assert not near_pairs(columns, seen, 5)


def test_what_has_one_shade_of_grey_has_another_shape_or_line():
    styles = {**dot.ROLES, **dot.PHASES}
    for a, b in itertools.combinations(styles, 2):
        shades = [abs(lab(styles[a][key])[0] - lab(styles[b][key])[0]) for key in ("color", "fillcolor")]
        form = [[styles[n].get(key) for key in ("shape", "style", "peripheries", "penwidth")] for n in (a, b)]
        assert max(shades) >= 10 or form[0] != form[1], (a, b, shades)
    forms = [(s.get("style"), s.get("arrowhead")) for kind, s in dot.EDGES.items() if kind != "pale"]
    assert len(set(forms)) == len(forms)  # arrows: solid, dashed, bold, dotted


@pytest.mark.parametrize("name", FILLS)
def test_text_is_read_on_every_fill(name):
    ink = dot.PALE["fontcolor"] if name == "pale" else BLACK_TEXT
    assert contrast(ink, FILLS[name]) >= (4.5 if name == "pale" else 7)


@pytest.mark.parametrize("name", LINES)
def test_frames_and_arrows_are_seen_on_white_paper(name):
    assert contrast(LINES[name], "#FFFFFF") >= 1.9


@pytest.mark.parametrize("seen", SEEN)
def test_curves_of_neighbouring_panels_are_told_apart(seen):
    assert min(distance(a, b, seen) for a, b in itertools.pairwise(curves.COLOURS)) >= 12
