import errno
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import featmesh
from featmesh.apps.serve import serve
from featmesh.apps.serve_config import ServeConfig
from featmesh.cli.main import _call
from featmesh.errors import BackendUnavailable, FeatmeshError, InputError

from .serving import ENGINE, Served, answer_of, form, served

HEAD = b"POST /estimate HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("scratch")) as running:
        yield running


@pytest.fixture(autouse=True)
def _still_answers(server: Served) -> Iterator[None]:
    """After every test: an answer, no folder left, no place taken, no fault of ours."""
    yield
    assert server.post(b"good").status == 200
    until(lambda: not server.desk.under_way and not list(server.scratch.iterdir()))
    assert server.desk.metrics.requests["/estimate", 500] == 0


def until(done, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_photo_is_the_body_or_a_file_of_a_form(server: Served) -> None:
    plain = server.post(b"good", "?model=chair&box=1,2,3.5,4")
    assert plain.status == 200 and plain.headers["content-type"] == "application/json"
    asked = {"model": "chair", "box": [1, 2, 3.5, 4], "task": "pose", "all": False, "fov": None}
    assert plain.json["asked"].items() >= asked.items()
    assert not plain.json["heavy"]
    sent = server.form(b"good" * 20_000, "Straße.jpg", task="shape", camera='{"K": 1}')
    assert sent.json["photo"] == "Straße.jpg" and sent.json["bytes"] == 80_000
    assert sent.json["asked"]["task"] == "shape" and sent.json["asked"]["camera"] == '{"K": 1}'
    assert server.post(b"good", kind="").status == 200


def test_other_formats(server: Served) -> None:
    page = server.form(format="html")
    assert page.body == b"<p>a page" and "sandbox" in page.headers["content-security-policy"]
    picture = server.post(b"good", "?format=png")
    assert picture.body == b"a picture" and picture.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("body", "query", "kind", "code"),
    [
        (b"broken", "", "image/jpeg", (415, "E_IMG_FORMAT")),
        (b"large", "", "image/jpeg", (413, "E_IMG_TOO_LARGE")),
        (b"", "", "image/jpeg", (400, "E_REQUEST")),
        (b"good", "", "text/plain", (400, "E_REQUEST")),
        (b"good", "?bxo=1,2,3,4", "image/jpeg", (400, "E_REQUEST")),
        (b"good", "?box=1,2,3", "image/jpeg", (422, "E_BOX")),
        (b"good", "?box=1,2,3,nan", "image/jpeg", (422, "E_BOX")),
        (b"good", "?model=../../etc/passwd", "image/jpeg", (422, "E_MODEL")),
        (b"good", "?fov=-3", "image/jpeg", (422, "E_CAMERA")),
    ],
)
def test_errors_are_json(server: Served, body: bytes, query: str, kind: str, code) -> None:
    answer = server.post(body, query, kind)
    assert answer.code == code
    assert str(server.scratch) not in answer.json["message"]


def test_row_41_a_large_body_is_refused_while_it_is_sent(server: Served) -> None:
    announced = server.raw(HEAD + b"content-length: 300000000\r\n\r\n", b"x" * 1000)
    assert announced.code == (413, "E_BODY")

    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 100_000
            yield b"x" * 100_000

    # 40 MB without a length, of which 0.2 are allowed; the client sees why
    answer = server.call("POST", "/estimate", endless(), {"content-type": "image/jpeg"})
    assert answer.code == (413, "E_BODY") and sent > 200_000
    body, kind = form(b"x" * 300_000)
    pieces = (body[k : k + 50_000] for k in range(0, len(body), 50_000))
    assert server.post(pieces, kind=kind).code == (413, "E_BODY")
    assert server.post(iter([b"x" * 100_000, b"x" * 100_000])).status == 200


def test_row_41_slow_clients_are_told_so(server: Served) -> None:
    clock = time.monotonic()
    head = HEAD + b"content-length: 1000\r\n\r\n"
    assert server.raw(head, b"x" * 10).code == (408, "E_SLOW")  # stops in its body
    assert server.raw(HEAD[:40]).code == (408, "E_SLOW")  # in its header
    assert server.raw().code == (408, "E_SLOW")  # before it
    assert 3 * 0.6 <= time.monotonic() - clock < 8
    for begin in (head, HEAD):  # a byte now and then helps nobody
        with server.open() as line:
            line.sendall(begin)
            stop = drip(line)
            assert answer_of(line).code == (408, "E_SLOW")
            stop.set()
    with server.open() as line:  # a second request on the same connection
        line.sendall(HEAD + b"content-length: 4\r\n\r\ngood")
        assert b"200 OK" in whole_answer(line)
        line.sendall(b"GET /healthz HT")
        assert answer_of(line).code == (408, "E_SLOW")


