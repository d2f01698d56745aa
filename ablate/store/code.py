"""Own code in the store: workers on other machines get it from there, and so do later commands, whatever has become of
the user's folders."""

from ablate.identity import signature
from ablate.slots.own_code import OwnCode, from_plain
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store


def ship(code: OwnCode, store: Store) -> str:
    """Write own code to the store, under its content hash, and give that; empty where there is none."""
    if not code:
        return ""
    plain = code.plain()
    code.shipped = signature(plain)
    file = store.code(code.shipped)
    if read_json(file) is None:  # not there yet, or damaged
        write_json(file, plain)
    return code.shipped


def fetch(key: str, store: Store) -> OwnCode | None:
    """The own code of this key in the store; None where the store does not hold it."""
    plain = read_json(store.code(key))
    return None if plain is None else from_plain(plain, key)
