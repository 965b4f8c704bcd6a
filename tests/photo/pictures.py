"""Pictures made in the tests: smooth colours, hand-made PNG chunks, EXIF of any orientation."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def colours(height=40, width=60):
    """A picture without symmetry: red grows to the right, green downwards, blue marks a corner."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    blue = np.where((x < width / 3) & (y < height / 3), 200, 40)
    return np.stack([x / width * 255, y / height * 255, blue], -1).astype(np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, name: str, data) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def save(folder: Path, name: str, image, **options) -> Path:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    path = folder / name
    image.save(path, **options)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, rows=(), before=(), after=()):
    """A PNG put together by hand: `before` and `after` are chunks around the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return PNG_MAGIC + header + b"".join(before) + body + b"".join(after) + chunk(b"IEND", b"")


def bomb_png(side):
    """A PNG of side x side zero bits, as small as zlib makes it."""
    row = b"\0" + bytes((side + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# displayed pixels -> stored pixels, written out independently of the product's table
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.flipud(np.fliplr(a)),
    4: np.flipud,
    5: lambda a: np.transpose(a, (1, 0, 2)),
    6: lambda a: np.flipud(np.transpose(a, (1, 0, 2))),
    7: lambda a: np.flipud(np.fliplr(np.transpose(a, (1, 0, 2)))),
    8: lambda a: np.fliplr(np.transpose(a, (1, 0, 2))),
}


def exif(orientation=None, size=None, film=None, focal=None, plane=None):
    """EXIF with orientation, pixel size (width, height), focal lengths in mm, plane (px, unit)."""
    data = Image.Exif()
    if orientation is not None:
        data[0x0112] = orientation
    sub = data.get_ifd(0x8769)
    if size is not None:
        sub[0xA002], sub[0xA003] = size
    if film is not None:
        sub[0xA405] = film
    if focal is not None:
        sub[0x920A] = focal
    if plane is not None:
        sub[0xA20E], sub[0xA20F], sub[0xA210] = plane[0], plane[0], plane[1]
    return data
