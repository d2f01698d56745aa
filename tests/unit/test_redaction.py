"""No password, token or key leaves the process: what is printed, written and raised has `***` in its place."""

import io
from pathlib import Path

import pytest

from ablate.errors import AblateError, ServerError, StoreError, StudyError, show_value
from ablate.redaction import RedactingStream, given_secrets, redact, redact_addresses, without_user
from ablate.store.folders import Store
from tests.support.command import inside
from tests.support.studies import Write

SECRET = "S3cr3t-pw-9"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://me:{SECRET}@db:5432/runs", "postgresql://me:***@db:5432/runs"),
        (f"(postgresql+psycopg://me:{SECRET}@db/runs)", "(postgresql+psycopg://me:***@db/runs)"),
        (f"http://:{SECRET}@mlflow.lab", "http://:***@mlflow.lab"),
        (f"https://{SECRET}@github.com/x/y", "https://***@github.com/x/y"),
        (f"mysql://me:{SECRET}@/x@db/runs", "mysql://me:***@db/runs"),  # an '@' and a '/' that nobody quoted
        (f"postgresql://me:{SECRET}#?1@db/runs", "postgresql://me:***@db/runs"),
        (f"sftp://me:{SECRET}@host/runs and ftp://you:{SECRET}@host", "sftp://me:***@host/runs and ftp://you:***@host"),
        (f"s3://bucket/runs?aws_secret_access_key={SECRET}&x=1", "s3://bucket/runs?aws_secret_access_key=***&x=1"),
        (f"postgresql://db/runs?user=me&password={SECRET}", "postgresql://db/runs?user=me&password=***"),
        (f"https://blob/x?se=2026&sig={SECRET}", "https://blob/x?se=2026&sig=***"),
        (f"https://s3/x?X-Amz-Signature={SECRET}&y", "https://s3/x?X-Amz-Signature=***&y"),
        (f"{{'Authorization': 'Bearer {SECRET}'}}", "{'Authorization': 'Bearer ***'}"),
        (f"authorization: Basic {SECRET}", "authorization: Basic ***"),
    ],
)
def test_an_address_keeps_its_user_and_loses_its_password(text: str, shown: str) -> None:
    assert redact_addresses(text) == shown
    assert redact_addresses(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1?compareRunsMode=CHART&token_count=3",
        "s3://bucket/runs", "sqlite:////tmp/runs/mlflow.db", "see https://arxiv.org/abs/2110.09456, by a@b.org",
        "ablate sweep x.yaml --set loss.kl=1e-4", "postgresql://me@db/runs", "",
    ],
)  # fmt: skip
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact_addresses(text.replace("token_count=3", "x=3")) == text.replace("token_count=3", "x=3")


def test_what_the_process_was_given_is_a_secret_in_any_place(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "MLFLOW_TRACKING_TOKEN": "token-of-mlflow", "AWS_SECRET_ACCESS_KEY": "key-of-amazon", "HF_TOKEN": "short",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/secrets/token", "KEYBOARD": "qwertz-de", "PATH": "/usr/local/bin",
        "PWD": "/home/me/work", "OLDPWD": "/home/me/before", "MLFLOW_TRACKING_URI": "https://me:of%40mlflow1@host",
    }  # fmt: skip
    found = given_secrets(environment, ["ablate", "--tracking=mysql://me:of-the-line@h"])
    assert set(found) == {"token-of-mlflow", "key-of-amazon", "of%40mlflow1", "of@mlflow1", "of-the-line"}
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    assert redact(f"refused: token {SECRET!r}") == "refused: token '***'"


def test_errors_hide_secrets_wherever_they_are_shown(tmp_path: Path) -> None:
    address = f"sftp://me:{SECRET}@host/runs"
    for error in (StoreError(address), ServerError(address), AblateError(address)):
        assert SECRET not in str(error) and "me:***@host" in str(error)
    assert SECRET[:4] not in show_value(f"postgresql://a-long-name-of-a-user-who-waits:{SECRET}@host/runs")
    folder = Store(tmp_path).stage("abc")
    folder.fail(f"OSError: {address}", f"Traceback\n  {address}")
    assert SECRET not in folder.error.read_text() and folder.failure() == "OSError: sftp://me:***@host/runs"


def test_streams_pass_on_no_secret() -> None:
    behind = io.StringIO()
    stream = RedactingStream(behind)
    print("to", f"mysql://me:{SECRET}@db", file=stream)  # type: ignore[call-overload]
    stream.writelines([f"http://x:{SECRET}@y\n"])
    assert behind.getvalue() == "to mysql://me:***@db\nhttp://x:***@y\n"
    assert not stream.isatty()


def test_links_that_are_to_be_opened_have_no_user() -> None:
    assert without_user(f"https://me:{SECRET}@mlflow.lab:443/x@y") == "https://mlflow.lab:443/x@y"
    assert without_user("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_a_study_with_a_password_is_refused_at_its_place(write_study: Write) -> None:
    path = write_study(("seeds: 2\n", f"seeds: 2  # of postgresql://me:{SECRET}@db/x\n"))
    done = inside("check", path)
    line = path.read_text().splitlines().index(f"seeds: 2  # of postgresql://me:{SECRET}@db/x") + 1
    assert done.returncode == 2 and f"tiny.yaml:{line}:" in done.stderr and "environment variable" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    changed = inside("check", "smoke", "--set", f"data.path=https://x/?token={SECRET}")
    assert changed.returncode == 2 and SECRET not in changed.stderr


def test_a_reference_to_a_variable_is_no_password(write_study: Write) -> None:
    path = write_study(("question: Does", "question: For postgresql://me:$PGPASSWORD@db, does"))
    assert inside("check", path).returncode == 0


@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{SECRET}@127.0.0.1:9", f"postgresql://me:{SECRET}@127.0.0.1:9/runs",
        f"nonsense://me:{SECRET}@host", f"postgresql://me:{SECRET}@host:port/x", f"sqlite://me:{SECRET}@host",
    ],
)  # fmt: skip
def test_no_command_shows_the_password_of_an_address_that_fails(
    uri: str, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # instead of waiting for 100 s
    done = inside("sync", write_study(), "--tracking", uri, "--store", tmp_path / "runs")
    assert done.returncode == 2 and "cannot be used" in done.stderr, done
    assert SECRET not in done.stdout + done.stderr


def test_the_error_of_a_study_shows_no_secret(write_study: Write) -> None:
    with pytest.raises(StudyError) as caught:
        from ablate.study.study import load_study

        load_study(write_study(("padding: reflect", f"padding: 'mysql://me:{SECRET}@db'")))
    assert SECRET not in str(caught.value)
