"""Shapes and figures against pixels worked out by hand, and the border of the picture."""

import numpy as np
import pytest

from harness.datasets import drawing
from harness.datasets.drawing import Dice

INK = (1, 2, 3)
FIGURES = (
    drawing.face, drawing.person, drawing.car, drawing.traffic_light, drawing.ball, drawing.bottle, drawing.cup,
    drawing.chair, drawing.screen, drawing.clock,
)  # fmt: skip


def canvas(height=6, width=8):
    return np.zeros((height, width, 3), np.uint8)


def inked(image):
    """The picture as text: # where it is drawn on."""
    return ["".join("#" if pixel.any() else "." for pixel in row) for row in image]


def test_a_rectangle_covers_its_box_and_is_cut_at_the_border():
    image = canvas(4, 5)
    drawing.rectangle(image, (3, -1, 9, 3), INK)

    assert inked(image) == ["...##", "...##", ".....", "....."]
    assert image[0, 4].tolist() == list(INK)


def test_an_ellipse_of_radius_2_is_the_known_diamond():
    """Half widths are floor(sqrt(4 - dy^2)): 0, 1, 2, 1, 0."""
    image = canvas(6, 6)
    drawing.ellipse(image, (0, 0, 4, 4), INK)

    assert inked(image) == ["..#...", ".###..", "#####.", ".###..", "..#...", "......"]


def test_a_trapezoid_narrows_row_by_row():
    image = canvas(4, 8)
    drawing.trapezoid(image, 0, 4, (0, 8), (3, 5), INK)

    assert inked(image) == ["########", ".######.", "..####..", "...##..."]


@pytest.mark.parametrize("percent", [0, 50, 100, 200])
def test_a_shade_is_a_percentage_that_ends_at_white(percent):
    assert drawing.shade((10, 100, 200), percent) == tuple(min(255, c * percent // 100) for c in (10, 100, 200))


def test_dice_reach_both_ends_and_nothing_beyond():
    dice = Dice(0)

    assert {dice.throw(3, 5) for _ in range(100)} == {3, 4, 5}
    assert {c for _ in range(100) for c in dice.colour(7, 8)} == {7, 8}
    assert set(dice.grain((50, 50), 4).ravel()) == {0, 1, 2, 3}


def test_dice_of_one_seed_throw_the_same():
    assert [Dice(5).throw(0, 10**6) for _ in range(2)] == [np.random.RandomState(5).randint(0, 10**6 + 1)] * 2


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_a_figure_is_drawn_inside_its_box(figure):
    """But for a tenth of its height: hair above a face, the rim of a cup."""
    width, height = (90, 45) if figure is drawing.car else (60, 80)
    image = np.full((140, 160, 3), 77, np.uint8)
    figure(image, (30, 20, width, height), Dice(1))

    drawn = np.argwhere((image != 77).any(axis=2)) - (20, 30)
    (top, left), (bottom, right) = drawn.min(axis=0), drawn.max(axis=0)
    slack = height // 10
    assert len(drawn) > width * height / 4
    assert -slack <= top < height / 4
    assert -slack <= left < width / 4
    assert height * 3 / 4 < bottom <= height + slack
    assert width * 3 / 4 < right <= width + slack


@pytest.mark.parametrize("box", [(-20, -30, 60, 60), (60, 40, 60, 60), (-5, -5, 200, 200)])
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_a_figure_may_reach_over_the_border(figure, box):
    image = canvas(64, 80)
    figure(image, box, Dice(2))

    assert image.any()
    assert image.shape == (64, 80, 3)


def test_a_texture_is_the_seeds_alone():
    one, again, other = (drawing.texture(50, 40, Dice(seed)) for seed in (3, 3, 4))

    assert one.shape == (40, 50, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
