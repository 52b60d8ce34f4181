"""Downloads against a server on this machine, and extraction of good and evil archives."""

import functools
import hashlib
import http.client
import http.server
import re
import resource
import stat
import tarfile
import threading
import urllib.request
import zipfile

import numpy as np
import pytest
from refusals import complaint
from sample_files import write_tar, write_zip

from benchmarks.shared.download import Source, _SafeRedirects, fetch
from po2quant.data.archives import extract, members

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_001, dtype=np.uint8).tobytes()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``CONTENT`` at ``/data``; ``requests`` has the Range header of each request."""

    def __init__(self, has_ranges=True, sent_bytes=None, content=CONTENT, redirect=None, says_length=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.has_ranges, self.sent_bytes, self.content, self.requests = has_ranges, sent_bytes, content, []
        self.redirect, self.says_length = redirect, says_length
        self.url = f"http://127.0.0.1:{self.server_port}/data"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        header, content, start = self.headers.get("Range"), self.server.content, 0
        self.server.requests.append(header)
        if self.path != "/data":
            return self.send_error(404)
        if header and self.server.has_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", header)[1])
            if start >= len(content):
                return self.send_error(416)
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            return self.end_headers()
        self.send_response(206 if start else 200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.sent_bytes])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts a server."""
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(**options):
        servers.append(Server(**options))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files(folder):
    """Return all files below a folder and their contents."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("digest", [SHA256, SHA256.upper().replace("SHA", "sha")])
def test_fetch_and_keep(serve, tmp_path, digest):
    """A file is downloaded once, into folders that are made."""
    server, folder = serve(), tmp_path / "new" / "data"
    source = Source(server.url, "a.bin", len(CONTENT), digest)
    assert fetch(source, folder) == folder / "a.bin" == fetch(source, folder)
    assert files(folder) == {"a.bin": CONTENT} and server.requests == [None]


def test_first_download_by_md5_is_remembered(serve, tmp_path):
    """Where a publisher states an MD5 alone, the SHA-256 of the first download must stay, on disk and in a next one."""
    server = serve()
    source = Source(server.url, "a.bin", len(CONTENT), MD5)
    fetch(source, tmp_path)
    record = f"{SHA256[7:]}  a.bin\n".encode()
    assert files(tmp_path) == {"a.bin": CONTENT, "a.bin.sha256": record}
    fetch(source, tmp_path)
    assert server.requests == [None]
    (tmp_path / "a.bin.sha256").write_text("0" * 64 + "  a.bin\n")
    sentence = complaint(fetch, source, tmp_path)
    assert "a.bin.sha256" in sentence and "0" * 64 in sentence and SHA256[7:] in sentence
    assert server.requests == [None, None] and "a.bin.part" not in files(tmp_path)


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://example.org/a", "//example.org/a", "a.bin", ""])
def test_unsafe_urls(url):
    """What others could change on the way is not even a source."""
    assert "must be https" in complaint(Source, url, "a.bin", 1, SHA256)


@pytest.mark.parametrize(
    ("size_bytes", "digest"),
    [(None, SHA256), (0, SHA256), (1.0, SHA256), (1, None), (1, "md5:"), (1, "sha1:" + "0" * 40)],
)
def test_sources_without_size_or_digest(size_bytes, digest):
    """Size and digest are needed."""
    complaint(Source, "https://example.org/a", "a.bin", size_bytes, digest)


@pytest.mark.parametrize("place", ["http://example.org/data", "ftp://example.org/data"])
def test_unsafe_redirects(serve, tmp_path, place):
    """A redirect to what is no https is refused before anything is asked there."""
    sentence = complaint(fetch, Source(serve(redirect=place).url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert f"must be https. Received: {place}" in sentence and files(tmp_path) == {}


def test_https_leads_to_https_alone():
    """From https not even a place on this machine is led to."""
    request = urllib.request.Request("https://example.org/data")
    for place in ("http://127.0.0.1/data", "file:///etc/hostname"):
        assert place in complaint(_SafeRedirects().redirect_request, request, None, 302, "Found", {}, place)
    assert _SafeRedirects().redirect_request(request, None, 302, "Found", {}, "https://example.org/b").host


def test_endless_answer(serve, tmp_path):
    """A server that says no length and goes on after the last byte is left, and the disk does not fill."""
    server = serve(content=CONTENT * 2, says_length=False)
    assert f"must have {len(CONTENT)} bytes. Received: more" in complaint(
        fetch, Source(server.url, "a.bin", len(CONTENT), SHA256), tmp_path
    )
    assert (tmp_path / "a.bin.part").stat().st_size <= len(CONTENT)


@pytest.mark.parametrize("has_ranges", [True, False])
def test_resume(serve, tmp_path, has_ranges):
    """A part file is completed, or replaced where the server sends whole files alone."""
    server = serve(has_ranges=has_ranges)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1_000_000])
    fetch(Source(server.url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert files(tmp_path) == {"a.bin": CONTENT} and server.requests == ["bytes=1000000-"]


@pytest.mark.parametrize("part", [CONTENT, CONTENT * 2])
def test_finished_or_foreign_part(serve, tmp_path, part):
    """A part file with all bytes is taken; one with too many is downloaded anew."""
    (tmp_path / "a.bin.part").write_bytes(part)
    fetch(Source(serve().url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert files(tmp_path) == {"a.bin": CONTENT}


def test_broken_connections(serve, tmp_path):
    """A connection that breaks again and again is resumed; without ranges it ends in a sentence."""
    server = serve(sent_bytes=1_100_000)
    fetch(Source(server.url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert server.requests == [None, "bytes=1100000-", "bytes=2200000-"]
    source = Source(serve(sent_bytes=1_100_000, has_ranges=False).url, "b.bin", len(CONTENT), SHA256)
    assert "1100000 of 3000001 bytes" in complaint(fetch, source, tmp_path)
    assert sorted(files(tmp_path)) == ["a.bin", "b.bin.part"]


def test_wrong_content(serve, tmp_path):
    """Content with another digest is removed, and a damaged file is downloaded anew."""
    wrong = Source(serve().url, "a.bin", len(CONTENT), "sha256:" + "0" * 64)
    sentence = complaint(fetch, wrong, tmp_path)
    assert "a.bin" in sentence and "sha256 " + "0" * 64 in sentence and SHA256[7:] in sentence
    assert files(tmp_path) == {}
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1] + b"!")
    fetch(Source(wrong.url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert files(tmp_path) == {"a.bin": CONTENT}


def test_wrong_size(serve, tmp_path):
    """A server with a file of another size is refused before anything is downloaded."""
    source = Source(serve().url, "a.bin", 7, SHA256)
    assert "must have 7 bytes. Received: 3000001" in complaint(fetch, source, tmp_path)
    assert files(tmp_path) == {}


def test_unreachable(serve, tmp_path):
    """No server and no such page name the URL and the way out; a part file stays."""
    (tmp_path / "a.bin.part").write_bytes(b"abc")
    server = serve()
    for url in ("http://127.0.0.1:9/data", server.url + "/none"):
        sentence = complaint(fetch, Source(url, "a.bin", len(CONTENT), SHA256), tmp_path)
        assert url in sentence and "--data-dir" in sentence and "a.bin" in sentence
    assert files(tmp_path) == {"a.bin.part": b"abc"}
    nowhere = Source("http://127.0.0.1:9/data", "a.bin", len(CONTENT), SHA256)
    assert "--data-dir" in complaint(fetch, nowhere, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert "must be writable" in complaint(
        fetch, Source(server.url, "a.bin", len(CONTENT), SHA256), tmp_path / "a.bin.part"
    )


def test_interrupt(serve, tmp_path, monkeypatch):
    """Ctrl-C leaves the part file alone, and the next download goes on from there."""
    server, read, calls = serve(), http.client.HTTPResponse.read, []

    def interrupted(response, count):
        calls.append(count)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(response, count)

    monkeypatch.setattr(http.client.HTTPResponse, "read", interrupted)
    source = Source(server.url, "a.bin", len(CONTENT), SHA256)
    with pytest.raises(KeyboardInterrupt):
        fetch(source, tmp_path)
    assert files(tmp_path) == {"a.bin.part": CONTENT[: calls[0]]}
    fetch(source, tmp_path)
    assert files(tmp_path) == {"a.bin": CONTENT} and server.requests[1] == f"bytes={calls[0]}-"


@pytest.fixture
def small_disk():
    """Let files grow to 1 MB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk(serve, tmp_path, small_disk):
    """A full disk is named, and leaves the part file of a download, and nothing of an extraction."""
    assert "room for a.bin" in complaint(fetch, Source(serve().url, "a.bin", len(CONTENT), SHA256), tmp_path)
    assert sorted(files(tmp_path)) == ["a.bin.part"]
    (tmp_path / "a.bin.part").unlink()
    archive = write_zip(tmp_path / "a.zip", {"a": bytes(100), "zeros": bytes(2_000_000)}, zipfile.ZIP_DEFLATED)
    assert "room for a.zip" in complaint(extract, archive, tmp_path / "out")
    assert sorted(files(tmp_path)) == ["a.zip"]


