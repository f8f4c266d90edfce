"""API keys: what the file stores, which tokens are valid, and that changes take effect at once."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from ampsweep.errors import Conflict, DamagedFile, InvalidRequest, NotFound, Unavailable
from api.auth.api_keys import KeyFile, KeyScope

READ = frozenset({KeyScope.READ})


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def test_a_key_is_valid_until_it_is_revoked_and_other_readers_see_changes_at_once(keys: KeyFile) -> None:
    server = KeyFile(keys.path)
    assert server.all() == []
    key, token = keys.create("ada", READ, now=5.0)
    assert server.find(token) == key
    assert (key.name, key.scopes, key.created_at) == ("ada", READ, 5.0)
    assert keys.revoke(key.id, now=7.0).revoked_at == 7.0
    assert server.find(token) is None
    assert [stored.revoked_at for stored in server.all()] == [7.0], "a revoked key is still known"
    assert keys.revoke(key.id, now=9.0).revoked_at == 7.0


def test_the_file_stores_a_hash_and_only_its_owner_can_read_it(keys: KeyFile) -> None:
    _, token = keys.create("ada", READ, now=0.0)
    secret = token.split("_", 2)[2]
    assert len(secret) >= 43
    assert secret not in keys.path.read_text()
    (stored,) = json.loads(keys.path.read_text())
    assert len(bytes.fromhex(stored["sha256"])) == 32
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_similar_keys_are_rejected(keys: KeyFile) -> None:
    _, token = keys.create("ada", READ, now=0.0)
    _, other = keys.create("bob", READ, now=0.0)
    swapped = token[:17] + other[17:]
    last = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in ("", token[:-1], token + "A", token.upper(), last, swapped, "amp_", "\udcff" * 60, "ａ" * 60):
        assert keys.find(wrong) is None


def test_the_name_of_a_valid_key_cannot_be_used_again(keys: KeyFile) -> None:
    key, _ = keys.create("ada", READ, now=0.0)
    with pytest.raises(Conflict):
        keys.create("ada", READ, now=0.0)
    keys.revoke(key.id, now=1.0)
    keys.create("ada", READ, now=2.0)


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "a\n", "é"])
def test_a_bad_name_is_refused(keys: KeyFile, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        keys.create(name, READ, now=0.0)
    assert refused.value.param == "name"
    assert not keys.path.exists()


def test_a_key_without_scopes_and_an_unknown_id_are_refused(keys: KeyFile) -> None:
    with pytest.raises(InvalidRequest):
        keys.create("ada", frozenset(), now=0.0)
    with pytest.raises(NotFound):
        keys.revoke("nope", now=0.0)


def test_keys_created_at_the_same_time_are_all_stored(keys: KeyFile) -> None:
    makers = [
        threading.Thread(target=lambda n=number: KeyFile(keys.path).create(f"key-{n}", READ, now=0.0))
        for number in range(16)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {key.name for key in keys.all()} == {f"key-{number}" for number in range(16)}


@pytest.mark.parametrize("content", ["", "{", "{}", '[{"id": "x"}]', "null"])
def test_with_a_damaged_file_no_key_is_valid(keys: KeyFile, content: str) -> None:
    _, token = keys.create("ada", READ, now=0.0)
    keys.path.write_text(content)
    with pytest.raises(DamagedFile):
        keys.find(token)


def test_without_the_file_no_key_is_valid(keys: KeyFile) -> None:
    _, token = keys.create("ada", READ, now=0.0)
    assert keys.find(token)
    keys.path.unlink()
    with pytest.raises(DamagedFile):
        keys.all()


def test_a_file_that_cannot_be_read_now_lets_nobody_in_and_is_read_later(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    keys = KeyFile(folder / "keys.json")
    _, token = keys.create("ada", READ, now=0.0)
    assert keys.find(token)
    folder.rename(tmp_path / "aside")
    folder.write_text("a file where the folder was")
    with pytest.raises(Unavailable, match="cannot be read: Not a directory"):
        keys.all()
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    assert keys.find(token)
