"""Fetching from a hub that behaves, and from one that does not: nothing half-written is ever there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from anigender.digests import DigestError
from anigender.downloads import DownloadError, Hub
from anigender.known_models import KnownFile, KnownModel
from anigender.locate import get, locate_files

COMMIT, REPOSITORY = "a" * 40, "someone/heads"


def stored(hub: Hub) -> dict[str, bytes]:
    """All files of the cache but locks and notes of commits."""
    return {
        path.name: path.read_bytes()
        for path in hub.cache.rglob("*")
        if path.is_file() and ".locks" not in path.parts and "refs" not in path.parts
    }


# -- all is well -------------------------------------------------------------------------------------------------------


def test_files_come_whole_and_once(server, hub, model, caplog) -> None:
    with caplog.at_level(logging.WARNING, "anigender"):
        paths = get(model, hub)
    assert [path.read_bytes() for path in paths] == list(server.files.values())
    assert stored(hub) == server.files
    assert [path.name for path in paths] == list(server.files) and paths[0].parent == paths[1].parent
    digest = hashlib.sha256(server.files["head.safetensors"]).hexdigest()
    assert "trusted from now on" in caplog.text and digest in caplog.text
    caplog.clear()
    assert get(model, hub) == paths == locate_files(model, [], hub)
    assert server.downloads("head.safetensors") == [None], "not fetched again"
    assert caplog.text == "", "said once"


def test_the_hubs_own_programs_find_what_was_fetched(server, hub, model) -> None:
    paths = get(model, hub)
    for revision in (None, "main", COMMIT):
        assert try_to_load_from_cache(REPOSITORY, "head.safetensors", hub.cache, revision) == str(paths[0])


def test_what_the_hubs_own_programs_fetched_is_used(server, hub, model) -> None:
    folder = hub.cache / "models--someone--heads"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "blobs").mkdir()
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    for name, contents in server.files.items():
        (folder / "blobs" / name).write_bytes(contents)
        (folder / "snapshots" / COMMIT / name).symlink_to(folder / "blobs" / name)
    found = locate_files(model, [], hub)
    assert found == [folder / "snapshots" / COMMIT / name for name in server.files]
    assert server.asked == []


@pytest.mark.parametrize("kind", ["slow", "to {address}/elsewhere/"])
def test_a_slow_server_and_a_redirect_are_fine(server, hub, model, kind: str) -> None:
    server.behaviour["head.safetensors"] = kind.format(address=server.address)
    get(model, replace(hub, timeout=1))
    assert stored(hub) == server.files


@pytest.mark.parametrize(
    ("first", "then", "ranges"),
    [
        ("truncated", "whole", [None, "bytes=102400-"]),
        ("truncated", "no ranges", [None, "bytes=102400-"]),
        ("stalled", "whole", [None, "bytes=10-"]),
        ("503", "whole", [None, None]),
        ("shorter", "whole", [None, "bytes=512000-"]),
    ],
)
def test_a_broken_connection_is_taken_up_again(server, hub, model, first: str, then: str, ranges: list) -> None:
    server.first["head.safetensors"], server.behaviour["head.safetensors"] = first, then
    get(model, replace(hub, timeout=1))
    assert stored(hub) == server.files
    assert server.downloads("head.safetensors") == ranges


def test_a_file_of_another_site(server, hub) -> None:
    contents = server.files["head.safetensors"]
    file = KnownFile("head.safetensors", len(contents), hashlib.sha256(contents).hexdigest())
    model = KnownModel(
        "other", "detector", "a test", (file,), "MIT", "", 1.1, url=f"{server.address}/elsewhere/{file.pattern}"
    )
    (path,) = get(model, hub)
    assert path.read_bytes() == contents and path == hub.own / "other" / "head.safetensors"
    assert locate_files(model, [], hub) == [path]
    path.unlink()
    server.files["head.safetensors"] = contents[:-1] + b"x"
    with pytest.raises(DownloadError, match="not what is expected"):
        get(model, hub)
    assert not path.exists()


# -- nothing is well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"head.safetensors": "truncated"}, "ended after 409600 of 1024000 bytes"),
        ({"head.safetensors": "shorter"}, "ended after 512000 of 1024000 bytes"),
        ({"head.safetensors": "corrupted"}, "not what is expected: its digest is"),
        ({"head.safetensors": "longer"}, "more than the 1024000 bytes expected"),
        ({"head.safetensors": "endless"}, "more than the 1024000 bytes expected"),
        ({"head.safetensors": "stalled"}, "timed out"),
        ({"head.safetensors": "404"}, "answers 404, not found"),
        ({"head.safetensors": "500"}, "answers 500"),
        ({"head.safetensors": "to file:///etc/passwd"}, "answers 302.*is not allowed"),
        ({"head.safetensors": "to ftp://127.0.0.1/x"}, "leads to ftp"),
        ({"head.config.json": "corrupted"}, "not what is expected: its digest is"),
        ({"head.config.json": "404"}, "answers 404"),
        ({"listing": "404"}, "answers 404"),
        ({"listing": "401"}, "answers 401, not found, or not public"),
        ({"listing": "503"}, "answers 503"),
    ],
)
def test_nothing_unfinished_is_left(server, hub, model, behaviour: dict, message: str) -> None:
    server.behaviour.update(behaviour)
    with pytest.raises(DownloadError, match=message) as raised:
        get(model, replace(hub, timeout=0.5))
    for part in ("head-1", "By hand", "https://huggingface.co/someone/heads", "models/anigender/head-1"):
        assert part in str(raised.value)
    assert not set(stored(hub)) & (set(behaviour) | {"listing"})
    assert not [name for name in stored(hub) if name.endswith(".tmp")]
    assert locate_files(model, [], hub) is None, "a model lacking a file is not there"


def entry(**changed: object) -> dict:
    return {"rfilename": "head.safetensors", "size": 10, **changed}


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"<html>", "no list of files"),
        (b"[" * 100_000, "no list of files"),
        (b"[]", "no list of files"),
        (b"{" + b" " * (9 << 20), "more than 8388608 bytes"),
        ({"sha": "../../x", "siblings": []}, "is no commit"),
        ({"sha": None, "siblings": []}, "no list of files"),
        ({"sha": COMMIT, "siblings": [entry(rfilename="../head.safetensors")]}, "leads elsewhere"),
        ({"sha": COMMIT, "siblings": [entry(rfilename="/head.safetensors")]}, "leads elsewhere"),
        ({"sha": COMMIT, "siblings": [entry(size="many")]}, "has size 'many'"),
        ({"sha": COMMIT, "siblings": [entry(lfs=[1])]}, "no list of files"),
        ({"sha": COMMIT, "siblings": [entry(), entry(rfilename="other.json")]}, "has no file head.config.json"),
        (
            {"sha": COMMIT, "siblings": [entry(size=10**15), entry(rfilename="head.config.json")]},
            "no more than 3000000",
        ),
    ],
)
def test_a_listing_that_lies_is_refused(server, hub, model, listing, message: str) -> None:
    server.listing = listing
    with pytest.raises(DownloadError, match=message):
        get(model, hub)
    assert stored(hub) == {}


def test_several_files_that_fit_are_named(server, hub, model) -> None:
    server.files["other.safetensors"] = b"x"
    with pytest.raises(DownloadError, match=r"several files \*\.safetensors: head\.safetensors, other\.safetensors"):
        get(replace(model, files=(KnownFile("*.safetensors"),)), hub)


@pytest.mark.parametrize("endpoint", ["file:///tmp", "huggingface.co"])
def test_an_endpoint_that_is_none(hub, model, endpoint: str) -> None:
    with pytest.raises(DownloadError, match="HF_ENDPOINT is"):
        get(model, replace(hub, endpoint=endpoint))


def test_offline_asks_nobody(server, hub, model) -> None:
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set") as raised:
        get(model, replace(hub, offline=True))
    assert "head.safetensors and head.config.json from https://huggingface.co/someone/heads" in str(raised.value)
    assert server.asked == []
    get(model, hub)
    assert locate_files(model, [], replace(hub, offline=True)) is not None, "what is here needs no network"


# -- trust -------------------------------------------------------------------------------------------------------------


def test_the_first_commit_stays(server, hub, model) -> None:
    first = get(model, hub)
    asked = len(server.asked)
    for path in first:
        path.unlink()
    get(model, hub)
    assert server.asked[asked][0] == f"/api/models/{REPOSITORY}/revision/{COMMIT}?blobs=true", "not the branch"


def test_a_changed_file_is_refused_until_it_is_accepted(server, hub, model) -> None:
    for path in get(model, hub):
        path.unlink()
    server.files["head.safetensors"] = b"something else"
    with pytest.raises(DownloadError, match="not what is expected.*--accept"):
        get(model, hub)
    assert "head.safetensors" not in stored(hub)
    server.commit = "b" * 40
    paths = get(model, hub, accept=True)
    assert paths[0].read_bytes() == b"something else" and "b" * 40 in paths[0].parts
    assert locate_files(model, [], hub) == paths


def test_a_file_that_was_tampered_with_is_refused(server, hub, model) -> None:
    path = get(model, hub)[0]
    path.write_bytes(b"tampered")
    with pytest.raises(DigestError, match="not the file that was trusted on 2"):
        locate_files(model, [], hub)


def test_a_published_digest_counts_before_any_record(server, hub, model) -> None:
    path = get(model, hub)[0]
    published = replace(model, files=(replace(model.files[0], sha256="0" * 64), model.files[1]))
    with pytest.raises(DigestError, match="not the published file"):
        locate_files(published, [], hub)
    assert path.is_file()


@pytest.mark.parametrize("contents", ["{", "[]", '{"a": 1}', '{"a": {"sha256": "x"}}', "[" * 100_000])
def test_a_damaged_record_is_no_free_pass(server, hub, model, contents: str) -> None:
    get(model, hub)
    (hub.own / "digests.json").write_text(contents)
    with pytest.raises(ValueError, match="digests.json .*delete it"):
        locate_files(model, [], hub)


def test_the_record_can_be_read_by_people(server, hub, model) -> None:
    get(model, hub)
    record = json.loads((hub.own / "digests.json").read_text())
    assert record["head-1/head.safetensors"]["commit"] == COMMIT
    assert set(record) == {"head-1/head.safetensors", "head-1/head.config.json"}


# -- several processes, and disks that end -----------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from anigender.downloads import Hub
from anigender.known_models import KnownFile, KnownModel
from anigender.locate import get
address, home = sys.argv[1:3]
hub = Hub(address, Path(home, "hub"), Path(home, "anigender"), timeout=5, pause=0)
files = (KnownFile("head.safetensors"), KnownFile("head.config.json"))
model = KnownModel("head-1", "quality", "a test", files, "MIT", "none", 1.0, "someone/heads")
if sys.argv[3:] == ["somebody else"]:
    import os
    import encodings.idna, filelock, huggingface_hub.file_download
    if os.geteuid() == 0:  # root may write anywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
elif sys.argv[3:]:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    print(*get(model, hub), sep="\\n")
except OSError as error:
    print("refused:", error)
"""


