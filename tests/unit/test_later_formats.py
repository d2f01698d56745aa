"""Files of a later version are refused by name, and nothing is moved; damaged own code is written again."""

import json
from pathlib import Path

import pytest

from ablate.data import sealed
from ablate.driver.verify import verify
from ablate.errors import StoreError
from ablate.slots.own_code import OwnCode, OwnFolder
from ablate.store import checksum
from ablate.store.code import fetch, ship
from ablate.store.files import write_json
from ablate.store.folders import Store


def test_a_json_file_of_a_later_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    card = store.study("tiny", "base").card
    write_json(card, {"name": "tiny"})
    text = card.read_text().replace('"_format": 1', '"_format": 2')
    body = text[: text.rindex(f'"{checksum.LAST}": "') + len(f'"{checksum.LAST}": "')]
    digest = checksum._digest(checksum.key_of(card), body.encode())
    card.write_text(f'{body}{digest}"\n}}')
    with pytest.raises(StoreError, match=r"study\.json: it has format 2"):
        verify(store)
    assert card.exists()


def test_prepared_pictures_of_a_later_version(tmp_path: Path) -> None:
    folder = Store(tmp_path).data / "abc"
    folder.mkdir(parents=True)
    (folder / "index.json").write_text("{}")
    sealed.seal(folder, "abc")
    file = folder / sealed.SEAL
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(StoreError, match="it has format 2, of a later version"):
        verify(Store(tmp_path))
    with pytest.raises(ValueError, match="of a later version"):
        sealed.why_damaged(folder)
    assert folder.exists()


def test_own_code_that_is_damaged_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = OwnCode((OwnFolder(tmp_path / "components", "named", {"norm/mine.py": b"LEVEL = 1\n"}),))
    key = ship(code, store)
    file = store.code(key)
    file.write_bytes(file.read_bytes()[:-20])
    assert list(verify(store).damaged) == [file]
    assert fetch(key, store) is None
    assert ship(code, store) == key
    found = fetch(key, store)
    assert found is not None and found.folders[0].files == {"norm/mine.py": b"LEVEL = 1\n"}
