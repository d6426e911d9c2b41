"""Other people's HTTP clients at their defaults: each scores, by a body at once and by one in chunks."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import requests
from running import Home, Server, serve

pytestmark = pytest.mark.service

BODY = json.dumps({"client_id": "client-1", "application": {"AMT_CREDIT": 450000, "EXT_SOURCE_2": 0.58}})
HEADERS = {"Content-Type": "application/json"}
JAVA = """
import java.net.URI;
import java.net.http.*;

public class Call {
    public static void main(String[] given) throws Exception {
        byte[] body = given[1].getBytes("UTF-8");
        var client = HttpClient.newHttpClient();
        var all = HttpRequest.BodyPublishers.ofByteArray(body);
        var stream = HttpRequest.BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(body));
        for (var publisher : new HttpRequest.BodyPublisher[] {all, stream}) {
            var request = HttpRequest.newBuilder(URI.create(given[0])).header("Content-Type", "application/json").POST(publisher).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
"""
NODE = """
const [url, body] = process.argv.slice(1);
const headers = {"Content-Type": "application/json"};
const stream = () => new ReadableStream({
    start(to) { for (const part of body.match(/.{1,20}/g)) to.enqueue(new TextEncoder().encode(part)); to.close(); }
});
(async () => {
    console.log(await (await fetch(url, {method: "POST", headers, body})).text());
    console.log(await (await fetch(url, {method: "POST", headers, body: stream(), duplex: "half"})).text());
})();
"""

Need = Callable[..., str]


def parts() -> Iterator[bytes]:
    """The body piece by piece."""
    for place in range(0, len(BODY), 20):
        yield BODY[place : place + 20].encode()


def curl(url: str, need: Need, folder: Path) -> list[str]:
    """The answers to HTTP/1.1 that asks for HTTP/2, at once, in chunks and after a 100."""
    command = [need("curl"), "-sS", "--max-time", "30", "-d", BODY, "-H", "Content-Type: application/json", url]
    variants = [["--http2"], ["--http2", "-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["--http1.0"]]
    return [run([*command, *variant]) for variant in variants]


def java(url: str, need: Need, folder: Path) -> list[str]:
    """The answers of its HttpClient, which asks for HTTP/2."""
    source = folder / "Call.java"
    source.write_text(JAVA)
    return run([need("java", in_ci=False), str(source), url, BODY]).splitlines()


def node(url: str, need: Need, folder: Path) -> list[str]:
    """The answers of its fetch."""
    return run([need("node", in_ci=False), "-e", NODE, url, BODY]).splitlines()


def python(url: str, need: Need, folder: Path) -> list[str]:
    """The answers of requests and of httpx."""
    answers = [requests.post(url, data=data, headers=HEADERS, timeout=30).text for data in (BODY, parts())]
    return [*answers, *(httpx.post(url, content=content, headers=HEADERS, timeout=30).text for content in (BODY, parts()))]


def run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def check(answers: list[str], url: str) -> None:
    expected = httpx.post(url, content=BODY, headers=HEADERS, timeout=30).json()["probability"]
    told = [json.loads(answer) for answer in answers]
    assert [(answer.get("client_id"), answer.get("probability")) for answer in told] == [("client-1", expected)] * len(told), answers


CLIENTS = pytest.mark.parametrize("client", [curl, java, node, python], ids=lambda client: client.__name__)


@CLIENTS
def test_each_client_scores(client: Callable[[str, Need, Path], list[str]], server: Server, need: Need, tmp_path: Path) -> None:
    url = f"{server.url}/predict"
    check(client(url, need, tmp_path), url)


@pytest.fixture(scope="module")
def tracing(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(home, tmp_path_factory.mktemp("tracing"), CREDIT_SERVICE__TRACING="true")


@CLIENTS
def test_each_client_scores_with_tracing(
    client: Callable[[str, Need, Path], list[str]], tracing: Server, need: Need, tmp_path: Path
) -> None:
    url = f"{tracing.url}/predict"
    check(client(url, need, tmp_path), url)
