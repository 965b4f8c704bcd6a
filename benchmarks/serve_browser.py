"""The demo page of featmesh serve in headless Chromium: drop photos, see the mesh, turn it.

A photo, a second one onto the first one's result, a file and a folder that are no photos, a third
photo. Needs ``chromium`` (Debian: apt install chromium). Starts the server by itself, writes
screenshots and exits with 1 where something is not as it should be.
"""

import argparse
import json
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from browser import PATIENCE_S, Browser, browser, page_of

ABOVE, FRAME = (600.0, 100.0), (600.0, 500.0)  # places of the page
ANSWERED = "/answered|bad/.test(told.textContent + told.className)"
# what a result page shows of its photo: the mesh's scene, the numbers but for times, the photo
SHOWN = """(() => {
  const parsed = () => new DOMParser().parseFromString(text, "text/html");
  const page = typeof text === "string" ? parsed() : document;
  const rows = [...page.querySelectorAll("tr")].map(row => row.textContent.trim());
  return JSON.stringify({
    name: page.querySelector("h1,h2").textContent.trim(),
    scenes: page.getElementById("scenes").textContent,
    rows: rows.filter(row => !row.startsWith("Seconds")),
    photo: page.querySelector('img[alt="Photo"]').src,
  });
})()"""
# box of the mesh on the canvas: the photos are grey, the mesh is blue, so is an axis, which is thin
DRAWN = """(() => {
  const canvas = document.querySelector("canvas"), w = canvas.width, h = canvas.height;
  const d = canvas.getContext("2d").getImageData(0, 0, w, h).data;
  const xs = Array(w).fill(0), ys = Array(h).fill(0), thin = 10;
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
    const k = 4 * (y * w + x);
    if (d[k + 2] - d[k] > 40 && d[k + 1] - d[k] > 15) { xs[x]++; ys[y]++; }
  }
  const first = v => v.findIndex(n => n > thin), last = v => v.findLastIndex(n => n > thin) + 1;
  return [first(xs), first(ys), last(xs), last(ys), w, h];
})()"""