GOOD = {"top/a.bin": CONTENT, "top/deep/er/b.txt": b"b", "empty": b""}
MAKERS = {
    "a.zip": functools.partial(write_zip, compression=zipfile.ZIP_DEFLATED),
    "a.tar": functools.partial(write_tar, mode="w"),
    "a.tar.gz": write_tar,
    "a.tar.bz2": functools.partial(write_tar, mode="w:bz2"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_extract(tmp_path, name):
    """Every file comes out, in a folder that is new or empty, whatever an earlier attempt left there."""
    archive = MAKERS[name](tmp_path / name, GOOD)
    (tmp_path / "partial-out").mkdir()
    (tmp_path / "partial-out" / "stale").write_bytes(b"stale")
    extract(archive, tmp_path / "out")
    assert files(tmp_path / "out") == GOOD and not (tmp_path / "partial-out").exists()
    assert "must be new or empty" in complaint(extract, archive, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    extract(archive, tmp_path / "empty")
    assert files(tmp_path / "empty") == GOOD
    assert {name: b"".join(chunks) for name, chunks in members(archive)} == GOOD


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_truncated_archive(tmp_path, name, share):
    """A truncated archive leaves nothing."""
    content = MAKERS[name](tmp_path / name, GOOD).read_bytes()
    archive = tmp_path / name
    archive.write_bytes(content[: int(share * len(content))])
    assert "complete zip or tar file" in complaint(extract, archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_truncation_between_files(tmp_path):
    """A tar file that ends with a whole file but without an end mark is refused."""
    archive = write_tar(tmp_path / "a.tar", {"a": bytes(512), "b": bytes(512)}, mode="w")
    archive.write_bytes(archive.read_bytes()[:1024])
    assert "no end mark" in complaint(extract, archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2"])
def test_damaged_archive(tmp_path, name):
    """A changed byte in the content is found by the checksum of the archive."""
    archive = MAKERS[name](tmp_path / name, GOOD)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert "complete zip or tar file" in complaint(extract, archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\evil", "C:/evil"])
@pytest.mark.parametrize("archive_name", MAKERS)
def test_names_that_lead_out(tmp_path, archive_name, name):
    """A name that leads out of the folder is refused, and nothing is written, not even the files before it."""
    archive = MAKERS[archive_name](tmp_path / archive_name, {"good": b"good", name: b"evil"})
    assert name in complaint(extract, archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices(tmp_path, kind):
    """Links, pipes and devices in a tar file are refused."""
    archive = write_tar(tmp_path / "a.tar.gz", {"evil": b""}, kind=kind, linkname="/etc/hostname")
    assert "only plain inner files. Received: evil" in complaint(extract, archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_link_in_zip(tmp_path):
    """A link in a zip file is refused."""
    link = zipfile.ZipInfo("evil")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = write_zip(tmp_path / "a.zip", {link: "/etc/hostname"})
    assert "only plain inner files. Received: evil" in complaint(extract, archive, tmp_path / "out")


@pytest.mark.parametrize("name", MAKERS)
def test_empty_archive(tmp_path, name):
    """An archive without files is refused."""
    assert "which is empty" in complaint(extract, MAKERS[name](tmp_path / name, {}), tmp_path / "out")


def test_no_archive(tmp_path):
    """A missing file, a folder and a web page are refused."""
    (tmp_path / "page.zip").write_text("<html>Not found</html>" * 100)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none.zip", tmp_path / "folder", tmp_path / "page.zip"):
        assert path.name in complaint(extract, path, tmp_path / "out")
