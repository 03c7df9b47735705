"""Stores: whole versions or none, and clear words about anything else."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from polysite.errors import CheckpointError, PolysiteError
from polysite.federation import store as store_module
from polysite.federation import tensor_files
from polysite.federation.saver import Saver
from polysite.federation.store import Store
from polysite.federation.tensor_files import TensorFile, read_in_place, read_tensors, write_tensors

STATE = {"private/a": torch.arange(6).reshape(2, 3), "memory/b": torch.tensor([0.5], dtype=torch.bfloat16)}
SENT = TensorFile({"b": torch.tensor([2.5, -1.0])})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "run-digest")


def test_round_trip_keeps_names_types_shapes_and_facts(store: Store) -> None:
    store.save(3, STATE, {"loss": 1.5}, SENT)
    tensors, facts = store.load(3, verify=True)
    assert facts == {"loss": 1.5}
    assert {name: (t.dtype, t.tolist()) for name, t in tensors.items()} == {
        name: (t.dtype, t.tolist()) for name, t in STATE.items()
    }
    assert set(store.load(3, prefix="memory/")[0]) == {"b"}
    sent, facts = store.load_outbox(3, verify=True)
    assert facts == {"loss": 1.5}
    assert {name: t.tolist() for name, t in sent.items()} == {"b": [2.5, -1.0]}


def test_a_version_is_read_into_the_tensors_that_fit(store: Store) -> None:
    kinds = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32]
    state = {f"private/{kind}": torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    state["private/count"] = torch.tensor(5)
    store.save(1, state, {}, SENT)
    targets = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    found, _ = store.load_in_place(1, targets, verify=True)
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert found[name] is targets[name]
        assert torch.equal(targets[name], tensor)


@pytest.mark.parametrize(
    "target",
    [
        torch.zeros(3, 2),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(3, 2).t(),
        torch.zeros(2, 3, device="meta"),
    ],
    ids=["shape", "type", "gaps", "device"],
)
def test_what_does_not_fit_is_given_back_as_a_tensor_of_its_own(store: Store, target: torch.Tensor) -> None:
    stored = torch.arange(6.0).reshape(2, 3)
    store.save(1, {"private/x": stored, "memory/y": stored.clone()}, {})
    found, _ = store.load_in_place(1, {"private/x": target}, verify=False)
    assert torch.equal(found["private/x"], stored)
    assert torch.equal(found["memory/y"], stored)
    assert target.device.type == "meta" or not target.any()


def test_a_file_that_shrinks_while_it_is_read_is_no_state(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(1, {"x": torch.ones(4)}, {})
    monkeypatch.setattr(tensor_files.os, "preadv", lambda *_: 3)
    with pytest.raises(CheckpointError, match="cut short"):
        read_in_place(store.path(1) / "state.safetensors", {"x": torch.zeros(4)})


def test_a_tensor_file_is_the_file_that_safetensors_writes(tmp_path: Path) -> None:
    tensors = {
        **{str(kind): torch.arange(6.0).reshape(2, 3).to(kind) for kind in tensor_files.TYPES.values()},
        "none": torch.zeros(0, 3),
        "one": torch.tensor(2.5),
        "gaps": torch.arange(6.0).reshape(2, 3).t(),
    }
    file = TensorFile(tensors)
    file.write(tmp_path / "ours")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs")
    written = (tmp_path / "ours").read_bytes()
    assert written == (tmp_path / "theirs").read_bytes() == b"".join(file.parts)
    assert file.sha256 == hashlib.sha256(written).digest()
    assert list(file) == list(tensors)
    for name, tensor in read_tensors(tmp_path / "ours").items():
        for found in (tensor, file[name]):
            assert (found.dtype, found.shape) == (tensors[name].dtype, tensors[name].shape)
            assert bytes_of(found) == bytes_of(tensors[name])


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_what_cannot_be_kept_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(PolysiteError, match=r"'x' is torch\.complex128: tensors of this type cannot be kept"):
        store.save(1, {"x": torch.zeros(2, dtype=torch.complex128)}, {})
    assert not store.folder.exists()


def test_two_versions_are_kept(store: Store) -> None:
    for version in range(5):
        store.save(version, STATE, {})
    assert store.versions() == [3, 4]


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_file_is_named(store: Store, damage: str) -> None:
    store.save(1, STATE, {})
    file = store.path(1) / "state.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-3])
    elif damage == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"round-000001.*(cut short or altered)"):
        store.load(1, verify=True)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "[]"])
def test_a_damaged_head_is_named(store: Store, text: str) -> None:
    store.save(1, STATE, {})
    (store.path(1) / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        store.load(1)


def test_a_head_of_a_later_format_is_refused(store: Store) -> None:
    store.save(1, STATE, {})
    path = store.path(1) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        store.load(1)


@pytest.mark.parametrize("edit", [{"facts": {"n_samples": 2}}, {"sha256": "0" * 64}, {"run": "other"}])
def test_an_edited_head_is_refused(store: Store, edit: dict[str, Any]) -> None:
    store.save(1, STATE, {"n_samples": 1})
    path = store.path(1) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(CheckpointError, match=r"state\.json: was edited"):
        store.load(1)


def test_a_version_in_the_wrong_folder_is_refused(store: Store) -> None:
    store.save(1, STATE, {})
    store.path(1).rename(store.path(2))
    with pytest.raises(CheckpointError, match="holds round 1, not the round of its folder"):
        store.load(2)


def test_a_version_of_another_run_is_refused(store: Store) -> None:
    store.save(1, STATE, {})
    with pytest.raises(CheckpointError, match="another run"):
        Store(store.folder, "other").load(1)


def test_a_full_disk_leaves_the_last_version_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(1, STATE, {})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TensorFile, "write", full)
    with pytest.raises(CheckpointError, match="no space left on the device"):
        store.save(2, STATE, {})
    assert store.versions() == [1]
    assert [path.name for path in store.folder.iterdir()] == ["round-000001"]
    with pytest.raises(CheckpointError, match="make room"):
        write_tensors(store.folder / "model.safetensors", STATE)
    assert not (store.folder / "model.safetensors").exists()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    from polysite.federation import store as module
    calls, last = 0, int(sys.argv[2])
    def counted(real):
        def call(*a, **k):
            global calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*a, **k)
        return call
    module.flush = counted(module.flush)
    module.TensorFile.write = counted(module.TensorFile.write)
    for name in ("write_text", "rename", "mkdir"):
        setattr(Path, name, counted(getattr(Path, name)))
    module.shutil.rmtree = counted(module.shutil.rmtree)
    store = module.Store(Path(sys.argv[1]), "run")
    for version in (1, 2, 3):
        tensors = {"x": torch.full((100,), float(version))}
        store.save(version, tensors, {"version": version}, module.TensorFile(tensors))
    print("survived")
"""


