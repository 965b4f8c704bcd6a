"""The demo page of featmesh serve in headless Chromium: drop a photo, see the mesh, turn it.

Needs ``chromium`` (Debian: apt install chromium). Starts the server by itself, speaks the DevTools
protocol through a pipe, writes screenshots and exits with 1 where something is not as it should be.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SIZE = (1200, 1000)
PATIENCE_S = 240.0


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, program: str, profile: str) -> None:
        ours, theirs = os.pipe(), os.pipe()  # we write to ours[1] and read from theirs[0]
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        flags += ["--no-sandbox", "--disable-gpu", f"--window-size={SIZE[0]},{SIZE[1]}"]
        command = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, program, *flags, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb", buffering=0)
        self._rest, self._count, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        targets = self.do("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a command."""
        self._count += 1
        told = {"id": self._count, "method": method, "params": params}
        told |= {"sessionId": self._session} if self._session else {}
        self._to.write(json.dumps(told).encode() + b"\0")
        self._to.flush()
        while True:
            heard = self._hear()
            if heard.get("id") == self._count:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']['message']}")
                return heard["result"]
            self.events.append(heard)

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > end:
                raise RuntimeError(f"not true after {PATIENCE_S:g} s: {expression}")
            time.sleep(0.2)

    def drop(self, path: Path, x: float, y: float) -> None:
        """Drop a file on the page."""
        data = {"items": [], "files": [str(path.resolve())], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the mouse."""
        button = {"button": "left", "clickCount": 1}
        x, y = begin
        self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.do("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **button)
        for k in range(1, 11):
            x, y = (a + (b - a) * k / 10 for a, b in zip(begin, end, strict=True))
            self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, buttons=1)
        self.do("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **button)
        time.sleep(1.0)

    def picture(self, path: Path) -> bytes:
        """Write a screenshot and return it."""
        shot = base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(shot)
        return shot

    def close(self) -> None:
        """End the browser."""
        with suppress(OSError, RuntimeError):
            self._session = None
            self.do("Browser.close")
        self.process.terminate()
        self.process.wait()
        self._from.close()
        with suppress(OSError):
            self._to.close()


@contextmanager
def server(model: str):
    """Yield the address of a server."""
    command = [sys.executable, "-m", "featmesh", "serve", "--port", "0", "--workers", "1"]
    command += ["--model", model, "--limit-s", f"{PATIENCE_S:g}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr or ():
                found = re.search(r"http://[\d.]+:\d+", line)
                if found:
                    break
            else:
                raise RuntimeError("the server did not start")
            yield found[0]
        finally:
            process.terminate()


def check(out: Path, photo: Path, model: str) -> dict[str, Any]:
    """Return what was seen; RuntimeError where it is not as it should be."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with ExitStack() as stack:
        address = stack.enter_context(server(model))
        profile = stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
        browser = Browser(program, profile)
        stack.callback(browser.close)
        browser.do("Page.navigate", url=address)
        browser.until("document.readyState === 'complete' && !!document.getElementById('file')")
        begun = time.monotonic()
        browser.drop(photo, 600, 500)
        browser.until("/answered|bad/.test(told.textContent + told.className)")
        told = browser.value("told.textContent")
        if "answered in" not in told:
            raise RuntimeError(told)
        seconds = time.monotonic() - begun
        time.sleep(2.0)  # the frame draws
        box = browser.value(
            "(b => [b.left, b.top, b.width, b.height])(result.getBoundingClientRect())"
        )
        before = browser.picture(out / "serve-dropped.png")
        x, y = box[0] + 0.3 * box[2], box[1] + 300
        browser.drag((x, y), (x + 150, y - 40))
        after = browser.picture(out / "serve-turned.png")
        if before == after:
            raise RuntimeError("dragging the mesh changed nothing")
        browser.drop(Path(__file__), 600, 100)  # no photo: told, and nothing is shown
        browser.until("told.className === 'bad'")
        refused = browser.value("told.textContent")
        if not browser.value("result.hidden"):
            raise RuntimeError("the result of another photo is still shown")
        requests = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        foreign = [url for url in requests if not url.startswith((address, "blob:", "data:"))]
        faults = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
        if foreign or faults:
            raise RuntimeError(f"asked {foreign}, threw {faults}")
        version = browser.do("Browser.getVersion")["product"]
    return {"browser": version, "told": told, "refused": refused, "seconds": round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, default=Path("examples/photos/car_side_0013.jpg"))
    parser.add_argument("--model", default="car")
    parser.add_argument("--out", type=Path, default=Path("results/serve"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        seen = check(args.out, args.photo, args.model)
    except RuntimeError as error:
        raise SystemExit(f"serve_browser: {error}") from None
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
