"""Boxes and distributions drawn from seeds alone, so that the authors' programs could be given the same ones."""

import numpy as np


def crowd(i):
    """(boxes, scores) of suppression case i of 20. Scores of 10 to 14 are sixteenths; 15 to 17 hold every box twice;
    18 holds one box; 19 holds a dozen of equal score."""
    draw = np.random.RandomState(3000 + i)
    count = {18: 1, 19: 12}.get(i, 20 + 15 * i)
    near = 400 * draw.random_sample((count, 2))
    size = 5 + 145 * draw.random_sample((count, 2))
    scores = draw.random_sample(count)
    if i in range(10, 15):
        scores = np.floor(16 * scores) / 16
    if i == 19:
        scores[:] = 0.5
    twice = 2 if i in range(15, 18) else 1
    boxes = np.hstack((near, near + size)).astype(np.float32)
    return boxes.repeat(twice, axis=0), scores.astype(np.float32).repeat(twice)


def distributions():
    """(50, 68) float32 logits for the integral."""
    return (3 * np.random.RandomState(6100).standard_normal((50, 68))).astype(np.float32)