class Demo:
    """The demo page as a person uses it."""

    def __init__(self, seen: Browser, address: str, out: Path) -> None:
        self.seen, self.address, self.out = seen, address, out
        seen.open(address, "document.getElementById('file')")

    def put(self, path: Path, at: tuple[float, float]) -> str:
        """Drop a file; return what is said once the answer is there."""
        self.seen.value("told.textContent = ''; told.className = ''")
        self.seen.drop(path, at)
        self.seen.until(f"told.textContent.includes({json.dumps(path.name)}) || {ANSWERED}", 60.0)
        self.seen.until(ANSWERED)
        if self.seen.value("document.body.classList.contains('over')"):
            raise RuntimeError("the page still waits for a drop")
        return self.seen.value("told.textContent")

    def photo(self, path: Path, at: tuple[float, float], shot: str) -> dict[str, Any]:
        """Drop a photo; check that result and mesh are its own."""
        begun = time.monotonic()
        told = self.put(path, at)
        if not told.startswith(f"{path.name}: answered in"):
            raise RuntimeError(told)
        seconds = time.monotonic() - begun
        end = time.monotonic() + 30.0
        while not self.seen.in_frame("document.querySelector('canvas')?.width"):
            if time.monotonic() > end:
                raise RuntimeError(f"the result of {path.name} is not drawn")
            time.sleep(0.5)
        time.sleep(1.0)
        self.seen.picture(self.out / f"{shot}.png")
        shown = json.loads(self.seen.in_frame(SHOWN))
        wanted = json.loads(self.seen.value(f"(text => {SHOWN})({json.dumps(self.answer(path))})"))
        for what, value in wanted.items():
            if shown[what] != value:
                got = f"{str(shown[what])[:300]}, wanted {str(value)[:300]}"
                raise RuntimeError(f"{what} of {path.name} is not its own: {got}")
        scene = json.loads(shown["scenes"])[0]
        return {"told": told, "seconds": round(seconds, 2), "mesh_off": self.mesh_off(scene["box"])}

    def answer(self, path: Path) -> str:
        """Return the server's result page of a photo, asked without a browser."""
        edge = "an-edge-of-no-photo"
        named = f'name="photo"; filename="{path.name}"'
        head = f"--{edge}\r\nContent-Disposition: form-data; {named}\r\n\r\n".encode()
        body = head + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        model = quote(self.seen.value("model.value"))
        address = f"{self.address}/estimate?format=html&model={model}"
        asked = urllib.request.Request(address, body, kind)
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def mesh_off(self, box: list[float]) -> float:
        """Return how far the mesh on the canvas is off a box, as a share of the box's width.

        Raises:
            RuntimeError: where it is more than a twentieth.
        """
        x0, y0, x1, y1, wide, high = self.seen.in_frame(DRAWN)
        left, top, right, bottom = box
        scale = min(wide / 1.5 / (right - left), high / 1.5 / (bottom - top))
        centre = [(left + right) / 2, (top + bottom) / 2] * 2
        middle = [wide / 2, high / 2] * 2
        there = [
            (v - m) / scale + c for v, m, c in zip((x0, y0, x1, y1), middle, centre, strict=True)
        ]
        off = max(abs(a - b) for a, b in zip(there, box, strict=True)) / (right - left)
        if off > 0.05:
            raise RuntimeError(f"the mesh is drawn at {there}, its box is {box}")
        return round(off, 4)

    def turn(self) -> None:
        """Drag the mesh, which turns it."""
        left, top, wide, _ = self.seen.box("result")
        before = self.seen.picture(self.out / "serve-unturned.png")
        x, y = left + 0.3 * wide, top + 300
        self.seen.drag((x, y), (x + 150, y - 40))
        if before == self.seen.picture(self.out / "serve-turned.png"):
            raise RuntimeError("dragging the mesh changed nothing")

    def refused(self, path: Path, at: tuple[float, float]) -> str:
        """Drop what is no photo; return what is said. Nothing else is shown then."""
        told = self.put(path, at)
        if self.seen.value("told.className") != "bad" or not self.seen.value("result.hidden"):
            raise RuntimeError(f"{path.name} is no photo, and the page says {told}")
        return told


def check(out: Path, photos: list[Path], model: str) -> dict[str, Any]:
    """Return what was seen; RuntimeError where it is not as it should be."""
    words = ["serve", "--port", "0", "--workers", "1", "--model", model]
    words += ["--limit-s", f"{PATIENCE_S:g}"]
    first, second, third = photos
    with ExitStack() as stack:
        address, _ = stack.enter_context(page_of(words))
        seen = stack.enter_context(browser())
        demo = Demo(seen, address, out)
        told = {"first": demo.photo(first, ABOVE, "serve-dropped")}
        demo.turn()
        told["second, dropped on the first's result"] = demo.photo(second, FRAME, "serve-second")
        folder = Path(stack.enter_context(TemporaryDirectory()))
        broken = folder / "broken.jpg"
        broken.write_bytes(third.read_bytes()[:2000])
        refused = {p.name: demo.refused(p, FRAME) for p in (Path(__file__), broken)}
        seen.picture(out / "serve-refused.png")
        refused["a folder"] = demo.refused(folder, ABOVE)
        told["third, after those"] = demo.photo(third, ABOVE, "serve-third")
        faults = seen.faults(address)
        if faults:
            raise RuntimeError(f"the page {faults}")
        version = seen.do("Browser.getVersion")["product"]
    return {"browser": version, **told, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    stem = "examples/photos/car_side_00"
    photos = [Path(f"{stem}{number}.jpg") for number in ("13", "29", "10")]
    parser.add_argument("--photos", type=Path, nargs=3, default=photos)
    parser.add_argument("--model", default="car")
    parser.add_argument("--out", type=Path, default=Path("results/serve"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        seen = check(args.out, args.photos, args.model)
    except RuntimeError as error:
        raise SystemExit(f"serve_browser: {error}") from None
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
