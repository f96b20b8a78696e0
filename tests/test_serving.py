"""Where the page is served: addresses, passwords, sub-paths, and the end."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_core.cli.address import (
    AUTH_VARIABLE,
    check_address,
    check_root_path,
    except_own_address,
    exposure,
    is_loopback,
    read_auth,
)
from ovs_core.cli.app import main

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 120  # seconds


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 99999, r"--port must lie in \[1, 65535\], got 99999"),
        ("127.0.0.1", 0, r"--port must lie in \[1, 65535\], got 0"),
        ("127.0.0.1", -5, r"--port must lie in \[1, 65535\], got -5"),
        ("no such host", None, "--host no such host is no name or address that this machine knows"),
        ("", None, "--host"),
        ("192.0.2.1", None, "--host 192.0.2.1 is no address of this machine"),
    ],
)
def test_an_address_that_cannot_be_served_is_one_sentence(host: str, port: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_address(host, port)


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as port:
        assert main(["--port", str(port), "--no-browser"]) == 2
    said = capsys.readouterr().err
    assert said == f"ovs-lens app: --port {port} is taken; choose another, or leave it out.\n"


def test_free_addresses_pass() -> None:
    with taken_port() as port:
        pass
    check_address("127.0.0.1", port)
    check_address("localhost", None)
    check_address("0.0.0.0", None)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.2", "box.example")),
    ],
)
def test_what_is_not_this_machine_alone_is_said(host: str, own: bool) -> None:
    assert is_loopback(host) is own
    assert (exposure(host, None) == "") is own
    if not own:
        assert "Set a password with --auth" in exposure(host, None)
        assert "Whoever knows the password" in exposure(host, ("a", "b"))


def test_a_password_comes_from_the_line_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    assert read_auth(None) is None
    assert read_auth("ann:se:cret") == ("ann", "se:cret")
    (tmp_path / "auth").write_text("bob:hush\n", encoding="utf-8")
    assert read_auth(f"@{tmp_path / 'auth'}") == ("bob", "hush")
    monkeypatch.setenv(AUTH_VARIABLE, f"@{tmp_path / 'auth'}")
    assert read_auth(None) == ("bob", "hush")
    for wrong in ("", "ann", "ann:", ":secret"):
        with pytest.raises(ValueError, match="--auth must be user:password") as refused:
            read_auth(wrong)
        assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_auth(f"@{tmp_path}")


def test_a_sub_path_begins_with_a_slash() -> None:
    assert check_root_path(None) is None
    assert check_root_path("/lens/") == "/lens"
    assert check_root_path("https://box.example/lens") == "https://box.example/lens"
    with pytest.raises(ValueError, match="--root-path must begin with /"):
        check_root_path("lens")


def test_proxies_are_not_asked_for_the_page_itself() -> None:
    environment = {"NO_PROXY": "intra.example", "all_proxy": "socks5://p:1", "HTTP_PROXY": "http://p:2"}
    assert except_own_address(environment, "10.0.0.5") == ("all_proxy",)
    assert environment["NO_PROXY"] == "intra.example,localhost,127.0.0.1,::1,10.0.0.5"
    assert environment["no_proxy"] == "localhost,127.0.0.1,::1,10.0.0.5"
    assert environment["HTTP_PROXY"] == "http://p:2"
    assert "all_proxy" not in environment


@pytest.mark.parametrize(
    "name", ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"]
)
def test_proxies_that_no_download_can_use_are_dropped(name: str) -> None:
    for value in (
        "socks5://p:1",
        "SOCKS5H://p:1",
        "socks4://p:1",
        "ftp://p:1",
        "http://p:x",
        "://",
        "htp://x",
        "http://p:99999",
    ):
        environment = {name: value}
        assert except_own_address(environment, "127.0.0.1") == (name,), value
        assert name not in environment
    for value in ("http://p:3128", "HTTPS://u:secret@p:1/", "p:3128", "proxy.example", ""):
        environment = {name: value}
        assert except_own_address(environment, "127.0.0.1") == (), value
        assert environment[name] == value


@contextmanager
def running_app(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The app in a process of its own; gives it and the address it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--no-browser", "--offline", "--device", "cpu", *arguments],
        cwd=REPOSITORY,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if "OVS Lens is at" in line:
                yield process, line.split()[4]
                break
        else:
            pytest.fail("".join(lines))
    finally:
        process.kill()
        process.wait()


def got(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_signal_term_clears_up(tmp_path: Path) -> None:
    variables = {
        "TMPDIR": str(tmp_path),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "https_proxy": "socks4://127.0.0.1:9",
    }
    with running_app(**variables) as (process, address):
        assert got(address)[0] == 200
        assert list(tmp_path.glob("ovs-lens-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert list(tmp_path.glob("ovs-lens-*")) == []


def test_with_a_password_nothing_is_open() -> None:
    with running_app(
        "--host",
        "::1" if socket.has_dualstack_ipv6() else "127.0.0.1",
        "--root-path",
        "/lens",
        OVS_LENS_AUTH="ann:secret",
    ) as (_, address):
        for path in ("config", "gradio_api/info", "gradio_api/file=/etc/hostname"):
            assert got(f"{address}{path}")[0] in (401, 403), path
        assert "secret" not in got(address)[1]
        assert '"root":"http' in got(address)[1].replace('": "', '":"')
