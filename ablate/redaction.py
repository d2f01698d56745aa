"""Passwords, tokens and keys are replaced by `***` in everything that is printed or written.

An address keeps its user: `postgresql://user:***@host/db`. Applied where text leaves the process: the streams of the
command, the text of every error, what is written of a failure, what Ray is told of the command line.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import unquote

HIDDEN = "***"

SHORTEST = 8
"""Characters of a secret that is replaced wherever it stands. A shorter one may be a common word."""

SECRET = r"pass(?:word|wd|phrase)?|pwd|token|secret|credential|signature|(?:api|access|account|private)[_-]?key"

PASSWORD = re.compile(r"""(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@?#"'<>]*):([^\s"'<>]+)@""")
"""The user and the password of an address; the password may hold signs that people leave unquoted, such as '@'."""

TOKEN = re.compile(r"""(?<![A-Za-z0-9+.-])(https?://)([^\s:/@?#"'<>]+)@""")
"""An address with a token in place of user and password."""

QUERY = re.compile(rf"""([?&;][\w.%-]*(?:{SECRET})[\w.%-]*|[?&;]sig)=([^\s&;#"'<>]+)""", re.IGNORECASE)
"""A secret in the query of an address, such as `?password=…` or `&X-Amz-Signature=…`."""

HEADER = re.compile(r"(authorization\W{1,4}(?:basic|bearer)\s+)([^\s\"',]+)", re.IGNORECASE)
"""A secret in the header of a request."""

VARIABLE = re.compile(
    rf"(?!(?:OLD)?PWD$)(?:^|.*_)(?:{SECRET}|key)(?!.*_(?:file|path|dir|url|mode|name)$)(?:$|_)", re.IGNORECASE
)
"""The name of an environment variable that holds a secret, and not the place of one."""


def redact(text: str) -> str:
    """The text without secrets: those in addresses and headers, and all that this process was given, in any place."""
    text = redact_addresses(text)
    for secret in given_secrets(os.environ, sys.argv):
        text = text.replace(secret, HIDDEN)
    return text


def redact_addresses(text: str) -> str:
    """The text without the secrets that can be told by their place in an address or a header."""
    if "://" in text:
        text = TOKEN.sub(rf"\1{HIDDEN}@", PASSWORD.sub(rf"\1:{HIDDEN}@", text))
    if "=" in text:
        text = QUERY.sub(rf"\1={HIDDEN}", text)
    return HEADER.sub(rf"\1{HIDDEN}", text)


def secret_place(text: str) -> int | None:
    """Where the first secret of a text begins; None without one. A reference such as `$PASSWORD` is no secret."""
    found = [
        match.start(match.lastindex or 0)
        for pattern in (PASSWORD, QUERY, HEADER)
        for match in pattern.finditer(text)
        if not re.fullmatch(r"\$\w+|\$?\{\w+\}|\*+", match[match.lastindex or 0])
    ]
    return min(found, default=None)


def without_user(address: str) -> str:
    """An address that a browser can open: without user and password, which it asks for."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#]*@", r"\1", address)


def given_secrets(environment: Mapping[str, str], words: list[str]) -> list[str]:
    """The secrets that a process was given by its environment and its command line, the longest first."""
    named = {value for name, value in environment.items() if VARIABLE.match(name)}
    addressed = {
        each
        for text in (*environment.values(), *words)
        for match in PASSWORD.finditer(text)
        for each in (match[2], unquote(match[2]))
    }
    return sorted((each for each in named | addressed if len(each) >= SHORTEST), key=len, reverse=True)


class RedactingStream:
    """A text stream that passes on what is written to it without secrets."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_streams() -> None:
    """Let no secret through stdout and stderr of this process from now on, whoever writes it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactingStream):
            setattr(sys, name, RedactingStream(stream))
