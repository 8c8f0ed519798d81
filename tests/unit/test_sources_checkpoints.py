"""Checkpoints: what people bring, which weights of it are taken, and what is refused."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from genclass.errors import GenclassError
from genclass.sources.checkpoints import (
    Weights,
    fill,
    load_checkpoint,
    read_checkpoint,
    why_no_checkpoint,
)
from genclass.sources.weight_files import checkpoint_sha256

GOOD = {"a.weight": torch.ones(2, 3), "a.bias": torch.full((2,), 2.0)}
PLAIN = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)


def saved(folder: Path, content: object, name: str = "w.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def read(path: Path, weights: Weights = "averaged") -> tuple[dict[str, Tensor], str]:
    """What is read, and what was said."""
    said: list[str] = []
    found = read_checkpoint(path, weights, said.append)
    assert len(said) == 1
    return found, said[0].removeprefix(f"{path}: ")


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def refused(path: Path, weights: Weights = "averaged") -> str:
    """The line, without the path."""
    with pytest.raises(GenclassError) as error:
        read_checkpoint(path, weights)
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"{path}: ")
    reason = why_no_checkpoint(path)
    assert reason is None or reason in text
    return text.removeprefix(f"{path}: ")


# Where the weights lie


def prefixed(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        {"model": GOOD},
        {"ema": GOOD, "opt": 1, "args": argparse.Namespace(epochs=3)},
        {"state_dict": GOOD, "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}},
        {"ema": {"decay": 0.9}, "model": GOOD | {3: [1]}},
        {"module": GOOD, "ds_version": "0.14"},
        {"model_state_dict": GOOD, "optimizer_state_dict": PLAIN, "iter": torch.tensor(3)},
        {"checkpoint": {"model": GOOD}},
        {"dit": GOOD, "discriminator": PLAIN, "lr_scheduler": PLAIN},
        {"model": GOOD, "stats": torch.ones(1000)},
    ],
)
def test_weights_are_found_wherever_released_files_keep_them(
    tmp_path: Path, content: object
) -> None:
    assert same(read(saved(tmp_path, content))[0], GOOD)


def test_files_of_the_old_format_and_without_a_suffix(tmp_path: Path) -> None:
    torch.save({"model": GOOD}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert same(read(tmp_path / "old")[0], GOOD)
    save_file(GOOD, tmp_path / "1a2B3c")  # Drive has ids, no suffixes
    assert same(read(tmp_path / "1a2B3c")[0], GOOD)


def undotted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace(".", ""): value for key, value in weights.items()}


BESIDE = {
    "ema": {"ema": GOOD, "model": PLAIN},
    "timm": {"state_dict_ema": GOOD, "state_dict": PLAIN},
    "DeiT": {"model_ema": GOOD, "model": PLAIN},
    "MeanFlow": {"ema_state_dict": GOOD, "state_dict": PLAIN},
    "BasicSR": {"params_ema": GOOD, "params": PLAIN},
    "a shadow": {"ema": {"decay": 0.99, "shadow": GOOD}, "model": PLAIN},
    "torch_ema": {
        "ema": {"decay": 0.99, "num_updates": 3, "shadow_params": list(GOOD.values())},
        "model": PLAIN,
    },
    "nested": {"state": {"net": PLAIN, "modelEMA": {"module": GOOD}}},
    "torch's": {
        "averaged_model": {"n_averaged": torch.tensor(3), **prefixed("module.", GOOD)},
        "model": PLAIN,
    },
    "LitEma": {
        "state_dict": prefixed("model.", PLAIN)
        | {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(3)}
        | prefixed("model_ema.", undotted(GOOD))
    },
    "ema_pytorch": prefixed("online_model.", PLAIN)
    | prefixed("ema_model.", GOOD)
    | {"initted": torch.tensor(True), "step": torch.tensor(3)},
    "ema_pytorch beside": {
        "model": PLAIN,
        "ema": prefixed("online_model.", PLAIN) | prefixed("ema_model.", GOOD),
    },
}


@pytest.mark.parametrize("kind", BESIDE)
def test_averaged_weights_are_taken_or_as_the_config_says_plain_ones(
    tmp_path: Path, kind: str
) -> None:
    path = saved(tmp_path, BESIDE[kind])
    averaged, said = read(path)
    assert same(averaged, GOOD)
    assert said.startswith("2 tensors, averaged weights '") and "(plain ones are there" in said
    plain, said = read(path, "plain")
    assert same(plain, PLAIN)
    assert said.startswith("2 tensors, plain weights") and "(averaged ones are there" in said


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    said = read(saved(tmp_path, {"state_dict_ema": GOOD, "state_dict": PLAIN}))[1]
    assert said == "2 tensors, averaged weights 'state_dict_ema' (plain ones are there, too: " + (
        "'state_dict')"
    )
    assert read(saved(tmp_path, GOOD))[1] == "2 tensors"
    assert read(saved(tmp_path, {"model": GOOD}))[1] == "2 tensors, plain weights 'model'"


def test_a_part_of_the_network_that_is_called_ema_is_no_average(tmp_path: Path) -> None:
    weights = {"quantize.ema_w": torch.ones(3), "ema.weight": torch.ones(4), **GOOD}
    assert same(read(saved(tmp_path, weights))[0], weights)


def test_what_is_not_to_be_told_apart_is_refused(tmp_path: Path) -> None:
    text = refused(saved(tmp_path, {"student": GOOD, "teacher": PLAIN}))
    assert text == (
        "holds several state dicts ('student', 'teacher'): save the right one as its own file"
    )
    content = {"ema_0.99": GOOD, "ema_0.9999": GOOD, "model": PLAIN}
    assert "several state dicts ('ema_0.99', 'ema_0.9999')" in refused(saved(tmp_path, content))
    assert same(read(tmp_path / "w.pt", "plain")[0], PLAIN)
    content = {"ema": {"shadow_params": [torch.ones(9)]}, "model": PLAIN}
    assert "are a list without names, 1 of them" in refused(saved(tmp_path, content))
    assert same(read(tmp_path / "w.pt", "plain")[0], PLAIN)
    text = refused(saved(tmp_path, {"ema": GOOD}), "plain")
    assert text == (
        "holds averaged weights only ('ema'): remove `weights: plain` from the model's section"
    )


@pytest.mark.parametrize(
    ("prefixes", "removed"),
    [
        (["module."], ["module."]),
        (["_orig_mod."], ["_orig_mod."]),
        (["model."], ["model."]),
        (["module._orig_mod."], ["_orig_mod.", "module."]),
        (["_fsdp_wrapped_module.module."], ["_fsdp_wrapped_module.", "module."]),
    ],
)
def test_the_names_of_wrappers_are_removed_and_said(
    tmp_path: Path, prefixes: list[str], removed: list[str]
) -> None:
    found, said = read(saved(tmp_path, prefixed(prefixes[0], GOOD)))
    assert same(found, GOOD)
    for prefix in removed:
        assert f"without the prefix '{prefix}' of its keys" in said


def test_wrappers_inside_of_a_network_are_removed(tmp_path: Path) -> None:
    given = {"a._orig_mod.weight": GOOD["a.weight"], "a._orig_mod.bias": GOOD["a.bias"]}
    assert same(read(saved(tmp_path, given))[0], GOOD)


def test_a_prefix_that_not_all_share_or_that_is_the_networks_own_stays(tmp_path: Path) -> None:
    given = {"model.weight": torch.ones(2), "head.weight": torch.ones(3)}
    assert same(read(saved(tmp_path, given))[0], given)

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Small()

    network = Own()
    for content in (prefixed("model.", GOOD), prefixed("module.model.", GOOD)):
        load_checkpoint(network, saved(tmp_path, content))
        assert same(dict(network.state_dict()), prefixed("model.", GOOD))


def test_averages_of_torch_are_loaded(tmp_path: Path) -> None:
    network = Small()
    fill(network, GOOD, "x")
    averaged = AveragedModel(network)
    load_checkpoint(other := Small(), saved(tmp_path, averaged.state_dict()))
    assert same(dict(other.state_dict()), GOOD)


# Several files


def shards(folder: Path, suffix: str = ".safetensors") -> Path:
    folder.mkdir()
    names = {key: f"w-{i}{suffix}" for i, key in enumerate(GOOD, start=1)}
    for key, name in names.items():
        part = {key: GOOD[key]}
        save_file(part, folder / name) if suffix == ".safetensors" else saved(folder, part, name)
    index = folder / f"w{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": names}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_read_by_their_index_or_their_folder(tmp_path: Path, suffix: str) -> None:
    index = shards(tmp_path / "sharded", suffix)
    assert same(read(index)[0], GOOD)
    found, said = read(index.parent)
    assert same(found, GOOD) and said == f"2 tensors, of {index.name}"
    before = checkpoint_sha256(index)
    assert checkpoint_sha256(index.parent) == before
    saved(index.parent, {"a.bias": torch.zeros(2)}, f"w-2{suffix}")
    assert checkpoint_sha256(index) != before


def test_shards_that_are_missing_or_hold_other_keys(tmp_path: Path) -> None:
    index = shards(tmp_path / "sharded")
    save_file({"other": torch.ones(1)}, index.parent / "w-2.safetensors")
    assert refused(index) == "its shard w-2.safetensors lacks a.bias: fetch it again"
    (index.parent / "w-2.safetensors").write_bytes(b"cut")
    assert refused(index).startswith("its shard w-2.safetensors: damaged checkpoint (")
    (index.parent / "w-2.safetensors").unlink()
    text = refused(index)
    assert text.startswith("an index of 2 shards, of which w-2.safetensors is not beside it: ")
    for damaged in ("{", "[]", "null", '{"weight_map": {"a": "../x"}}', '{"weight_map": 3}'):
        index.write_text(damaged)
        assert refused(index).startswith("no index of shards (")


def test_one_checkpoint_of_several_files(tmp_path: Path) -> None:
    a = saved(tmp_path, {"a.weight": GOOD["a.weight"]}, "a.pt")
    b = saved(tmp_path, {"a.bias": GOOD["a.bias"]}, "b.pt")
    load_checkpoint(network := Small(), [a, b])
    assert same(dict(network.state_dict()), GOOD)
    with pytest.raises(GenclassError, match=r"b\.pt: holds a\.bias, which an earlier one of "):
        read_checkpoint([b, a, b])


def test_a_folder_stands_for_the_one_file_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    path = saved(folder, GOOD)
    (folder / "config.json").write_text("{}")
    saved(folder, PLAIN, "optimizer.pt")
    assert same(read(folder)[0], GOOD)
    assert checkpoint_sha256(folder) == hashlib.sha256(path.read_bytes()).hexdigest()
    saved(folder, PLAIN, "v.pt")
    assert refused(folder) == (
        f"a folder with 2 files of weights (v.pt, w.pt): name the one that is meant, such as "
        f"{folder}/v.pt"
    )
    save_file(GOOD, folder / "w.safetensors")  # as many repositories have both
    assert same(read(folder)[0], GOOD)


def test_folders_of_deepspeed_and_of_torch_distributed(tmp_path: Path) -> None:
    folder = tmp_path / "deepspeed" / "global_step5"
    folder.mkdir(parents=True)
    saved(folder, {"module": GOOD}, "mp_rank_00_model_states.pt")
    saved(folder, {"x": PLAIN}, "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (folder.parent / "latest").write_text("global_step5")
    assert same(read(folder.parent)[0], GOOD)
    other = tmp_path / "distributed"
    other.mkdir()
    (other / ".metadata").touch()
    (other / "__0_0.distcp").touch()
    assert "dcp_to_torch" in refused(other)
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").startswith("a folder without a file of weights (.safe")


def test_files_of_old_lightning_name_the_classes_of_callbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the VQGAN of Taming Transformers does, whose readers need not have Lightning."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})  # type: ignore[attr-defined]
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    callbacks = {module.ModelCheckpoint: {"best_model_score": torch.ones(()), "best": "a.ckpt"}}
    path = saved(tmp_path, {"epoch": 3, "callbacks": callbacks, "state_dict": GOOD}, "last.ckpt")
    monkeypatch.undo()
    assert same(read(path)[0], GOOD)


# Whether they are weights


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    bad = {key: tensor.to(dtype) for key, tensor in GOOD.items()}
    bad["a.weight"] = bad["a.weight"].clone()
    bad["a.weight"][1, 2] = value
    assert refused(saved(tmp_path, {"model": bad})) == (
        "a.weight holds NaN or infinity (1 of 6 values): the weights are damaged: get another copy"
    )


def test_a_mask_of_attention_may_be_infinite(tmp_path: Path) -> None:
    mask = torch.full((3, 3), -torch.inf).triu(1)
    assert torch.equal(read(saved(tmp_path, GOOD | {"mask": mask}))[0]["mask"], mask)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
)
def test_floats_of_any_width_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    given = {key: (tensor * 0.75).to(dtype) for key, tensor in GOOD.items()}
    load_checkpoint(network := Small(), saved(tmp_path, given))
    assert network.a.weight.dtype == torch.float32
    assert torch.equal(network.a.weight, torch.full((2, 3), 0.75))


def eight_bit(tensor: Tensor) -> Tensor:
    return (tensor * 10).to(torch.int8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (eight_bit, "its weights are int8, none is a float: weights of another kind are not"),
        (lambda t: t.bool(), "its weights are bool, none is a float"),
        (lambda t: t.to(torch.complex64), "a.weight is complex64: weights of another kind are"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a.weight is qint8: wei"),
        (lambda t: t.to_sparse(), "a.weight is sparse float32: weights of another kind are not"),
    ],
)
def test_weights_of_another_kind_are_refused(
    tmp_path: Path, convert: Callable[[Tensor], Tensor], message: str
) -> None:
    given = {key: convert(tensor) for key, tensor in GOOD.items()}
    assert refused(saved(tmp_path, given)).startswith(message)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_one_tensor_of_another_kind_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path, GOOD | {"a.bias": torch.ones(2, dtype=dtype)})
    with pytest.raises(GenclassError) as error:
        load_checkpoint(Small(), path)
    kind = str(dtype).removeprefix("torch.")
    assert str(error.value).startswith(
        f"{path}: a.bias is {kind}, expected float32: weights of another kind are not converted"
    )


def test_buffers_of_integers_stay_what_they_are(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    given = dict(network.state_dict()) | {"num_batches_tracked": torch.tensor(7)}
    load_checkpoint(network, saved(tmp_path, given))
    assert network.num_batches_tracked == 7
    given["num_batches_tracked"] = torch.tensor(7.0)
    with pytest.raises(GenclassError, match="num_batches_tracked is float32, expected int64"):
        load_checkpoint(network, saved(tmp_path, given))


def test_matrices_stand_for_convolutions_of_one_pixel_and_for_nothing_else(tmp_path: Path) -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    save_file({"weight": matrix}, tmp_path / "w.safetensors")
    convolution = torch.nn.Conv2d(4, 3, 1, bias=False)
    load_checkpoint(convolution, tmp_path / "w.safetensors")
    assert torch.equal(convolution.weight[:, :, 0, 0], matrix)
    with pytest.raises(GenclassError, match=r"weight is \[3, 4\], expected \[4, 3\]"):
        load_checkpoint(torch.nn.Linear(3, 4, bias=False), tmp_path / "w.safetensors")


def test_the_first_keys_and_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    torch.save({"weight": torch.ones(2, 4), "other": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(GenclassError) as caught:
        load_checkpoint(network, tmp_path / "a.pt")
    assert str(caught.value) == (
        f"{tmp_path}/a.pt: no checkpoint of this Linear: has an unknown other; lacks bias; "
        "weight is [2, 4], expected [2, 3]: correct the size in the config, or the file"
    )


# Files that are none


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"weight": RunsCode(tmp_path / "ran")})
    assert refused(path).startswith("refused: the pickle is damaged, or holds more than weights (")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_truncated_checkpoint(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"weight": torch.ones(200, 30)}, path)
    else:
        save_file({"weight": torch.ones(200, 30)}, path)
    path.write_bytes(path.read_bytes()[:-300])
    text = refused(path)
    assert text.startswith("damaged checkpoint (")
    assert text.endswith(": delete it and fetch it again")


def test_a_truncated_checkpoint_of_the_old_format(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"weight": torch.ones(9)}, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path)["weight"].shape == (9,)
    whole = path.read_bytes()
    for length in (60, 90, len(whole) - 8):
        path.write_bytes(whole[:length])
        assert refused(path).startswith("damaged checkpoint (")


def safetensors_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of({}),
        safetensors_of({"w": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_of({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_of({"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_of({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"1234"),
        safetensors_of({"w": None}),
        safetensors_of(b"{" + b"[" * 9000),
        (2**63).to_bytes(8, "little") + b"{",
        b"\x00" * 7,
    ],
)
def test_absurd_headers_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert refused(tmp_path / "w.safetensors").startswith(("damaged checkpoint (", "holds no stat"))


def make_tar(path: Path, member: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(member, "inner/w.pt")


@pytest.mark.filterwarnings("ignore")
def test_files_of_another_kind_are_called_what_they_are(tmp_path: Path) -> None:
    good = saved(tmp_path, GOOD, "good.pt")
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.write(good, "inner/w.pt")
    make_tar(tmp_path / "packed.tar", good)
    (tmp_path / "w.pt.gz").write_bytes(gzip.compress(good.read_bytes()))
    files = {
        "hdf5.pt": b"\x89HDF\r\n\x1a\n",
        "q.gguf": b"GGUF" + bytes(60),
        "config.pt": b'{"a": 1}',
        "page.pt": b"\n<html><title>Quota\n exceeded</title></html>",
        "sign-in.pt": b"<!doctype html><title>Sign in</title>",
        "lfs.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
        "empty.pt": b"",
        "list.pt": pickle.dumps([1]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    again = ": delete it, and fetch the file itself"
    expected = {
        "script.pt": "a TorchScript program, not weights: save what it holds: "
        "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        "arrays.npz": "NumPy arrays (npz), not a state dict: convert it: "
        "safetensors.numpy.save_file(dict(numpy.load(FILE)), NEW)",
        "array.npy": "one NumPy array: save a state dict of torch or safetensors instead",
        "packed.zip": "a zip archive (with inner/w.pt in it): unpack it, and name the file of "
        "weights",
        "packed.tar": "a tar archive (with inner/w.pt in it): unpack it, and name the file of "
        "weights",
        "w.pt.gz": "compressed with gzip: unpack it (gunzip FILE)",
        "hdf5.pt": "an HDF5 file, as Keras writes it: convert it to a state dict of torch or "
        "safetensors",
        "q.gguf": "a GGUF file of quantised weights: get the floating-point checkpoint",
        "config.pt": "a JSON file, not weights: name the file of weights",
        "page.pt": f"its download quota is used up: try again in a day{again}",
        "sign-in.pt": f"a web page ('Sign in') came, not the file{again}",
        "lfs.safetensors": f"a Git LFS pointer, not the file that it stands for{again}",
        "empty.pt": f"an empty file{again}",
        "list.pt": "holds no state dict: is it the right file?",
        "nothing.pt": "holds no tensors: is it the right file?",
        "gone.pt": "the checkpoint is missing: bring it back: genclass fetch",
    }
    assert {name: refused(tmp_path / name) for name in expected} == expected
    for name, text in expected.items():  # the check at fetch says the same
        reason = why_no_checkpoint(tmp_path / name)
        assert reason is not None and text.startswith(reason)
    assert why_no_checkpoint(good) is None


def test_a_file_that_may_not_be_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, GOOD)

    def forbidden(self: Path, *arguments: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", forbidden)
    assert refused(path).startswith("cannot read the checkpoint: Permission denied (check its")
