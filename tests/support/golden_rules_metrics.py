"""Predictions and labels drawn from a seed alone, on which the authors' evaluation programs were run."""

import zlib

import numpy as np

from harness.metrics.coco import Objects

VARIANTS = (  # jitter, chance to be found, most false ones, one image in how many is empty, decimals, best first
    (0.04, 0.85, 3, 0, 6, True),
    (0.10, 0.70, 6, 7, 6, True),
    (0.06, 0.80, 4, 11, 2, False),
)
CATEGORIES = (1, 2, 4, 7, 90)


def draw(seed):
    return np.random.RandomState(seed)


def faces(truth, variant):
    """Rows x, y, width, height, score of each image: some of its faces moved, and some that are none."""
    jitter, chance, most_false, empty, decimals, best_first = VARIANTS[variant]
    found = []
    for k, (sample, labelled) in enumerate(truth.items()):
        if empty and k % empty == 0:
            found.append(np.zeros((0, 5)))
            continue
        state = draw(zlib.crc32(f"{variant}|{sample.replace('/', '|')}".encode()))
        hits = labelled.boxes[state.random_sample(len(labelled.boxes)) < chance]
        hits = hits + state.standard_normal(hits.shape) * jitter * hits[:, 2:].max(1, keepdims=True)
        sure = 1 / (1 + np.exp(-(1.5 + 1.5 * state.standard_normal(len(hits)))))
        n = state.randint(0, most_false + 1)
        places = state.random_sample((n, 2)) * 900
        sizes = 8 + state.random_sample((n, 2)) * 120
        unsure = 1 / (1 + np.exp(-(-1.0 + 1.5 * state.standard_normal(n))))
        boxes = np.floor(np.vstack([hits, np.hstack([places, sizes])]))
        boxes[:, 2:] = boxes[:, 2:].clip(min=1)
        rows = np.column_stack([boxes, np.round(np.concatenate([sure, unsure]), decimals)])
        found.append(rows[np.argsort(-rows[:, 4], kind="stable")] if best_first else rows)
    return found


def face_parts():
    """Corner boxes (40, 4) and (15, 4); rows (40, 5); faces (14, 4) and which count; a curve's recalls, precisions."""
    state = draw(8000)

    def corners(n):
        near = np.floor(state.random_sample((n, 2)) * 200)
        return np.hstack([near, near + np.floor(state.random_sample((n, 2)) * 90)])

    boxes, query = corners(40), corners(15)
    scores = -np.sort(-state.random_sample(40))
    sized = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    moved = sized[::3] + np.array([1, 1, 0, 0])
    counted = np.arange(len(moved)) % 4 != 0
    recall = np.sort(state.random_sample(50))
    recall[10:14] = recall[10]
    return boxes, query, np.column_stack([sized, scores]), moved, counted, recall, state.random_sample(50)


def attributes(case):
    """Labels (N, 35) of 0 and 1, and float32 logits (N, 35)."""
    state = draw(4000 + case)
    shape = ((200, 64, 50)[case], 35)
    labels = np.where(state.random_sample(shape) < 0.3, 1.0, 0.0)
    logits = (state.standard_normal(shape) + 1.2 * (2 * labels - 1)).astype(np.float32)
    if case == 1:  # nobody has anything; nothing is found; undecided
        labels[::9] = 0
        logits[::7] = -1
        logits[3::11, ::5] = 0
    if case == 2:  # an attribute that nobody has, one that everybody has
        labels[:, 4], labels[:, 9] = 0, 1
    return labels.astype(np.int8), logits


def classes():
    """float32 logits (60, 1000) and the label of each."""
    state = draw(5000)
    logits = state.standard_normal((60, 1000)).astype(np.float32)
    labels = state.randint(0, 1000, size=60)
    ranked = np.argsort(-logits, axis=1, kind="stable")
    for i in range(60):
        if i % 3:
            labels[i] = ranked[i, i % 8]
    return logits, labels


def objects():
    """(truth, predictions) of 12 images and five categories, the labels counting the categories."""
    state = draw(7000)
    images = range(101, 137, 3)
    labelled, found = {i: [] for i in images}, {i: [] for i in images}

    def box():
        x, y = state.random_sample(2) * (300, 200)
        w, h = 4 + state.random_sample(2) * (140, 120)
        return np.round([x, y, w, h], 2)

    for image in images[:-1]:
        for label in range(len(CATEGORIES)):
            for _ in range(state.randint(0, 4)):
                b = box()
                crowd = state.random_sample() < 0.1
                labelled[image].append((b, label, np.round(b[2] * b[3] * 0.8, 3), crowd))
                for _ in range(state.randint(0, 3)):
                    d = np.round(b + state.standard_normal(4) * 0.08 * max(b[2], b[3]), 2)
                    d[2:] = d[2:].clip(min=1)
                    found[image].append((d, label, np.round(state.random_sample(), 4)))
    for image in images:
        for label in range(len(CATEGORIES)):
            for _ in range(state.randint(0, 3)):
                b = box()
                found[image].append((b, label, np.round(state.random_sample() * 0.7, 4)))
    truth = [
        Objects(
            np.array([e[0] for e in labelled[i]]).reshape(-1, 4),
            np.array([e[1] for e in labelled[i]], np.int64),
            np.array([e[2] for e in labelled[i]], np.float64),
            np.array([e[3] for e in labelled[i]], bool),
        )
        for i in images
    ]
    predictions = []
    for i in images:
        entries = sorted(found[i], key=lambda e: -e[2])
        boxes = np.array([e[0] for e in entries])
        predictions.append(
            {
                "boxes": np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).astype(np.float32),
                "scores": np.array([e[2] for e in entries], np.float32),
                "labels": np.array([e[1] for e in entries], np.int64),
            }
        )
    return truth, predictions
