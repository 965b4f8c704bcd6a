"""The pages of featmesh annotate and featmesh view in headless Chromium, used as a person would.

Two photos and one without a car are labelled: the proposal of the first is saved, the second is
put wrong with a slider and put right with clicks, the third is skipped and, asked again, said to
show none. Needs ``chromium`` and ``viser``. Writes screenshots; exits with 1 where something is
not as it should be.
"""

import argparse
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from browser import Browser, Point, browser, page_of
from PIL import Image

PHOTOS = ("car_side_0003.jpg", "car_side_0010.jpg")
BARE = "wall.png"  # a photo without a car; the last by name
WRONG_DEG, NEAR_DEG, SAME_DEG = 40.0, 10.0, 1.0
MARGIN = 1.1  # how much more than the photo is in view
BLUE = 60  # of the mesh over a photo without colours: blue minus red
CLICKS = ((0.15, 0.6), (0.85, 0.6), (0.5, 0.15), (0.3, 0.45))  # on the car, shares of its box


@dataclass(frozen=True)
class Truth:
    """What ``featmesh estimate`` says of a photo.

    Attributes:
        photo: its pixels, grey.
        K: of the camera.
        box: of the car, photo pixels.
        angles: azimuth, elevation, in-plane rotation, degrees.
    """

    photo: np.ndarray
    K: np.ndarray
    box: tuple[float, float, float, float]
    angles: tuple[float, float, float]


class Page:
    """A viser page as a person sees it."""

    def __init__(self, seen: Browser, out: Path) -> None:
        self.seen, self.out = seen, out

    def open(self, address: str, name: str) -> None:
        """Open it and wait for a photo's pose."""
        self.seen.open(address, "document.querySelector('canvas')")
        self.until(f"{name} ·")
        self.until("energy")
        warning = "document.querySelector('.mantine-Notification-closeButton')"
        self.seen.value(f"{warning}?.click()")  # that a processor draws

    @property
    def text(self) -> str:
        """All that is written on it."""
        return self.seen.value("document.body.innerText")

    def number(self, word: str) -> float:
        """Return the number after a word."""
        found = re.search(rf"{word}\s+(-?[\d.]+)", self.text)
        if not found:
            raise RuntimeError(f"no {word} in {self.text!r}")
        return float(found[1])

    def until(self, words: str) -> None:
        """Wait until words are on it."""
        self.seen.until(f"document.body.innerText.includes({json.dumps(words)})")

    def changed(self, word: str, act: Callable[[], None]) -> float:
        """Do something that changes the number after a word; return the new one."""
        before, end = self.number(word), time.monotonic() + 60.0
        act()
        while self.number(word) == before:
            if time.monotonic() > end:
                raise RuntimeError(f"{word} is still {before}")
            time.sleep(0.2)
        return self.number(word)

    def press(self, label: str) -> None:
        """Click a button."""
        all_of = "[...document.querySelectorAll('button')]"
        button = f"{all_of}.find(e => e.innerText.trim() === {json.dumps(label)})"
        self.seen.value(f"({button}).scrollIntoView({{block: 'nearest'}})")
        x, y, wide, high = self.seen.box(button)
        self.click((x + wide / 2, y + high / 2))

    def click(self, at: Point) -> None:
        """Click a place of the page."""
        self.seen.drag(at, at)

    def slide(self, label: str, value: float) -> None:
        """Type a slider's value."""
        row = "e => e.innerText.trim() === " + json.dumps(label)
        field = f"[...document.querySelectorAll('label')].find({row}).closest('.mantine-Flex-root')"
        field += ".querySelector('input[inputmode=decimal]')"
        self.seen.value(f"(e => {{ e.focus(); e.select(); }})({field})")
        self.seen.do("Input.insertText", text=f"{value:g}")
        self.seen.value("document.activeElement.blur()")

    def slider(self, label: str) -> float:
        """Return a slider's value."""
        row = "e => e.innerText.trim() === " + json.dumps(label)
        field = f"[...document.querySelectorAll('label')].find({row}).closest('.mantine-Flex-root')"
        return float(self.seen.value(f"{field}.querySelector('input[inputmode=decimal]').value"))

    def picture(self, name: str) -> np.ndarray:
        """Return the screen once it stands still, and write it."""
        path, before = self.out / f"{name}.png", b""
        for _ in range(20):
            now = self.seen.picture(path)
            if now == before:
                break
            before = now
            time.sleep(1.0)
        return np.asarray(Image.open(BytesIO(now)).convert("RGB")).astype(int)

    def places(self, truth: Truth, pixels: np.ndarray) -> np.ndarray:
        """Return where photo pixels are on the screen, seen through the lens."""
        left, top, wide, high = self.seen.box("document.querySelector('canvas')")
        rows, columns = truth.photo.shape
        inverse = np.linalg.inv(truth.K)
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ inverse.T
        ahead = inverse @ (columns / 2, rows / 2, 1)
        ahead /= np.linalg.norm(ahead)
        right = np.cross((0, 1.0, 0), ahead)
        right /= np.linalg.norm(right)
        eye = rays @ np.stack([right, np.cross(ahead, right), ahead]).T
        size = rows / truth.K[1, 1], columns / truth.K[0, 0] * high / wide
        scale = high / (max(size) * MARGIN)
        return eye[:, :2] / eye[:, 2:] * scale + (left + wide / 2, top + high / 2)


