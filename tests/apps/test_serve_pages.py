import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from featmesh.apps.serve_options import FIELDS

from .serving import Served, served

PAGES = ("/", "/docs")
VOID = {"meta", "img", "input", "br"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("scratch"), model="car,b<us") as running:
        yield running


class Tags(HTMLParser):
    """The elements of a page; those that are opened are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pages_are_whole_and_load_nothing_from_elsewhere(server: Served) -> None:
    for path in PAGES:
        answer = server.call("GET", path)
        text = answer.body.decode()
        tags = Tags(text)
        assert not tags.open and "{{" not in text
        assert "http://" not in text and "https://" not in text and "url(" not in text
        assert not [t for t, a in tags.seen if t in ("script", "link", "img") and a.get("src")]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        for _, attributes in tags.seen:
            link = attributes.get("href")
            assert link is None or server.call("GET", link).status == 200


def test_the_demo_offers_the_models(server: Served) -> None:
    text = server.call("GET", "/").body.decode()
    assert "<option>car</option><option>b&lt;us</option>" in text
    ids = {a["id"] for _, a in Tags(text).seen if "id" in a}
    script = text[text.index('"use strict"') :]
    asked = set(re.findall(r'the\("(\w+)"\)', script))
    assert asked <= ids and {"file", "result", "told", "preview"} <= asked
    assert {"model", "task"} <= ids
    frame = next(a for t, a in Tags(text).seen if t == "iframe")
    assert frame["sandbox"] == "allow-scripts"  # the result can reach nothing of this page


def test_the_demo_asks_what_the_server_knows(server: Served, tmp_path: Path) -> None:
    text = server.call("GET", "/").body.decode()
    fields = re.findall(r'form.append\("(\w+)"', text) + re.findall(r'"(model|task)"', text)
    assert set(fields) <= {"photo", *FIELDS}
    assert server.form(b"good", model="b<us", task="shape", format="html").status == 200


def test_openapi_tells_photo_fields_and_errors(server: Served) -> None:
    schema = server.call("GET", "/openapi.json").json
    post = schema["paths"]["/estimate"]["post"]
    assert {p["name"] for p in post["parameters"]} == set(FIELDS)
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["photo"] and set(form["properties"]) == {"photo", *FIELDS}
    assert {"200", "400", "408", "413", "415", "422", "429", "503"} == set(post["responses"])
    page = server.call("GET", "/docs").body.decode()
    assert all(f"<code>{name}</code>" in page for name in (*FIELDS, *post["responses"]))
    assert {"/estimate", "/healthz", "/metrics"} == set(schema["paths"])
