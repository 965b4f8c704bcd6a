"""A server in a thread, and a client that may be as rude as it likes."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featmesh.apps import serve
from featmesh.apps.serve_answer import Desk
from featmesh.apps.serve_config import ServeConfig

ENGINE = "apps.serve_engines:Engine"
SMALL = {"port": 0, "model": "car,chair", "workers": 1, "queue": 4, "body_mb": 0.2, "slow_s": 0.6}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> tuple[int, str]:
        """Status and error code; the message says what was expected, and what to try."""
        assert set(self.json) == {"code", "message"}, self.json
        assert "expected" in self.json["message"] and "try: " in self.json["message"], self.json
        return self.status, self.json["code"]


@dataclass(frozen=True)
class Served:
    """A server and how to talk to it."""

    port: int
    desk: Desk
    scratch: Path

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            line.request(method, path, body, dict(headers or {}))
            answer = line.getresponse()
            return Answer(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            line.close()

    def post(self, body: Any, query: str = "", kind: str = "image/jpeg") -> Answer:
        return self.call("POST", f"/estimate{query}", body, {"content-type": kind})

    def form(self, photo: bytes = b"good", name: str = "a.jpg", **fields: str) -> Answer:
        body, kind = form(photo, name, **fields)
        return self.post(body, kind=kind)

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, *pieces: bytes) -> Answer:
        """Send bytes, then read until the server closes."""
        with self.open() as line:
            for piece in pieces:
                line.sendall(piece)
            return answer_of(line)


def answer_of(line: socket.socket) -> Answer:
    """The answer on a connection, whose body has a length."""
    got = b""
    while (missing := missing_bytes(got)) and (more := line.recv(missing)):
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = dict(row.split(": ", 1) for row in rest)
    return Answer(int(first.split()[1]), headers, body)


def missing_bytes(got: bytes) -> int:
    """How many bytes of an answer are certainly still to come."""
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return 1 if not end else int(length[1]) - len(body) if length else 65536


def form(photo: bytes, name: str = "a.jpg", **fields: str) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    parts = [
        f'--AaB\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    told = f'--AaB\r\ncontent-disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'
    whole = b"".join([*parts, told.encode(), photo, b"\r\n--AaB--\r\n"])
    return whole, "multipart/form-data; boundary=AaB"


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Served]:
    """A server with small limits whose engine reads words."""
    config = ServeConfig(**(SMALL | settings)).checked()
    folder.mkdir(exist_ok=True)
    with serve._listening(config) as listener, serve._pool(config, ENGINE) as pool:
        desk = Desk(config, pool, folder)
        server = serve.make_server(config, serve.make_app(desk))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(listener.getsockname()[1], desk, folder)
        finally:
            server.should_exit = True
            thread.join()
