"""Pictures and network outputs drawn from seeds alone, so that the authors' programs could be given the same ones."""

import zlib

import numpy as np

PICTURES = {"A": (375, 500, 11), "B": (683, 451, 12), "C": (120, 90, 13)}  # height, width, seed

ASCEND_FACES = {"img0": (2001, 1000 / 1024), "img1": (2002, 1000 / 451)}  # seed, scale
MLU_FACES = {"img0": (2011, 768, 1024), "img1": (2012, 1024, 683), "img2": (2013, 333, 500)}  # seed, height, width
AUTHORS_FACES = (2021, 160)  # seed, side of the network's input

LEVELS = ((32, 40), (16, 20), (8, 10), (4, 5), (2, 3))
RESIZED, RATIO = (250, 317), (0.625, 0.626)  # of GFocal's imagined picture: height, width; scale in x, y


def picture(name):
    """uint8 BGR: two gradients and a diagonal one under a chequer of 7 x 11, with noise."""
    height, width, seed = PICTURES[name]
    y, x = np.indices((height, width))
    chequer = 40 * ((x // 7 + y // 11) % 2)
    ramps = np.dstack((255 * x // (width - 1), 255 * y // (height - 1), 3 * x + 5 * y))
    noise = np.random.RandomState(seed).randint(0, 32, size=ramps.shape)
    return ((ramps + chequer[..., None] + noise) % 256).astype(np.uint8)


def crc(array):
    """crc32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def squared(values, times):
    """values ** (2 ** times), by multiplication alone: the same bits everywhere."""
    for _ in range(times):
        values = values * values
    return values


def faces(priors, seed, squarings=7):
    """loc, conf, landm of one picture; a face is likelier the fewer the squarings."""
    draw = np.random.RandomState(seed)
    loc = (0.8 * draw.standard_normal((priors, 4))).astype(np.float32)
    face = squared(draw.random_sample(priors), squarings).astype(np.float32)
    landm = draw.standard_normal((priors, 10)).astype(np.float32)
    return loc, np.stack((np.float32(1) - face, face), axis=1), landm


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


def heads(case):
    """GFocal's score maps (81, h, w) and box logits (68, h, w), five levels each. Case 1 has more than 10,000
    candidates; but for case 2, the class that means nothing has the best score of each level."""
    draw = np.random.RandomState(6001 if case == 1 else 6000)
    scores, logits = [], []
    for level, size in enumerate(LEVELS):
        score = squared(draw.random_sample((81, *size)), 4 if case == 1 else 6).astype(np.float32)
        score[80] = 0 if case == 2 else score[80]
        if case != 2:
            score[80, 0, 0] = 0.999 - 0.0005 * level
        scores.append(score)
        logits.append((2.0 * draw.standard_normal((68, *size))).astype(np.float32))
    return scores, logits


def distributions():
    """(50, 68) float32 logits for the integral."""
    return (3 * np.random.RandomState(6100).standard_normal((50, 68))).astype(np.float32)
