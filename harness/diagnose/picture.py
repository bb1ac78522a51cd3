"""A picture as the network should be fed, and as mistakes feed it: changed pixels, padding, resizing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.case import Image
from harness.models.base import Prepared, Protocol

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """One image and its prepared tensor, float64 (3, H, W) = (pixels - mean) / std."""

    image: Image  # the original, BGR
    tensor: Floats
    mean: Floats  # (3, 1, 1), of pixels 0..255, in the tensor's channel order
    std: Floats
    bgr: bool  # the tensor's channel order is that of the image
    content: tuple[int, int, int, int]  # left, top, right, bottom: where the image lies in the tensor, exclusive ends
    scale: tuple[float, float]  # x, y: tensor pixels per image pixel
    origin: tuple[float, float]  # x, y of the image's corner in the tensor; negative where it was cropped
    padded_after: bool  # the padding was added after normalisation, so no pixel value corresponds to it

    @property
    def pixels(self) -> Floats:
        """The tensor before normalisation: (3, H, W), 0..255."""
        pixels: Floats = self.tensor * self.std + self.mean
        return pixels

    def within(self, tensor: Floats) -> Floats:
        """`tensor`, but with the original padding when the padding was added after normalisation."""
        if not self.padded_after:
            return tensor
        left, top, right, bottom = self.content
        whole: Floats = self.tensor.copy()
        whole[:, top:bottom, left:right] = tensor[:, top:bottom, left:right]
        return whole

    def moved(self, left: float, top: float) -> Floats:
        """The tensor with the content moved; `left` and `top` (0..1) are shares of the free columns and rows."""
        old_left, old_top, right, bottom = self.content
        height, width = self.tensor.shape[1:]
        free_x, free_y = width - (right - old_left), height - (bottom - old_top)
        if not free_x and not free_y:
            return self.tensor
        outside = np.ones((height, width), bool)
        outside[old_top:bottom, old_left:right] = False
        y, x = np.argwhere(outside)[-1]
        canvas: Floats = np.broadcast_to(self.tensor[:, y : y + 1, x : x + 1], self.tensor.shape).copy()
        to_x, to_y = int(left * free_x), int(top * free_y)
        canvas[:, to_y : to_y + bottom - old_top, to_x : to_x + right - old_left] = self.tensor[
            :, old_top:bottom, old_left:right
        ]
        return canvas

    def nearest(self, centre: float) -> Floats:
        """The tensor with its content resized from the original image by nearest neighbour. `centre` is 0.5 to align
        pixel centres (OpenCV's INTER_NEAREST_EXACT), 0 to align corners (INTER_NEAREST)."""
        xs, ys = self._sources(centre)
        return self._with(self.image[np.floor(ys + 1e-6).astype(int)][:, np.floor(xs + 1e-6).astype(int)])

    def bilinear(self) -> Floats:
        """The tensor with its content resized by bilinear interpolation of four pixels, with aligned pixel centres."""
        import cv2

        grid_x, grid_y = (g.astype(np.float32) for g in np.meshgrid(*(s - 0.5 for s in self._sources(0.5))))
        image = self.image.astype(np.float32)  # with uint8, cv2 interpolates in steps of 1/32
        return self._with(np.rint(cv2.remap(image, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)))

    def _sources(self, centre: float) -> tuple[Floats, Floats]:
        """Coordinates in the image, in pixels, of the columns and of the rows of the content."""
        height, width = self.image.shape[:2]
        left, top, right, bottom = self.content
        xs = (np.arange(left, right) + centre - self.origin[0]) / self.scale[0]
        ys = (np.arange(top, bottom) + centre - self.origin[1]) / self.scale[1]
        return np.clip(xs, 0, width - 1e-3), np.clip(ys, 0, height - 1e-3)

    def _with(self, image: NDArray[np.generic]) -> Floats:
        """The tensor with its content replaced by that of `image`, BGR pixels."""
        left, top, right, bottom = self.content
        channels = np.asarray(image, np.float64)[..., :: 1 if self.bgr else -1].transpose(2, 0, 1)
        whole: Floats = self.tensor.copy()
        whole[:, top:bottom, left:right] = (channels - self.mean) / self.std
        return whole


def picture(protocol: Protocol, image: Image) -> Picture:
    """The image as the protocol prepares it. Mean, std and channel order are measured from the prepared black, white
    and blue images, which also works for a protocol whose normalisation no chip can take over."""
    prepared = protocol.preprocess(image, False)
    height, width = protocol.size
    black, white, blue = (
        _middle(protocol.preprocess(np.full((height, width, 3), colour, np.uint8), False))
        for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0))
    )
    std = 255 / (white - black)
    frame = prepared.frame
    columns, rows = frame.width * frame.scale[0], frame.height * frame.scale[1]
    left, top = max(0, int(frame.left)), max(0, int(frame.top))
    return Picture(
        image=image,
        tensor=prepared.tensor.astype(np.float64),
        mean=(-black * std).reshape(3, 1, 1),
        std=std.reshape(3, 1, 1),
        bgr=bool(abs(blue[0] - white[0]) < abs(blue[0] - black[0])),
        content=(left, top, min(width, int(frame.left + columns + 1e-3)), min(height, int(frame.top + rows + 1e-3))),
        scale=frame.scale,
        origin=(frame.left, frame.top),
        padded_after=protocol.normalize is None,
    )


def _middle(prepared: Prepared) -> Floats:
    height, width = prepared.tensor.shape[1:]
    return prepared.tensor[:, height // 2, width // 2].astype(np.float64)
