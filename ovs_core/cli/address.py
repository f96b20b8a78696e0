"""Where the page is served: addresses are tried before anything is loaded, and what they expose is said."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

AUTH_VARIABLE = "OVS_LENS_AUTH"
_HIGHEST_PORT = 65535
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def check_address(host: str, port: int | None) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        ValueError: one sentence that names the option at fault.
    """
    if port is not None and not 1 <= port <= _HIGHEST_PORT:
        raise ValueError(f"--port must lie in [1, {_HIGHEST_PORT}], got {port}.")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host} is no name or address that this machine knows.") from error
    with socket.socket(family, kind, protocol) as tried:
        try:
            tried.bind(place)
        except OSError as error:
            raise ValueError(f"--host {host} is no address of this machine.") from error
    if port is None:
        return
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((place[0], port, *place[2:]))
            tried.listen()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise ValueError(f"--port {port} needs more rights; choose one above 1023.") from error
            raise ValueError(f"--port {port} is taken; choose another, or leave it out.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def exposure(host: str, auth: tuple[str, str] | None) -> str:
    """Say who can use what is served, and how; "" where it is this machine alone."""
    if is_loopback(host):
        return ""
    who = "Everybody who reaches this machine" if auth is None else "Whoever knows the password"
    sentence = (
        f"--host {host}: {who} can have photos labelled here and fetch weights in the Models tab; files of "
        "this machine are not shown."
    )
    if auth is None:
        return f"{sentence} Set a password with --auth, or let a proxy ask for one."
    return f"{sentence} Without HTTPS, from a proxy, the password travels unencrypted."


def read_auth(given: str | None) -> tuple[str, str] | None:
    """Name and password, from `user:password`, `@FILE` with that in it, or the environment; None for none.

    Raises:
        ValueError: one sentence; it does not repeat what was given.
    """
    source = "--auth"
    if given is None:
        given, source = os.environ.get(AUTH_VARIABLE), AUTH_VARIABLE
    if given is None:
        return None
    if given.startswith("@"):
        try:
            given = Path(given[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--auth: {given[1:]} cannot be read.") from error
    user, separator, password = given.partition(":")
    if not separator or not user or not password:
        raise ValueError(
            f"{source} must be user:password, or @FILE with that in it; neither part may be empty."
        )
    return user, password


def check_root_path(root_path: str | None) -> str | None:
    """The sub-path under which a proxy serves the page, without a last slash.

    Raises:
        ValueError: if it is neither a path nor a web address.
    """
    if root_path is None or root_path.startswith(("/", "http://", "https://")):
        return root_path and root_path.rstrip("/")
    raise ValueError(f"--root-path must begin with / or be a web address, got {root_path!r}.")


def except_own_address(environment: MutableMapping[str, str], host: str) -> tuple[str, ...]:
    """Let nothing ask a proxy for the page itself, as the server does to see that it runs.

    A proxy that is none for HTTP is dropped, SOCKS above all: no download here can use one, and a library
    of the page ends where it meets one.

    Returns:
        Names of the variables that were dropped.
    """
    own = dict.fromkeys((*_LOCAL, host.strip("[]")))
    for name in _NO_PROXY:
        others = [part for part in environment.get(name, "").split(",") if part]
        environment[name] = ",".join(dict.fromkeys((*others, *own)))
    dropped = tuple(name for name in _PROXIES if not _is_http(environment.get(name, "")))
    for name in dropped:
        del environment[name]
    return dropped


def _is_http(proxy: str) -> bool:
    """Whether a proxy is reached by HTTP, at an address that can be one; nothing at all is no trouble."""
    scheme, separator, _ = proxy.partition("://")
    try:
        port = urlsplit(proxy if separator else f"http://{proxy}").port
    except ValueError:
        return False
    return not proxy or ((not separator or scheme.lower() in ("http", "https")) and port != 0)
