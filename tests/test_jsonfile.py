"""JSON on disk: strict, atomic, and clear about what is wrong with a file."""

import json
import math
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import jsonfile
from cyclr.errors import InputError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = {"a": [1, 2.5, "ö"], "b": None}
    jsonfile.write(tmp_path / "x.json", data)
    assert jsonfile.read(tmp_path / "x.json", what="data") == data
    assert (tmp_path / "x.json").read_text(encoding="utf-8").endswith("}\n")


def test_a_write_replaces_the_old_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    jsonfile.write(tmp_path / "x.json", ["old"] * 100)
    jsonfile.write(tmp_path / "x.json", ["new"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == ["new"]


def test_a_write_that_fails_midway_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonfile.write(tmp_path / "x.json", ["old"])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; choose another place"):
        jsonfile.write(tmp_path / "x.json", ["new"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == ["old"]


def test_what_json_lacks_is_written_as_words_however_nested(tmp_path: Path) -> None:
    data = {"a": [math.nan, {"b": (math.inf, 1.5)}], "c": -math.inf, "d": True}
    jsonfile.write(tmp_path / "x.json", data)
    read = jsonfile.read(tmp_path / "x.json", what="data")
    assert read == {"a": ["nan", {"b": ["inf", 1.5]}], "c": "-inf", "d": True}


def test_what_is_not_data_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    jsonfile.write(tmp_path / "x.json", ["old"])
    with pytest.raises(TypeError, match="not JSON serializable"):
        jsonfile.write(tmp_path / "x.json", [object()])
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == ["old"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_file_gets_the_mode_of_an_ordinary_new_file(tmp_path: Path) -> None:
    jsonfile.write(tmp_path / "x.json", 1)
    (tmp_path / "ordinary").write_text("1")
    written, ordinary = ((tmp_path / n).stat().st_mode for n in ("x.json", "ordinary"))
    assert stat.S_IMODE(written) == stat.S_IMODE(ordinary)


def test_writing_into_a_folder_that_does_not_exist_names_path_and_reason(tmp_path: Path) -> None:
    target = tmp_path / "none" / "x.json"
    with pytest.raises(InputError) as caught:
        jsonfile.write(target, 1)
    assert str(caught.value) == (
        f"cannot write {target}: No such file or directory; choose another place"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"", "it is not JSON"),
        (b'{"a": 1', "it is not JSON"),
        (b'{"a": {"b": 1, "b": 2}}', "it is not JSON (the key 'b' is given twice)"),
        (b"[" * 100_000, "it is not JSON (it is nested too deeply)"),
        (b"\xff\xfe\x00", "it is not a text file"),
    ],
)
def test_reading_what_is_not_json_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        jsonfile.read(path, what="a recipe")
    assert str(caught.value).startswith(f"{path} is not a recipe: {reason}")


def test_reading_a_missing_file_or_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read a recipe .*none: No such file"):
        jsonfile.read(tmp_path / "none", what="a recipe")
    with pytest.raises(InputError, match=r"cannot read a recipe .*: Is a directory"):
        jsonfile.read(tmp_path, what="a recipe")


def test_pack_writes_what_json_lacks_as_words() -> None:
    packed = jsonfile.pack([1, 2.5, math.nan, math.inf, -math.inf])
    assert packed == [1.0, 2.5, "nan", "inf", "-inf"]


@given(st.lists(st.floats()))
def test_pack_survives_strict_json_and_unpack(numbers: list[float]) -> None:
    text = json.dumps(jsonfile.pack(numbers), allow_nan=False)
    read = jsonfile.unpack(json.loads(text))
    assert list(map(repr, read)) == list(map(repr, numbers))


@pytest.mark.parametrize("entry", [True, "1", "NaN", None, [1.0], {}])
def test_unpack_refuses_what_pack_does_not_write(entry: object) -> None:
    with pytest.raises(TypeError, match="expected a number"):
        jsonfile.unpack([1.0, entry])
