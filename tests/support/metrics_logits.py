"""Predictions of a classifier, made of logits."""


def predicted(logits):
    return [{"logits": row} for row in logits]
