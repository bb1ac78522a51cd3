"""Predictions and labels of a face."""

import numpy as np


def one_face(score=0.9, box=(10, 10, 30, 30)):
    x, y, w, h = box
    return {"boxes": np.array([[x, y, x + w, y + h]], np.float32), "scores": np.array([score], np.float32)}