def whole_answer(line: socket.socket) -> bytes:
    """Receive an answer, which may come in pieces, to its last byte."""
    got, missing = b"", 1
    while missing > 0:
        got += line.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)\r\n", head.lower() + b"\r\n")
        missing = int(length[1]) - len(body) if length else 1
    return got


def drip(line: socket.socket) -> threading.Event:
    """Send a byte every tenth of a second, for ever."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.1):
            try:
                line.send(b"x")
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    return stop


def test_row_41_200_clients_at_once_get_200_or_429(server: Served) -> None:
    with ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(lambda _: server.post(b"wait 0.02" + b" " * 50_000), range(200)))
    refused = [answer for answer in answers if answer.status != 200]
    assert {answer.code for answer in refused} == {(429, "E_BUSY")}
    assert refused[0].headers["retry-after"] == "1"
    assert 4 <= 200 - len(refused)


def test_row_41_too_many_connections(tmp_path: Path) -> None:
    with served(tmp_path, connections=3) as small:
        lines = [small.open() for _ in range(3)]
        assert small.raw().code == (429, "E_BUSY")
        for line in lines:
            line.close()
        until(lambda: small.call("GET", "/healthz").status == 200)


MALFORMED = [
    (b"", "multipart/form-data; boundary=AaB"),
    (b"no part", "multipart/form-data; boundary=AaB"),
    (b"--AaB\r\n\r\ngood\r\n--AaB--", "multipart/form-data; boundary=AaB"),
    (form(b"good")[0][:-12], "multipart/form-data; boundary=AaB"),
    (form(b"good")[0], "multipart/form-data"),
    (form(b"good")[0], "multipart/form-data; boundary="),
    (form(b"good")[0], "multipart/form-data; boundary=other"),
    (form(b"good")[0], "multipart/form-data; boundary=" + "A" * 5000),
    (form(b"good")[0].replace(b"photo", b"image"), "multipart/form-data; boundary=AaB"),
    (form(b"good", camera="9" * 50_000)[0], "multipart/form-data; boundary=AaB"),
    (b"--AaB\r\n" + b"x: y\r\n" * 5000, "multipart/form-data; boundary=AaB"),
    (b"--AaB\r\n" + b"x" * 90_000, "multipart/form-data; boundary=AaB"),
]


def test_row_41_malformed_multipart(server: Served) -> None:
    for k, (body, kind) in enumerate(MALFORMED):
        assert server.post(body, kind=kind).code == (400, "E_REQUEST"), k


def test_row_41_no_bytes_make_a_fault(server: Served) -> None:
    chance = random.Random(0)
    whole, kind = form(b"good", "\xff\u202e.jpg", box="1,2,3,4", model="car")
    for _ in range(100):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        assert server.post(bytes(body), kind=kind).status in (200, 400, 422)
    for junk in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /\r\n\r\n"):
        assert server.raw(junk).code == (400, "E_REQUEST")
    for told in (b"content-length: x", b"content-length: -1", b"transfer-encoding: y"):
        assert server.raw(HEAD + told + b"\r\n\r\n").status in (400, 501)
    assert server.raw(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n").status == 400
    assert server.raw(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000).status == 400


def test_row_41_paths_lead_nowhere(server: Served) -> None:
    for path in (
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd"),
        *("//etc/passwd", "/estimate/../../etc/passwd", "/%00", "/C:%5Cwindows", "/%ff%fe"),
    ):
        assert server.call("GET", path).code == (404, "E_NOT_FOUND"), path
        assert server.call("POST", path, b"good").status == 404, path


def test_row_41_file_names_are_only_shown(server: Served) -> None:
    names = (
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x",
        "C:\\x",
        "",
        "..",
        "a\x00b",
        "x" * 5000,
    )
    for name in names:
        answer = server.form(b"good", name)
        assert answer.status in (200, 400), name
        if answer.status == 200:
            shown = answer.json["photo"]
            assert shown and not set("/\\\x00") & set(shown) and len(shown) <= 100


def test_methods(server: Served) -> None:
    assert server.call("GET", "/estimate").code == (405, "E_METHOD")
    assert server.call("DELETE", "/estimate").code == (405, "E_METHOD")


def test_a_killed_process_costs_a_retry_or_a_503(server: Served) -> None:
    first = server.post(b"good").json["process"]
    again = server.post(b"deadly 1")
    assert again.status == 200 and again.json["process"] != first
    assert server.post(b"deadly").code == (503, "E_WORKER")
    assert server.desk.pool.replaced["died"] == 3


def test_a_full_disk_is_told(server: Served, monkeypatch) -> None:
    def full(self, mode: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        answer = server.post(b"good")
    assert answer.code == (503, "E_DISK_FULL") and str(server.scratch) not in answer.json["message"]


def test_a_fault_of_ours_is_told(tmp_path: Path) -> None:
    with served(tmp_path) as other:
        assert other.post(b"fault").code == (500, "E_INTERNAL")
        assert other.post(b"good").status == 200


def test_an_estimate_that_takes_too_long(tmp_path: Path) -> None:
    with served(tmp_path, limit_s=0.5) as hasty:
        clock = time.monotonic()
        assert hasty.post(b"wait 60").code == (503, "E_TIMEOUT")
        assert time.monotonic() - clock < 5
        assert hasty.post(b"good").status == 200
        assert hasty.desk.pool.replaced["late"] == 1


def test_a_client_that_goes_gives_its_place_back(server: Served) -> None:
    busy = ThreadPoolExecutor(1).submit(server.post, b"wait 1")
    until(lambda: server.desk.under_way == 1)
    for _ in range(3):
        with server.open() as line:
            line.sendall(HEAD + b"content-length: 6\r\n\r\nwait 9")
            until(lambda: server.desk.under_way == 2)
        until(lambda: server.desk.under_way == 1)
    assert busy.result().status == 200


def test_state(server: Served) -> None:
    health = server.call("GET", "/healthz")
    assert health.json["status"] == "ok" and health.json["workers"] == 1
    assert [model["name"] for model in health.json["models"]] == ["car", "chair"]
    rows = server.call("GET", "/metrics").body.decode().splitlines()
    values = dict(row.rsplit(" ", 1) for row in rows if not row.startswith("#"))
    assert float(values['featmesh_requests_total{path="/estimate",status="200"}']) > 0
    assert float(values['featmesh_estimate_seconds_bucket{le="+Inf"}']) > 0
    assert float(values["featmesh_server_resident_bytes"]) > 1e6
    told = {row.split()[2] for row in rows if row.startswith("# TYPE")}
    assert all(any(name.startswith(family) for family in told) for name in values)


CODE = """
import signal, sys
from featmesh.apps.serve import serve
from featmesh.apps.serve_config import ServeConfig
from featmesh.cli.main import _terminate
signal.signal(signal.SIGTERM, _terminate)
config = ServeConfig(port=0, workers=1, queue=4)
serve(config, lambda address: print("torch" in sys.modules, address, flush=True), sys.argv[1])
"""


def test_sigterm_answers_what_is_under_way(tmp_path: Path) -> None:
    places = [str(Path(featmesh.__file__).parents[1]), str(Path(__file__).parents[1])]
    run = [sys.executable, "-c", CODE, ENGINE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        heavy, address = process.stdout.readline().split()
        assert heavy == "False"  # only the processes that estimate hold the network
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(HEAD + b"content-length: 8\r\n\r\nwait 1.0")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert answer_of(line).status == 200
        assert process.wait(20) == 143
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"queue": 0}, "E_CONFIG"),
        ({"body_mb": float("nan")}, "E_CONFIG"),
        ({"port": 70_000}, "E_CONFIG"),
        ({"model": "absent"}, "E_CKPT_NAME"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(settings, code: str) -> None:
    config = ServeConfig(**({"port": 0, "workers": 1} | settings))
    with pytest.raises(FeatmeshError) as caught:
        serve(config, engine=ENGINE)
    assert caught.value.code == code


def test_a_port_that_is_taken(server: Served) -> None:
    with pytest.raises(InputError, match="try: another --port") as caught:
        serve(ServeConfig(port=server.port), engine=ENGINE)
    assert caught.value.code == "E_PORT"


def test_the_verb(monkeypatch, capsys) -> None:
    calls = []
    monkeypatch.setattr("featmesh.apps.serve.serve", lambda *given: calls.append(given))
    assert _call("serve", ["--model", "any", "--host", "0.0.0.0", "--queue", "7"]) == 0
    ((config, ready),) = calls
    assert (config.model, config.queue, config.body_mb) == ("any", 7, 20.0)
    ready("http://x")
    told = capsys.readouterr().err
    assert "lets other machines in" in told and "http://x" in told
    assert ServeConfig().host == "127.0.0.1"


def test_without_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "featmesh.apps.serve")
    with pytest.raises(BackendUnavailable, match="featmesh\\[serve\\]"):
        import featmesh.apps.serve  # noqa: F401


def test_the_answer_is_whole_json(server: Served) -> None:
    assert json.loads(server.post(b"good").body)["objects"] == [{"status": "ok"}]


def test_a_client_that_reads_nothing_is_let_go(tmp_path: Path) -> None:
    with served(tmp_path, slow_s=0.2) as hasty, hasty.open() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 3000)  # 20 MB of answers
        until(lambda: _cut_off(line))


def _cut_off(line: socket.socket) -> bool:
    try:
        line.send(b"x")
    except OSError:
        return True
    return False
