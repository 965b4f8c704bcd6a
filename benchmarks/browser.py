"""One page of a headless Chromium, driven through a pipe by the DevTools protocol.

Needs ``chromium`` (Debian: apt install chromium). WebGL is drawn by the processor.
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SIZE = (1200, 1000)
PATIENCE_S = 600.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader")
DOMAINS = ("Page", "Runtime", "Network", "DOM", "Log")
# the command line, heeding Ctrl-C also where a shell started all this in the background
FEATMESH = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from featmesh.cli.main import main
main()"""
Point = tuple[float, float]


class Browser:
    """One page of a headless Chromium.

    Attributes:
        events: all that the browser told of itself.
    """

    def __init__(self, program: str, profile: str) -> None:
        ours, theirs = os.pipe(), os.pipe()  # we write to ours[1] and read from theirs[0]
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        flags.append(f"--window-size={SIZE[0]},{SIZE[1]}")
        command = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, program, *flags, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb", buffering=0)
        self._rest, self._count = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.do("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in DOMAINS:
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
            if not select.select([self._from], [], [], PATIENCE_S)[0]:
                raise RuntimeError(f"the browser has said nothing for {PATIENCE_S:g} s")
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

    def in_frame(self, expression: str) -> Any:
        """Return the value of an expression in the page's one frame of another origin."""
        page, self._session = self._session, None
        try:
            targets = self.do("Target.getTargets")["targetInfos"]
            frames = [target["targetId"] for target in targets if target["type"] == "iframe"]
            if len(frames) != 1:
                raise RuntimeError(f"expected one frame, got {len(frames)}")
            attached = self.do("Target.attachToTarget", targetId=frames[0], flatten=True)
            self._session = attached["sessionId"]
            self.do("Runtime.enable")  # tells what its scripts have thrown
            return self.value(expression)
        finally:
            self._session = page

    def open(self, address: str, ready: str) -> None:
        """Open a page and wait until an expression is true in it."""
        self.do("Page.navigate", url=address)
        self.until(f"document.readyState === 'complete' && !!({ready})")

    def until(self, expression: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                raise RuntimeError(f"not true after {seconds:g} s: {expression}")
            time.sleep(0.2)

    def box(self, element: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element that an expression gives."""
        sides = "[b.left, b.top, b.width, b.height]"
        return tuple(self.value(f"(b => {sides})(({element}).getBoundingClientRect())"))

    def drop(self, path: Path, at: Point) -> None:
        """Drop a file on the page."""
        x, y = at
        data = {"items": [], "files": [str(path.resolve())], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def drag(self, begin: Point, end: Point) -> None:
        """Drag with the mouse; a click where both are the same."""
        button = {"button": "left", "clickCount": 1}
        x, y = begin
        self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.do("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **button)
        for k in range(1, 11) if begin != end else ():
            x, y = (a + (b - a) * k / 10 for a, b in zip(begin, end, strict=True))
            self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, buttons=1)
        self.do("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **button)
        time.sleep(1.0)

    def picture(self, path: Path) -> bytes:
        """Write a screenshot and return it."""
        shot = base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(shot)
        return shot

    def faults(self, address: str) -> list[str]:
        """Return what was asked of others than an address, and what scripts threw."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        foreign = [url for url in asked if not url.startswith((address, "blob:", "data:"))]
        thrown = [e for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return [f"asked {url}" for url in foreign] + [
            f"threw {event['params']['exceptionDetails']['exception']['description']}"
            for event in thrown
        ]

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
def browser() -> Iterator[Browser]:
    """Yield a browser with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(program, profile)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def page_of(words: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield the address that a featmesh command says it serves, and its process."""
    command = [sys.executable, "-c", FEATMESH, *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **streams) as process:
        said = []
        try:
            for line in process.stdout or ():
                said.append(line)
                found = re.search(r"http://[\d.]+:\d+", line)
                if found:
                    break
            else:
                raise RuntimeError(f"featmesh {words[0]} serves nothing: {''.join(said)[-500:]}")
            yield found[0], process
        finally:
            process.terminate()
