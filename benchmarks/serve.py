"""A server under clients that mean no good: what they get, and how much memory it takes.

Starts ``featmesh serve`` with its own limits; after each attack an honest photo must be answered.
"""

import argparse
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import arguments
from output import save, table

PHOTO = Path(__file__).parents[1] / "examples/photos/car_side_0013.jpg"
POSTS, WHOLE, SLICE = 200, 300_000_000, 100_000
PATIENCE_S = 900.0
HEAD = b"POST /estimate HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"
PATHS = (
    *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "//etc/passwd"),
    *("/estimate/../../etc/passwd", "/%00", "/C:%5Cwindows", "/%ff%fe", "/.env", "/result.html"),
)
NAMES = ("../../etc/passwd", "/etc/passwd", "..\\..\\windows", "C:\\x", "a\\x00b", "x" * 5000, "..")


class Memory:
    """Peak resident memory of a server and of all its processes, sampled 20 times a second."""

    def __init__(self, pid: int) -> None:
        self.server = self.all = 0
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            own = resident(self._pid)
            self.server = max(self.server, own)
            self.all = max(self.all, own + sum(map(resident, children(self._pid))))


def resident(pid: int) -> int:
    """Return the resident bytes of a process, 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        texts = [p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(word) for text in texts for word in text.split()]


@contextmanager
def server(model: str, queue: int, more: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """Yield the port and the process of a server; ``more`` are further options."""
    command = [sys.executable, "-m", "featmesh", "serve", "--port", "0", "--model", model]
    command += ["--workers", "1", "--queue", str(queue), *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr or ())
            found = next(m for m in (re.search(r"http://[\d.]+:(\d+)", x) for x in lines) if m)
            threading.Thread(target=lambda: list(lines), daemon=True).start()
            yield int(found[1]), process.pid
        finally:
            process.terminate()


def ask(port: int, method: str, path: str, body: Any = None, kind: str = "image/jpeg") -> int:
    """Return the status of an answer, 0 where there is none."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        line.request(method, path, body, {"content-type": kind} if body is not None else {})
        answer = line.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        line.close()


def raw(port: int, begin: bytes, drip: bool = False) -> int:
    """Return the status a client gets that sends a beginning, then nothing, or a byte a second."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as line:
        line.sendall(begin)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                got = line.recv(4096)
                return int(got.split()[1]) if got else 0
            except TimeoutError:
                if drip:
                    line.send(b"x")
            except OSError:
                return 0
    return 0


def form(photo: bytes, name: str) -> bytes:
    """Return a multipart body."""
    head = f'--AaB\r\ncontent-disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'
    return head.encode() + photo + b"\r\n--AaB--\r\n"


def large(port: int, announced: bool) -> Counter[int]:
    """Send 300 MB."""
    pieces = (b"x" * SLICE for _ in range(WHOLE // SLICE))
    if announced:
        head = HEAD + f"content-length: {WHOLE}\r\n\r\n".encode()
        return Counter([raw(port, head + b"x" * SLICE)])
    return Counter([ask(port, "POST", "/estimate", pieces)])


def slow(port: int) -> Counter[int]:
    """Stop in the header and in the body; send a byte a second there."""
    body = HEAD + b"content-length: 100000\r\n\r\n"
    tries = [(begin, drip) for begin in (HEAD, body) for drip in (False, True)]
    with ThreadPoolExecutor(len(tries)) as clients:
        return Counter(clients.map(lambda one: raw(port, *one), tries))


def crowd(port: int, photo: bytes, posts: int) -> Counter[int]:
    """Send photos all at once."""
    with ThreadPoolExecutor(posts) as clients:
        return Counter(clients.map(lambda _: ask(port, "POST", "/estimate", photo), range(posts)))


def malformed(port: int, photo: bytes, seed: int, count: int) -> Counter[int]:
    """Send multipart bodies that are cut off or damaged: none is a whole form."""
    chance, statuses = random.Random(seed), Counter[int]()
    whole = form(photo, "a.jpg")
    for k in range(count):
        body = bytearray(whole[: -8 - chance.randrange(len(whole) - 8)] if k % 2 else whole)
        for _ in range(4):
            body[chance.randrange(min(len(body), 5))] = chance.choice(b"\0\n:;\xff")
        kind = "multipart/form-data" + chance.choice(("; boundary=AaB", "", "; boundary=x"))
        statuses[ask(port, "POST", "/estimate", bytes(body), kind)] += 1
    return statuses


def tricks(port: int) -> Counter[int]:
    """Ask for files by paths, and send paths as the model's name."""
    statuses = Counter(ask(port, "GET", path) for path in PATHS)
    statuses.update(ask(port, "POST", f"/estimate?model={p}", b"x") for p in PATHS[:3])
    return statuses


