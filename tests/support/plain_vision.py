"""The arithmetic of pictures and boxes once more, one number at a time: slow, plain, written apart from the suite's."""

import math

import numpy as np

F32 = np.float32


def nearest(image, scale):
    """Each pixel of the result looks up one of the source."""
    height, width = image.shape[:2]
    new_height, new_width = round(height * scale), round(width * scale)
    out = np.zeros((new_height, new_width, 3), np.uint8)
    for y in range(new_height):
        for x in range(new_width):
            out[y, x] = image[min(math.floor(y * (1 / scale)), height - 1), min(math.floor(x * (1 / scale)), width - 1)]
    return out


def bilinear(image, height, width):
    """float64; a pixel's value lies at its middle, and the border goes on outwards."""

    def taps(new, old):
        for index in range(new):
            at = min(max((index + 0.5) * old / new - 0.5, 0), old - 1)
            low = min(int(at), max(old - 2, 0))
            yield low, min(low + 1, old - 1), at - low

    out = np.zeros((height, width, image.shape[2]))
    for y, (y0, y1, fy) in enumerate(taps(height, image.shape[0])):
        for x, (x0, x1, fx) in enumerate(taps(width, image.shape[1])):
            upper = (1 - fx) * image[y0, x0] + fx * image[y0, x1]
            lower = (1 - fx) * image[y1, x0] + fx * image[y1, x1]
            out[y, x] = (1 - fy) * upper + fy * lower
    return out


def area(image, height, width):
    """float64; each pixel of the result is the mean of what it covers. Only for shrinking."""

    def shares(index, new, old):
        low, high = index * old / new, (index + 1) * old / new
        for source in range(int(low), min(math.ceil(high), old)):
            yield source, min(high, source + 1) - max(low, source)

    out = np.zeros((height, width, image.shape[2]))
    for y in range(height):
        for x in range(width):
            for sy, wy in shares(y, height, image.shape[0]):
                for sx, wx in shares(x, width, image.shape[1]):
                    out[y, x] += wy * wx * image[sy, sx].astype(float)
            out[y, x] /= (image.shape[0] / height) * (image.shape[1] / width)
    return out


def antialiased(image, height, width, bicubic):
    """Pillow's resampling in whole numbers: weights are multiples of 2**-22, each direction is rounded to bytes."""

    def hat(x):
        return max(0.0, 1 - abs(x))

    def cubic(x):
        x = abs(x)
        if x < 1:
            return (1.5 * x - 2.5) * x * x + 1
        return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0

    kernel, reach = (cubic, 2.0) if bicubic else (hat, 1.0)

    def across(rows, new):
        old = rows.shape[1]
        if new == old:
            return rows
        ratio = old / new
        spread = max(ratio, 1.0)
        out = np.zeros((rows.shape[0], new, rows.shape[2]), np.uint8)
        for index in range(new):
            centre = (index + 0.5) * ratio
            low = max(int(centre - reach * spread + 0.5), 0)
            high = min(int(centre + reach * spread + 0.5), old)
            weights = [kernel((source - centre + 0.5) * (1.0 / spread)) for source in range(low, high)]
            total = 0.0
            for weight in weights:
                total += weight
            whole = [int(math.copysign(0.5, w) + w / total * (1 << 22)) for w in weights]
            for row in range(rows.shape[0]):
                for channel in range(rows.shape[2]):
                    value = 1 << 21
                    for source, weight in enumerate(whole, low):
                        value += int(rows[row, source, channel]) * weight
                    out[row, index, channel] = min(max(value >> 22, 0), 255)
        return out

    wide = across(image, width)
    return across(wide.transpose(1, 0, 2), height).transpose(1, 0, 2)


def iou(a, b, extent):
    """float32, in the order in which the authors' programs compute it."""
    more, zero = F32(extent), F32(0)
    wide = max(zero, min(a[2], b[2]) - max(a[0], b[0]) + more)
    high = max(zero, min(a[3], b[3]) - max(a[1], b[1]) + more)
    inter = wide * high
    areas = (a[2] - a[0] + more) * (a[3] - a[1] + more) + (b[2] - b[0] + more) * (b[3] - b[1] + more)
    return inter / (areas - inter) if inter else zero


def survivors(boxes, threshold, extent):
    """Ranks kept of boxes sorted best first."""
    kept = []
    for rank, box in enumerate(boxes):
        if all(iou(boxes[better], box, extent) <= F32(threshold) for better in kept):
            kept.append(rank)
    return kept


def nms(boxes, scores, threshold):
    """Indices kept, best first; of equal scores the later first."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i), reverse=True)
    return [order[rank] for rank in survivors(boxes[order], threshold, 1)]


def multiclass_nms(boxes, scores, score_threshold, iou_threshold, limit):
    """(row, label) kept, best first, classes one after the other and then together; an IoU at the threshold removes."""
    kept = []
    for label in range(scores.shape[1]):
        rows = [row for row in range(len(boxes)) if scores[row, label] > F32(score_threshold)]
        rows.sort(key=lambda row: -scores[row, label])
        chosen = []
        for row in rows:
            if all(iou(boxes[other], boxes[row], 0) < F32(iou_threshold) for other in chosen):
                chosen.append(row)
        kept += [(row, label) for row in chosen]
    kept.sort(key=lambda pair: -scores[pair])
    return kept[:limit]


def encode(priors, boxes):
    """float64 loc (n, 4) that says `boxes` relative to `priors`."""
    priors, boxes = priors.astype(float), boxes.astype(float)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = (centres - priors[:, :2]) / (0.1 * priors[:, 2:])
    return np.hstack((offsets, np.log(sizes / priors[:, 2:]) / 0.2))


def decode(priors, loc):
    """One prior at a time, float64."""
    out = []
    for (cx, cy, w, h), (a, b, c, d) in zip(priors.tolist(), loc.tolist(), strict=True):
        x, y = cx + a * 0.1 * w, cy + b * 0.1 * h
        wide, high = w * math.exp(c * 0.2), h * math.exp(d * 0.2)
        out.append((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2))
    return np.array(out).reshape(-1, 4)


def priors(height, width):
    """float64, one at a time."""
    out = []
    for step, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for row in range(math.ceil(height / step)):
            for column in range(math.ceil(width / step)):
                for side in sides:
                    out.append(
                        ((column + 0.5) * step / width, (row + 0.5) * step / height, side / width, side / height)
                    )
    return np.array(out)


def integral(logits):
    """float64 mean of a distribution over 0..16 whose logits these are."""
    top = max(logits)
    weights = [math.exp(value - top) for value in logits]
    return sum(i * w for i, w in enumerate(weights)) / sum(weights)
