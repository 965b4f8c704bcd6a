"""What a file is by its first bytes, whatever it is called."""

import re

SNIFF_BYTES = 1024  # how much of the file's beginning is looked at

# Pillow's name of each readable kind (HEIF needs a package, see heif.py); everything else is
# refused before a decoder sees it
_PICTURES: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}", "BMP"),
    (rb"P[1-6fy]\s", "PPM"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "JPEG2000"),
    (rb"....ftyp(avi[fs]|m(if|sf)1.{4}(.{4}){0,6}?avi[fs])", "AVIF"),  # brand, or a further one
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "HEIF"),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb"....ftyp", "MP4 or QuickTime video"),
    (rb"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (rb"%PDF", "PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"8BPS", "Photoshop"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "a compressed archive"),
    (rb"\x80[\x02-\x05]", "a Python pickle"),
    (rb"\x93NUMPY", "a numpy array"),
    (rb"version https://git-lfs", "a Git LFS pointer"),
    (rb"(?i)\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)", "HTML"),
    (rb"(?i)\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)*<svg", "SVG"),
    (rb"\s*<\?xml", "XML"),
    (rb"\s*[\[{]\s*[\"\]}\[{\d]", "JSON"),
)
READABLE = tuple(name for _, name in _PICTURES)


def sniff(head: bytes) -> str:
    """Return what a file that begins with ``head`` looks like: one of READABLE, or in words.

    Args:
        head: the first SNIFF_BYTES bytes, fewer if the file is shorter.
    """
    if not head:
        return "an empty file"
    head = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _PICTURES + _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            return name
    return "plain text" if _is_text(head) else "unknown binary data"


def _is_text(head: bytes) -> bool:
    try:
        text = head[: SNIFF_BYTES - 4].decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\n\r\f" for c in text)