@pytest.mark.slow
def test_killed_anywhere_in_a_write_only_whole_versions_are_left(tmp_path: Path) -> None:
    """Kill at the n-th file operation of three saves, for every n."""
    for last in range(1, 60):
        folder = tmp_path / str(last)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(last)],
            capture_output=True,
            text=True,
            check=False,
        )
        store = Store(folder, "run")
        store.clean()
        for version in store.versions():
            tensors, facts = store.load(version, verify=True)
            assert facts == {"version": version}
            sent, _ = store.load_outbox(version, verify=True)
            for x in (tensors["x"], sent["x"]):
                assert torch.equal(x, torch.full((100,), float(version)))
        if "survived" in done.stdout:
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("the writer was never allowed to finish")
    assert last > 20


def test_a_saver_saves_what_was_there_when_it_was_asked(store: Store) -> None:
    saver, tensor = Saver(), torch.zeros(1000)
    for version in range(1, 6):
        tensor.fill_(version)
        saver.save(store, version, {"x": tensor}, {})
        tensor.fill_(-1)
    saver.close()
    for version in (4, 5):
        assert torch.equal(store.load(version)[0]["x"], torch.full((1000,), float(version)))


def test_a_paused_saver_begins_nothing_until_it_is_resumed_or_waited_for(store: Store) -> None:
    saver = Saver()
    saver.pause()
    future = saver.submit(store, 1, STATE, {})
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    assert store.versions() == []
    saver.resume()
    future.result(timeout=20)
    saver.pause()
    saver.submit(store, 2, STATE, {})
    saver.wait_for(store)
    saver.pause()
    saver.submit(store, 3, STATE, {})
    saver.close()
    assert store.versions() == [2, 3]