def truths(folder: Path, names: tuple[str, ...]) -> dict[str, Truth]:
    """Return what ``featmesh estimate`` says of photos."""
    photos = [str(folder / name) for name in names]
    with TemporaryDirectory() as out:
        featmesh("estimate", *photos, "--model", "car", "--out", out)
        told = {
            n: json.loads((Path(out) / Path(n).stem / "result.json").read_text()) for n in names
        }
    found = {}
    for name, result in told.items():
        car = result["objects"][0]
        grey = np.asarray(Image.open(folder / name).convert("L"))
        angles = (car["azimuth"], car["elevation"], car["theta"])
        found[name] = Truth(grey, np.array(result["camera"]["K"]), tuple(car["box"]), angles)
    return found


def featmesh(*words: str) -> str:
    """Return what a command prints; RuntimeError where it fails."""
    command = [sys.executable, "-m", "featmesh", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"featmesh {words[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def hold(promise: bool, told: str) -> None:
    """Raise where something is not as it should be."""
    if not promise:
        raise RuntimeError(told)


def mesh_box(screen: np.ndarray, page: Page) -> np.ndarray:
    """Return x0, y0, x1, y1 of what is blue in the scene."""
    _, _, wide, high = page.seen.box("document.querySelector('canvas')")
    scene = screen[: int(high) - 60, : int(wide)]  # below it are the axes of the page
    red, green, blue = np.moveaxis(scene, -1, 0)
    mesh = (blue - red > BLUE) & (green - red > BLUE / 2)  # an axis is blue without green
    ends = [np.nonzero(mesh.sum(axis) >= 3)[0] for axis in (0, 1)]
    hold(all(len(found) for found in ends), "no mesh on the screen")
    return np.array([[found[0], found[-1] + 1] for found in ends]).T.ravel()


def looks_right(screen: np.ndarray, page: Page, truth: Truth) -> dict[str, float]:
    """Return how well photo and mesh lie where the lens has them."""
    x0, y0, x1, y1 = truth.box
    wanted = page.places(truth, np.array([[x0, y0], [x1, y1]])).ravel()
    off = np.abs(mesh_box(screen, page) - wanted).max() / (wanted[2] - wanted[0])
    hold(off < 0.06, f"the mesh lies {off:.1%} of its width off the pose that estimate finds")
    rows, columns = truth.photo.shape
    grid = np.stack(np.meshgrid(np.arange(5, columns - 5, 4), np.arange(5, rows - 5, 4)), -1)
    pixels = grid.reshape(-1, 2)
    inside = (pixels > (x0 - 5, y0 - 5)).all(1) & (pixels < (x1 + 5, y1 + 5)).all(1)
    pixels = pixels[~inside]
    places = page.places(truth, pixels + 0.5).round().astype(int)
    seen = screen[places[:, 1], places[:, 0]].mean(1)
    alike = float(np.corrcoef(seen, truth.photo[pixels[:, 1], pixels[:, 0]])[0, 1])
    hold(alike > 0.8, f"the photo is not where it should be: correlation {alike:.2f}")
    return {"mesh_off": round(float(off), 4), "photo_correlation": round(alike, 3)}


def pair(page: Page, truth: Truth, share: Point, between: Callable[[], None] | None = None) -> None:
    """Click a place of the mesh and the same place in the photo; the pose found is shown first."""
    x0, y0, x1, y1 = truth.box
    pixel = np.array([[x0 + share[0] * (x1 - x0), y0 + share[1] * (y1 - y0)]])
    x, y = page.places(truth, pixel)[0].tolist()
    page.click((x, y))
    page.until("Now click the same place")
    if between:
        between()
    page.click((x, y))


def propose_and_save(page: Page, truth: Truth) -> dict[str, Any]:
    """Check the first photo: mesh and photo, sliders, the way back; save the proposal."""
    seen: dict[str, Any] = looks_right(page.picture("annotate-proposal"), page, truth)
    page.press("through the lens")
    seen["again"] = looks_right(page.picture("annotate-lens"), page, truth)
    evidence = page.number("evidence")
    azimuth = page.slider("azimuth °")
    wrong = page.changed("energy", lambda: page.slide("azimuth °", azimuth + WRONG_DEG))
    hold(page.number("evidence") < evidence, "a wrong pose explains the photo as well")
    page.picture("annotate-wrong")
    right = page.changed("energy", lambda: page.press("back to the pose found"))
    hold(page.number("evidence") == evidence and right < wrong, "the pose found is lost")
    page.press("save, next")
    return seen | {"evidence": evidence, "energy": right, "energy_wrong": wrong}


def click_and_save(page: Page, truth: Truth) -> dict[str, Any]:
    """Check the second photo: put it wrong, click it right, forget a click; save."""
    looks_right(page.picture("annotate-second"), page, truth)
    azimuth = page.slider("azimuth °")
    for share in CLICKS[:3]:
        pair(page, truth, share)
    page.until("1 more")
    turn = azimuth + WRONG_DEG

    def put_wrong() -> None:
        page.changed("energy", lambda: page.slide("azimuth °", turn))
        page.picture("annotate-clicks-wrong")

    pair(page, truth, CLICKS[3], put_wrong)
    page.until("pose solved")
    page.until("px off")
    solved = page.slider("azimuth °")
    looks_right(page.picture("annotate-solved"), page, truth)
    page.press("forget the last click")
    page.until("1 more")
    pair(page, truth, CLICKS[3])
    page.until("pose solved")
    off = page.number("clicks")
    page.press("save, next")
    return {"azimuth_wrong": turn, "azimuth_solved": solved, "clicks_px_off": off}


def stopped(process: subprocess.Popen[str]) -> str:
    """Stop a page as Ctrl-C does; return what it said last."""
    process.send_signal(signal.SIGINT)
    said = process.stdout.read() if process.stdout else ""
    hold(process.wait(60) == 0, f"Ctrl-C: exit code {process.returncode}, {said!r}")
    return said.strip().splitlines()[-1]


def compared(views: Path, known: dict[str, Truth]) -> dict[str, float]:
    """Return how many degrees the saved poses are off those of ``featmesh estimate``."""
    import torch

    from featmesh.geometry.rotations import geodesic_angle
    from featmesh.geometry.viewpoint import rotation_from_angles
    from featmesh.views.record import read_views

    away, read = {}, {view.image.name: view for view in read_views(views)}
    hold(set(read) == {*known, BARE}, f"the views file has {sorted(read)}")
    hold(read[BARE].no_object and read[BARE].R is None, "the wall is no negative")
    for name, truth in known.items():
        R = rotation_from_angles(*torch.tensor(truth.angles, dtype=torch.float64).deg2rad())
        off = geodesic_angle(torch.from_numpy(read[name].R), R)
        away[name] = round(math.degrees(float(off)), 2)
    return away


def annotate(folder: Path, out: Path) -> dict[str, Any]:
    """Return what was seen of ``featmesh annotate``."""
    known, views = truths(folder, PHOTOS), folder / "views.json"
    words = ["annotate", str(folder), "--no-browser", "--port", "18300"]
    first, second = (known[name] for name in PHOTOS)
    with browser() as seen, page_of(words) as (address, process):
        page = Page(seen, out)
        page.open(address, PHOTOS[0])
        told = {"first": propose_and_save(page, first)}
        page.until(f"{PHOTOS[1]} ·")
        hold(views.is_file(), "the first photo is not saved")
        told["second"] = click_and_save(page, second)
        page.until(f"{BARE} ·")
        page.picture("annotate-third")
        page.press("skip")
        page.until("All done")
        faults = seen.faults(address)
        said = stopped(process)
    hold(not faults, f"the page {faults}")
    hold("2 views, 1 photos left" in said, f"two saved, one skipped, and it says {said!r}")
    with browser() as seen, page_of(words) as (address, process):
        page = Page(seen, out)
        page.open(address, BARE)
        page.press("not in this photo")
        page.until("All done")
        page.picture("annotate-done")
        told["said"] = stopped(process).removeprefix(f"{folder}/")
    featmesh("data", "check", str(views))
    told["degrees_off_estimate"] = away = compared(views, known)
    hold(away[PHOTOS[0]] < SAME_DEG, f"the proposal saved is {away[PHOTOS[0]]} degrees off")
    hold(away[PHOTOS[1]] < NEAR_DEG, f"the clicked pose is {away[PHOTOS[1]]} degrees off")
    return told


def view(folder: Path, out: Path) -> dict[str, Any]:
    """Return what was seen of ``featmesh view``."""
    name = PHOTOS[0]
    truth = truths(folder, (name,))[name]
    words = ["view", str(folder / name), "--no-browser", "--port", "18400"]
    with browser() as seen, page_of(words) as (address, process):
        page = Page(seen, out)
        page.open(address, name)
        told: dict[str, Any] = looks_right(page.picture("view-found"), page, truth)
        found, before = page.number("energy"), mesh_box(page.picture("view-found"), page)
        right = page.slider("right °")
        told["energy_moved"] = page.changed("energy", lambda: page.slide("right °", right + 3.0))
        moved = mesh_box(page.picture("view-moved"), page) - before
        # three degrees to the right, on the screen
        pixels = np.array([[0.0, 0.0], [math.tan(math.radians(3.0)) * truth.K[0, 0], 0.0]])
        wanted = float(np.ptp(page.places(truth, pixels)[:, 0]))
        told["moved_px"], told["wanted_px"] = (
            round(float(moved[[0, 2]].mean()), 1),
            round(wanted, 1),
        )
        hold(abs(moved[[0, 2]].mean() - wanted) < 0.15 * wanted, f"the mesh moved by {moved}")
        hold(np.abs(moved[[1, 3]]).max() < 0.15 * wanted, f"the mesh moved down by {moved}")
        page.changed("energy", lambda: page.press("render-and-compare"))
        page.until("(found:")  # each step is told without it
        looks_right(page.picture("view-refined"), page, truth)
        back = page.number("energy")
        hold(back < told["energy_moved"], f"render-and-compare came to {back}")
        faults = seen.faults(address)
        stopped(process)
    hold(not faults, f"the page {faults}")
    return told | {"energy": found, "energy_refined": back}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--out", type=Path, default=Path("results/annotate"))
    parser.add_argument("--page", choices=("annotate", "view", "both"), default="both")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seen: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for photo in PHOTOS:
            shutil.copy(args.photos / photo, folder)
        noise = np.random.default_rng(0).normal(150, 12, (200, 300)).clip(0, 255)
        Image.fromarray(noise.astype(np.uint8)).save(folder / BARE)
        try:
            for what, check in {"annotate": annotate, "view": view}.items():
                if args.page in (what, "both"):
                    seen[what] = check(folder, args.out)
        except RuntimeError as error:
            raise SystemExit(f"annotate_browser: {error}") from None
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
