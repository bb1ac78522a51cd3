"""Copies of baselines/ with a planted fault."""


def spoil(directory, name, old, new, count=1):
    path = directory / name
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{name} has no {old}"
    path.write_text(text.replace(old, new, count), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1
