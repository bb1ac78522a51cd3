"""How many images a verdict rests on: part of a data set that is asked until the verdict is known, or all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.judge.stats import confidence_at, spent


@dataclass(frozen=True)
class Sampled:
    """The `look` at a verdict, counted from 1, and how many images there are: `of`; 0 means that all were asked.

    `limit` is that of --limit. `image_s` is the seconds that one more image takes, on the chip and on the reference; 0
    where that is not known."""

    look: int = 1
    of: int = 0
    limit: int | None = None
    image_s: float = 0.0

    def share(self, images: int) -> float:
        """Share of the allowed error that this look may spend, after that many images."""
        return spent(self.look, last=images >= self.of)

    def confidence(self, images: int) -> float:
        """Confidence of the one-sided bounds of a drop at this look."""
        return confidence_at(self.share(images))

    def details(self, images: int) -> dict[str, Any]:
        """Facts for the record, from which `again` makes the same."""
        return {"look": self.look, "images_of": max(self.of, images)}

    def told(self, images: int) -> str:
        """The same for the text of a verdict; "" where all images were looked at once."""
        if self.look == 1 and self.of <= images:
            return ""
        return f"; look {self.look}, at {images} of {max(self.of, images)} images"

    def lacks(self, more: int | None) -> dict[str, Any]:
        """The number of further images that would decide, and their seconds where those are known, for the record."""
        seconds = {"needed_s": more * self.image_s} if more and self.image_s else {}
        return {"needed": more, **seconds}

    def wanted(self, more: int | None) -> str:
        """The same as the end of a sentence. None: no number of images would."""
        if not more:
            return "too close to what is allowed for any number to decide"
        seconds = more * self.image_s
        takes = f" ({seconds:.3g} s)" if seconds < 3600 else f" ({seconds / 3600:,.0f} h)"
        option = f": --limit {self.limit + more}" if self.limit is not None else ""
        return f"about {more} more images{takes if seconds else ''} would decide{option}"


ALL = Sampled()  # one look, at all images


def again(values: Mapping[str, float | None]) -> Sampled:
    """The look of a record, from its values. Records of versions before looks have none: all images were asked."""
    return Sampled(int(values.get("look") or 1), int(values.get("images_of") or 0))
