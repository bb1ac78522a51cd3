"""Pictures and network outputs drawn from a seed, with which the work of the host is timed."""

import cv2
import numpy as np

from harness.arrays import boxes
from harness.models import gfocalv2


def picture(height, width, seed=0):
    """BGR, smooth with some noise, so that it compresses like a photograph."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (height // 40 + 2, width // 40 + 2, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + random.randint(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def street(seed, faces, candidates):
    """loc, conf, landm as the network gives them for a crowd: each face lights up the priors around it, which agree on
    it within a tenth of its size; some of what lights up is no face."""
    random = np.random.RandomState(seed)
    priors = boxes.priors(1000, 1000)
    conf = np.full((len(priors), 2), 0.999, np.float32)
    conf[:, 1] = 0.001
    loc = (0.3 * random.standard_normal((len(priors), 4))).astype(np.float32)
    landm = random.standard_normal((len(priors), 10)).astype(np.float32)
    sizes = np.exp(random.normal(np.log(0.022), 0.35, faces)).clip(0.01, 0.4)
    centres = np.stack((random.uniform(0, 1, faces), random.uniform(0.1, 0.75, faces)), axis=1)
    near = np.abs(priors[None, :, :2] - centres[:, None]).max(axis=2) / sizes[:, None]
    fit = near + np.abs(np.log(priors[None, :, 2] / sizes[:, None]))
    owner, distance = fit.argmin(axis=0), fit.min(axis=0)
    lit = np.argsort(distance)[:candidates]
    conf[lit, 1] = (0.021 + 0.97 * np.exp(-3 * distance[lit]) * random.uniform(0.3, 1, candidates)).clip(0.021, 0.999)
    wide = sizes[owner[lit]] * np.exp(0.1 * random.standard_normal(candidates))
    at = centres[owner[lit]] + 0.1 * sizes[owner[lit], None] * random.standard_normal((candidates, 2))
    loc[lit, :2] = (at - priors[lit, :2]) / (0.1 * priors[lit, 2:])
    loc[lit, 2:] = np.log(wide[:, None] / priors[lit, 2:]) / 0.2
    return loc, conf, landm


def heads(seed, objects):
    """Score and box maps as the network gives them for a picture: each object lights up some cells around it in one or
    two levels, best in its own class; all other scores are small."""
    random = np.random.RandomState(seed)
    sizes = [(-(-800 // stride), -(-1216 // stride)) for stride in gfocalv2.STRIDES]
    scores = [(0.02 * random.random_sample((81, *size))).astype(np.float32) for size in sizes]
    logits = [random.standard_normal((68, *size)).astype(np.float32) for size in sizes]
    for _ in range(objects):
        level, label = random.choice(5, p=(0.4, 0.3, 0.15, 0.1, 0.05)), random.randint(80)
        height, width = sizes[level]
        y, x = random.randint(height), random.randint(width)
        for dy, dx in np.ndindex(3, 3):
            cell = min(y + dy, height - 1), min(x + dx, width - 1)
            scores[level][(label, *cell)] = random.uniform(0.06, 0.9)
            scores[level][(random.randint(80), *cell)] = random.uniform(0.03, 0.1)
            logits[level][(random.randint(2, 8) + 17 * np.arange(4), *cell)] += 6
    return scores, logits