def start(hub: Hub, *arguments: str, **options) -> subprocess.Popen:
    """The program above in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, hub.endpoint, str(hub.cache.parent), *arguments]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/", **options)


def test_two_processes_fetch_one_file_once(server, hub) -> None:
    server.behaviour["head.safetensors"] = "slow"
    running = [start(hub) for _ in range(2)]
    said = {process.communicate(timeout=120)[0] for process in running}
    assert len(said) == 1 and "head.safetensors" in said.pop()
    assert stored(hub) == server.files
    assert server.downloads("head.safetensors") == [None]


def test_a_killed_process_leaves_no_file_of_that_name(server, hub, model) -> None:
    server.behaviour["head.safetensors"] = "stalled"
    process = start(hub)
    while not any(name.endswith(".tmp") for name in stored(hub)):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert "head.safetensors" not in stored(hub) and locate_files(model, [], hub) is None
    server.behaviour.clear()
    get(model, hub)
    assert stored(hub) == server.files, "what the killed one had begun is cleared away"


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is a POSIX limit")
def test_a_disk_that_fills_up(server, hub, model) -> None:
    said = start(hub, "300000").communicate(timeout=120)[0]
    assert said.startswith("refused: head-1 cannot be stored in ") and "the disk is full" in said
    assert "HF_HOME names another folder" in said
    assert stored(hub) == {} and locate_files(model, [], hub) is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_too_small(server, hub) -> None:
    hub.cache.parent.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(hub.cache.parent)])
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        said = start(hub).communicate(timeout=120)[0]
        assert said.startswith("refused: head-1 cannot be stored in ") and "the disk is full" in said
        assert stored(hub) == {}
        assert server.downloads("head.safetensors") == [], "seen before anything is fetched"
    finally:
        subprocess.run(["umount", str(hub.cache.parent)], check=True)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_written_to(server, hub) -> None:
    with tempfile.TemporaryDirectory() as home:  # not below pytest's own folder, which is closed to others
        os.chmod(home, 0o555)
        hub = replace(hub, cache=Path(home, "hub"))
        said = start(hub, "somebody else").communicate(timeout=120)[0]
        os.chmod(home, 0o755)
        assert said.startswith("refused: head-1 cannot be stored in ") and "the folder cannot be written to" in said
        assert list(Path(home).iterdir()) == []
