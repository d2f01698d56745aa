"""A sweep with an own level under real Ray, whose workers know nothing but the store."""

import json
import shutil
from pathlib import Path

from tests.support.command import ablate
from tests.support.own import IN_FACTORS, NORM, write_norm
from tests.support.studies import Write


def test_workers_run_an_own_level_and_the_store_keeps_it(write_study: Write, tmp_path: Path) -> None:
    path = write_study(*IN_FACTORS)
    file = write_norm(tmp_path / "components")
    store = tmp_path / "runs"
    options = ("--store", store, "--tracking", "none", "--workers", "1")
    done = ablate("sweep", path, *options, cwd=tmp_path.parent)
    assert done.returncode == 0, done.stderr
    assert "| norm   | mine" in done.stdout

    # The records say where the level is from, and hold its fingerprint
    records = [json.loads(one.read_text()) for one in store.glob("stages/*/record.json")]
    used = [record["code"] for record in records if "norm/mine" in record["code"]["components"]]
    assert len(records) == 4 and len(used) == 2
    assert {code["own"]["norm/mine"] for code in used} == {str(file)}
    assert all((store / "code" / f"{code['copy']}.json").is_file() for code in used)

    # Nothing is run again; an edit makes stale
    assert "nothing to run" in ablate("sweep", path, *options).stdout
    file.write_text(NORM.replace("self.factor *", "2 *"))
    assert "2 stale" in ablate("status", path, "--store", store).stdout
    again = ablate("sweep", path, *options, "--rerun", "stale")
    assert again.returncode == 0 and "2 trials run" in again.stdout, again.stderr

    # Without its folder the study is still known by its name, elsewhere too
    shutil.rmtree(tmp_path / "components")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = ablate("table", "tiny", "--store", store, cwd=elsewhere)
    assert done.returncode == 0 and "| norm   | mine" in done.stdout
    assert f"no longer there: {tmp_path / 'components'}" in done.stderr
    assert "0 stale" in ablate("status", "tiny", "--store", store, cwd=elsewhere).stdout
    shutil.rmtree(store / "code")
    done = ablate("table", "tiny", "--store", store, cwd=elsewhere)
    assert done.returncode == 2 and "gone" in done.stderr and "Traceback" not in done.stderr
