"""Damaged requests to a real ``featmesh serve``: what it answers, how long it takes, its memory."""

import io
import json
import random
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from fuzz import MEMORY, Tally
from fuzz_mutate import json_bytes, mutated
from fuzz_targets import image_seeds
from PIL import Image
from serve import Memory, ask, children, resident, server

PHOTO = Path(__file__).parents[1] / "examples/photos/car_side_0013.jpg"
CLIENTS = 3  # at a time
ROUND = 150  # requests between two honest photos
SLOW = ("--slow-s", "1", "--limit-s", "60")
PATIENCE_S = 80.0  # a whole photo is estimated, behind those of other clients
CAMERA = {"K": [[500.0, 0.0, 150.0], [0.0, 500.0, 100.0], [0.0, 0.0, 1.0]], "width": 300}
FIELDS = {"box": "10,10,280,180", "fov": "60", "task": "shape", "format": "png", "all": "true"}
ALLOWED = {200, 400, 404, 405, 408, 413, 415, 422, 429, 503}  # 503: it took too long
Request = tuple[bytes, dict[str, str], bytes]  # first line, headers, body


def requests() -> dict[str, Request]:
    """Return whole requests to begin with."""
    photo = _small(PHOTO)
    camera = json.dumps(CAMERA | {"height": 200})
    form = _form(photo, FIELDS | {"camera": camera})
    kind = {"content-type": "multipart/form-data; boundary=AaB"}
    query = urllib.parse.urlencode(FIELDS | {"model": "car"})
    plain = {"content-type": "image/jpeg"}
    found: dict[str, Request] = {
        "photo": (b"POST /estimate HTTP/1.1", plain, photo),
        "query": (f"POST /estimate?{query} HTTP/1.1".encode(), plain, photo),
        "form": (b"POST /estimate HTTP/1.1", kind, form),
        "page": (b"GET / HTTP/1.1", {}, b""),
        "state": (b"GET /metrics HTTP/1.1", {}, b""),
    }
    pictures = image_seeds()
    for name in ("plain.png", "plain.webp", "plain.avif", "small.tif"):
        found[name] = (b"POST /estimate HTTP/1.1", plain, pictures[name])
    return found


def _small(path: Path) -> bytes:
    out = io.BytesIO()
    Image.open(path).convert("RGB").resize((300, 200)).save(out, "JPEG", quality=80)
    return out.getvalue()