def test_a_saver_reports_what_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    saver = Saver()
    saver.save(Store(tmp_path / "file" / "store", "run"), 1, STATE, {})
    with pytest.raises(CheckpointError, match="cannot be written"):
        saver.wait()
    saver.close()


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", STATE)
    write_tensors(tmp_path / "b", dict(reversed(STATE.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_version_that_is_dropped_is_gone_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while it removes a version must not leave half of one behind."""
    store.save(1, STATE, {})
    store.save(2, STATE, {})
    monkeypatch.setattr(store_module.shutil, "rmtree", lambda *_, **__: None)
    store.save(3, STATE, {})
    assert store.versions() == [2, 3]
    monkeypatch.undo()
    store.clean()
    assert sorted(path.name for path in store.folder.iterdir()) == ["round-000002", "round-000003"]


def test_a_version_that_was_just_written_is_never_dropped(store: Store) -> None:
    for version in (8, 9, 1):
        store.save(version, STATE, {})
    assert 1 in store.versions()


def test_after_a_save_that_failed_nothing_is_saved(tmp_path: Path) -> None:
    """The server's version must not be there without the sites' that it stands on."""
    (tmp_path / "file").write_text("in the way")
    saver, server = Saver(), Store(tmp_path / "server", "run")
    saver.save(Store(tmp_path / "file" / "store", "run"), 1, STATE, {})
    saver.submit(server, 1, STATE, {})
    with pytest.raises(CheckpointError, match="cannot be written"):
        saver.close()
    assert server.versions() == []
    with pytest.raises(CheckpointError, match="cannot be written"):
        saver.wait()


def test_a_saver_keeps_the_facts_as_they_were(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saver, facts = Saver(), {"loss": 1.0}
    saver.save(store, 1, STATE, facts)
    facts["later"] = 2.0
    saver.close()
    assert store.load(1)[1] == {"loss": 1.0}


def test_the_first_snapshots_that_there_is_room_for_stay_in_memory(tmp_path: Path) -> None:
    room = 2 * 4000
    saver, stores = Saver(keep_bytes=room), [Store(tmp_path / str(k), "run") for k in range(4)]
    tensor = torch.zeros(1000)
    for version in (1, 2):
        for k, store in enumerate(stores):
            tensor.fill_(10 * version + k)
            saver.save(store, version, {"x": tensor}, {})
            tensor.fill_(-1)
    saver.close()
    for k, store in enumerate(stores):
        kept = saver.kept(store, 2)
        assert (kept is not None) == (k < 2)
        for found in (kept or {}, store.load(2)[0]):
            assert all(torch.equal(value, torch.full((1000,), 20.0 + k)) for value in found.values())
        assert saver.kept(store, 1) is None


def test_a_snapshot_in_memory_holds_what_was_saved_last_and_nothing_else(store: Store) -> None:
    saver = Saver()
    saver.save(store, 1, {"x": torch.ones(3), "y": torch.ones(2)}, {})
    saver.save(store, 2, {"x": torch.ones(5)}, {})
    kept = saver.kept(store, 2)
    saver.close()
    assert kept is not None
    assert {name: value.tolist() for name, value in kept.items()} == {"x": [1.0] * 5}


def test_a_store_that_grew_beyond_the_room_leaves_memory(tmp_path: Path) -> None:
    saver, first, second = Saver(keep_bytes=4000), Store(tmp_path / "a", "run"), Store(tmp_path / "b", "run")
    saver.save(first, 1, {"x": torch.zeros(1000)}, {})
    saver.save(first, 2, {"x": torch.zeros(1001)}, {})
    saver.save(second, 1, {"x": torch.zeros(1000)}, {})
    saver.close()
    assert saver.kept(first, 2) is None
    assert saver.kept(second, 1) is not None


def test_after_a_save_that_failed_no_snapshot_is_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    saver, store = Saver(), Store(tmp_path / "file" / "store", "run")
    saver.save(store, 1, STATE, {})
    with pytest.raises(CheckpointError, match="cannot be written"):
        saver.close()
    assert saver.kept(store, 1) is None
