"""Texts of users are printed as they stand: no markup, no emoji codes, and whatever the terminal's encoding is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.studies import Write

TEXT = "[/v2] [bold]ΔE[/bold] :smile: 雪 [red"


def call(*command: str | bytes, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "ablate.cli", *command], env={**os.environ, **environment},
        capture_output=True, check=False,
    )  # fmt: skip


def test_a_question_with_brackets_is_printed_as_it_stands(write_study: Write) -> None:
    path = write_study(("question: ", f"question: '{TEXT}' # "))
    done = call("plan", str(path), PYTHONIOENCODING="utf-8")
    assert done.returncode == 0
    assert TEXT in done.stdout.decode()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_an_encoding_that_lacks_a_sign_ends_no_command(encoding: str, write_study: Write, tmp_path: Path) -> None:
    path = write_study(("question: ", f"question: '{TEXT}' # "))
    for command in (["plan", str(path)], ["components"], ["table", str(path), "--store", str(tmp_path / "none")]):
        done = call(*command, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in done.stderr
        assert done.returncode in {0, 2}
    assert b":smile: ?" in call("plan", str(path), PYTHONIOENCODING=encoding).stdout


def test_a_path_that_is_no_utf8_is_printed_as_an_escape(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff[/x]"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    done = call("check", folder + b"/none.yaml")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"[/x]" in done.stderr