def _form(photo: bytes, fields: dict[str, str]) -> bytes:
    rows = [
        f'--AaB\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    head = '--AaB\r\ncontent-disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    return "".join([*rows, head]).encode() + photo + b"\r\n--AaB--\r\n"


def damaged(chance: random.Random, name: str, seeds: dict[str, Request]) -> bytes:
    """Return the bytes of a damaged request: its options, body, headers, or all of it."""
    line, headers, body = seeds[name]
    bodies = [seed[2] for seed in seeds.values()]
    where = chance.random()
    if name == "query" and where < 0.5:
        line = _damaged_query(chance, bodies)
    elif name == "form" and where < 0.4:
        fields = dict(FIELDS)
        key = chance.choice(list(fields))
        told = mutated(chance, fields[key].encode(), bodies).decode("latin-1")
        fields[key] = told
        if chance.random() < 0.5:
            fields["camera"] = json_bytes(chance, CAMERA | {"height": 200}).decode("latin-1")
        body = _form(bodies[0], fields)
    elif where < 0.8:
        body = mutated(chance, body, bodies)
    kept = {"host": "x", "connection": "close", **headers}
    if body and chance.random() < 0.9:
        kept["content-length"] = str(len(body))
    elif body:
        kept["transfer-encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    told = b"".join(f"{key}: {value}\r\n".encode() for key, value in kept.items())
    head = line + b"\r\n" + told + b"\r\n"
    return (mutated(chance, head, [head, *bodies]) if chance.random() < 0.25 else head) + body


def _damaged_query(chance: random.Random, others: list[bytes]) -> bytes:
    told = dict(FIELDS) | {"model": "car"}
    key = chance.choice(list(told))
    value = mutated(chance, told[key].encode(), others)[:3000]
    del told[key]
    query = urllib.parse.urlencode(told) + "&" + key + "=" + urllib.parse.quote_from_bytes(value)
    return f"POST /estimate?{query} HTTP/1.1".encode()


def answered(port: int, request: bytes) -> tuple[int, bytes]:
    """Return status and body of the answer; 0 where the server closes without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        end = time.monotonic() + PATIENCE_S
        try:
            line.sendall(request)
        except OSError:  # refused while it was sent: the answer is there already
            pass
        got = b""
        while more := _more(line, end):
            got += more
            if _whole(got):
                break
    head, _, body = got.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return (int(status[1]) if status else 0), body


def _more(line: socket.socket, end: float) -> bytes:
    line.settimeout(max(0.01, end - time.monotonic()))
    try:
        return line.recv(65536)
    except ConnectionError:  # closed on us with some of the request unread
        return b""


def _whole(got: bytes) -> bool:
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])


class Attack:
    """Clients that send damaged requests to one server, round after round."""

    def __init__(self, port: int, seed: int, tally: Tally) -> None:
        self.port, self.seed, self.tally = port, seed, tally
        self.seeds, self.lock = requests(), threading.Lock()

    def round(self, first: int, end: float) -> None:
        """Send some requests, a few at a time; count what came of each."""
        numbers = iter(range(first, first + ROUND))
        threads = [
            threading.Thread(target=self._client, args=(numbers, end)) for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, numbers: Iterator[int], end: float) -> None:
        while time.monotonic() < end:
            with self.lock:
                number = next(numbers, None)
            if number is None:
                return
            chance = random.Random(f"{self.seed} http {number}")
            name = chance.choice(sorted(self.seeds))
            self._one(name, damaged(chance, name, self.seeds))

    def _one(self, name: str, request: bytes) -> None:
        clock = time.monotonic()
        try:
            status, body = answered(self.port, request)
        except TimeoutError:
            status, body = -1, b""
        except OSError:
            status, body = -2, b""
        kind = self._kind(status, body)
        with self.lock:
            self.tally.outcomes[str(status) if status > 0 else kind or "closed"] += 1
            self.tally.slowest = max(self.tally.slowest, time.monotonic() - clock)
            if kind:
                said = body[:2000].decode("latin-1")
                self.tally.failed(kind, str(status), f"{name}.http", request, said)

    def _kind(self, status: int, body: bytes) -> str:
        """Return what is wrong with an answer; "" is as promised."""
        if status < 0:
            return "hang" if status == -1 else "refused"
        if status and status not in ALLOWED:
            return "status"
        return "fault" if body.startswith(b'{"code":"E_INTERNAL"') else ""

    def unseen(self) -> int:
        """Return how many faults the server counts, told to a client or not."""
        _, body = answered(self.port, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        found = re.search(rb'refusals_total\{code="E_INTERNAL"\} (\d+)', body)
        return int(found[1]) if found else 0


def attack(model: str, seconds: float, seed: int, tally: Tally) -> None:
    """Send damaged requests for some seconds; after each round an honest photo is answered."""
    number, end = 0, None
    photo = PHOTO.read_bytes()
    while end is None or time.monotonic() < end:
        with server(model, 32, SLOW) as (port, pid):
            tally.starts += 1
            status = ask(port, "POST", "/estimate", photo)
            if status != 200:
                raise RuntimeError(f"http: expected 200 for an honest photo, got {status}")
            end = end or time.monotonic() + seconds
            before = resident(pid), sum(map(resident, children(pid)))
            memory, attacks, faults = Memory(pid), Attack(port, seed, tally), 0
            while time.monotonic() < end:
                attacks.round(number, end)
                number += ROUND
                faults, before_it = attacks.unseen(), faults
                for _ in range(faults - before_it):
                    told = f"counted by the server, among {number - ROUND} to {number}"
                    tally.failed("fault", "unseen", "none.http", b"", told)
                status = ask(port, "POST", "/estimate", photo)
                if status != 200:
                    tally.failed("after", str(status), "honest.http", photo, f"before {number}")
                    break
            memory.close()
            grown = max(memory.server - before[0], memory.all - sum(before))
            tally.largest = max(tally.largest, grown)
            sys.stderr.write(f"http: {number} requests, {grown / 1e6:.0f} MB more at most\n")
            if grown > MEMORY:
                tally.failed("memory", f"{grown}", "none.http", b"", f"before {number}")