def names(port: int) -> Counter[int]:
    """Send paths as the name of what is no photo: a name is only shown."""
    kind = "multipart/form-data; boundary=AaB"
    return Counter(ask(port, "POST", "/estimate", form(b"words", n), kind) for n in NAMES)


def killed(port: int, photo: bytes, pid: int) -> Counter[int]:
    """Kill the process that estimates, while it does."""
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(ask, port, "POST", "/estimate", photo)
        time.sleep(0.3)
        for child in children(pid):
            os.kill(child, 9)
        return Counter([answer.result()])


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each attack got, how long it took, and the peak memory up to then."""
    photo, posts = PHOTO.read_bytes(), args.limit or POSTS
    rows = []
    with server(args.model, max(2, posts // 10)) as (port, pid):
        memory = Memory(pid)
        attacks: dict[str, tuple[set[int], Callable[[], Counter[int]]]] = {
            "an honest photo": ({200}, lambda: crowd(port, photo, 1)),
            "300 MB, announced": ({413}, lambda: large(port, True)),
            "300 MB, chunked": ({413}, lambda: large(port, False)),
            "slow in header and body": ({408}, lambda: slow(port)),
            f"{posts} photos at once": ({200, 429}, lambda: crowd(port, photo, posts)),
            "malformed multipart": ({400}, lambda: malformed(port, photo, args.seed, posts)),
            "path tricks in URLs": ({404, 422}, lambda: tricks(port)),
            "path tricks in file names": ({400, 415}, lambda: names(port)),
            "process killed at work": ({200}, lambda: killed(port, photo, pid)),
        }
        for name, (allowed, attack) in attacks.items():
            clock = time.monotonic()
            statuses = attack()
            seconds = time.monotonic() - clock
            after = ask(port, "POST", "/estimate", photo)
            right = set(statuses) <= allowed and after == 200
            answers = {str(status): n for status, n in sorted(statuses.items())}
            sys.stderr.write(f"{name}: {answers}, then {after}, {seconds:.1f} s\n")
            rows.append(
                {"attack": name, "answers": answers, "seconds": seconds, "photo_after": after}
                | {"as_promised": right, "server_mb": memory.server / 1e6}
                | {"all_processes_mb": memory.all / 1e6}
            )
        memory.close()
    return rows


def main() -> None:
    args = arguments(__doc__, data=False)
    rows = measured(args)
    shown = [
        [
            row["attack"],
            ", ".join(f"{n} x {status}" for status, n in row["answers"].items()),
            *(row[key] for key in ("seconds", "photo_after", "server_mb", "all_processes_mb")),
            "yes" if row["as_promised"] else "NO",
        ]
        for row in rows
    ]
    columns = ("clients", "answers", "seconds", "photo after", "server peak MB", "all peak MB")
    told = table("featmesh serve under attack, one process", (*columns, "as promised"), shown)
    broken = sum(not row["as_promised"] for row in rows)
    save("serve", args, None, {"attacks": rows, "not_as_promised": broken}, [told])


if __name__ == "__main__":
    main()
