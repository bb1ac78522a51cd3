"""WIDER FACE evaluation step by step, as the authors' program goes: the slow peer of harness.metrics.widerface."""

import numpy as np


def evaluate(found, truth):
    """APs (3,) of rows x, y, width, height, score against Faces."""
    scores = [s for rows in found for s in rows[:, 4]]
    high, low = max([0.0, *scores]), min([1.0, *scores])
    with np.errstate(divide="ignore", invalid="ignore"):
        stretched = [np.column_stack([rows[:, :4], (rows[:, 4] - low) / (high - low)]) for rows in found]
        return np.array([setting(stretched, truth, s) for s in range(3)])


def setting(found, truth, s):
    curve, faces = np.zeros((1000, 2)), 0
    for rows, labelled in zip(found, truth, strict=True):
        counts = labelled.counted[s]
        faces += counts.sum()
        if len(rows) == 0 or len(counts) == 0:
            continue
        recall, proposal = match(rows, labelled.boxes, counts)
        curve += picture(rows, recall, proposal)
    precision, recalled = curve[:, 1] / curve[:, 0], curve[:, 1] / faces
    return area(recalled, precision)


def match(rows, boxes, counts):
    """Faces found so far after each row, and 1 or -1 for each row that is a proposal or not."""
    state = np.zeros(len(boxes))
    recall, proposal = np.zeros(len(rows)), np.ones(len(rows))
    overlap = iou(rows[:, :4], boxes)
    for h in range(len(rows)):
        best, g = overlap[h].max(), overlap[h].argmax()
        if best >= 0.5:
            if not counts[g]:
                state[g] = proposal[h] = -1
            elif state[g] == 0:
                state[g] = 1
        recall[h] = len(np.where(state == 1)[0])
    return recall, proposal


def iou(rows, boxes):
    a = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1)[:, None]
    b = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)[None]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    inner = np.where((size > 0).all(-1), size[..., 0] * size[..., 1], 0.0)
    both = ((c[..., 2:] - c[..., :2] + 1).prod(-1) for c in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(inner > 0, inner / (sum(both) - inner), 0.0)


def picture(rows, recall, proposal):
    """(proposals, faces found) at each threshold."""
    out = np.zeros((1000, 2))
    for t in range(1000):
        reached = np.where(rows[:, 4] >= 1 - (t + 1) / 1000)[0]
        if len(reached):
            last = reached[-1]
            out[t] = len(np.where(proposal[: last + 1] == 1)[0]), recall[last]
    return out


def area(recall, precision):
    edges = [0.0, *recall, 1.0]
    envelope = np.array([0.0, *precision, 0.0])
    for i in range(len(envelope) - 1, 0, -1):
        envelope[i - 1] = np.maximum(envelope[i - 1], envelope[i])
    return sum((b - a) * p for a, b, p in zip(edges, edges[1:], envelope[1:], strict=False) if a != b)


def crowd(images, detections, seed=0):
    """(rows, truth) of pictures with about 12 faces each, half of the detections near one."""
    from harness.metrics.widerface import Faces

    state = np.random.RandomState(seed)
    found, truth = [], []
    for _ in range(images):
        n = 1 + state.poisson(11)
        boxes = np.hstack([state.randint(0, 900, (n, 2)), state.randint(5, 120, (n, 2))]).astype(float)
        hard = state.random_sample(n) < 0.8
        medium = hard & (state.random_sample(n) < 0.5)
        truth.append(Faces(boxes, np.stack([medium & (state.random_sample(n) < 0.6), medium, hard])))
        near = boxes[state.randint(0, n, detections // 2)]
        near = near + state.standard_normal(near.shape) * 0.1 * near[:, 2:].max(1, keepdims=True)
        far = np.hstack(
            [state.randint(0, 900, (detections - len(near), 2)), state.randint(5, 120, (detections - len(near), 2))]
        )
        rows = np.floor(np.vstack([near, far]))
        rows[:, 2:] = rows[:, 2:].clip(min=1)
        scores = np.sort(state.random_sample(detections) ** 3 * 0.97 + 0.02)[::-1].astype(np.float32)
        found.append(np.column_stack([rows[state.permutation(detections)], scores.astype(float)]))
    return found, truth
