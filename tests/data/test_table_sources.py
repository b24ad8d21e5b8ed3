"""CSV and Parquet files: the layouts of Kaggle and Hugging Face, and wrong files."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fidle_jax.data import table_sources
from fidle_jax.data.sources import ImageFile, check_classes, find_source
from fidle_jax.errors import InputError
from tests.data.own_files import picture, png, save

HEADER = "label," + ",".join(f"pixel{i}" for i in range(16))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16), np.uint8)
ROWS = [f"{i % 2}," + ",".join(map(str, row)) for i, row in enumerate(PIXELS)]


def _read(source, split="train"):
    examples = source.splits[split]
    return list(examples.read()), list(examples.labels)


def _write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    [
        "\n".join([HEADER, *ROWS]),
        "\r\n".join([HEADER, *ROWS]) + "\r\n",
        "\ufeff" + "\n".join([HEADER, *ROWS]),
        "\n".join([HEADER, *ROWS]).replace(",", ";"),
        "\n".join([HEADER, *ROWS]).replace(",", "\t"),
        "\n".join(ROWS),
        "\n\n".join([HEADER, *ROWS]),
        "\n".join([HEADER.replace("pixel", ""), *ROWS]),
    ],
    ids=["plain", "crlf", "byte-order-mark", "semicolon", "tab", "headless", "blanks", "numbers"],
)
def test_tables_of_pixels_are_read_in_all_dialects(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode())
    images, labels = _read(find_source(path))
    np.testing.assert_array_equal(np.array(images).reshape(6, 16), PIXELS)
    assert labels == ["0", "1"] * 3


@given(st.integers(100, 400))
def test_tables_are_the_same_however_many_bytes_are_read_at_a_time(tmp_path_factory, block):
    path = _write(tmp_path_factory.mktemp("table") / "t.csv", HEADER, *ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_sources, "BLOCK", max(block, len(HEADER) + 2))
        images, _ = _read(find_source(path))
    np.testing.assert_array_equal(np.array(images).reshape(6, 16), PIXELS)


def test_the_folder_of_kaggles_digit_recognizer_is_read(tmp_path):
    _write(tmp_path / "train.csv", HEADER, *ROWS)
    _write(tmp_path / "test.csv", HEADER[6:], *(row[2:] for row in ROWS))
    _write(tmp_path / "sample_submission.csv", "ImageId,Label", "1,0")
    source = find_source(tmp_path)
    assert list(source.splits) == ["train"]
    assert source.ignored == [f"{tmp_path / 'test.csv'}: no column of labels"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "empty first line"),
        ([HEADER, *ROWS, "1,2,3"], "Row #8: Expected 17 columns, got 3"),
        ([HEADER, *ROWS, ROWS[0] + ",7"], "Row #8: Expected 17 columns, got 18"),
        ([HEADER, *ROWS, "1" + ",256" * 16], "invalid value '256'.*from 0 to 255"),
        ([HEADER, *ROWS, "1" + ",-1" * 16], "invalid value '-1'.*from 0 to 255"),
        ([HEADER, *ROWS, "1" + ",0.5" * 16], r"invalid value '0\.5'.*from 0 to 255"),
        ([HEADER, *ROWS, "1" + "," * 16], "empty pixels"),
        ([HEADER, *ROWS, "-1" + ROWS[0][1:]], "label of example 6 is -1"),
        ([HEADER, *ROWS, "nan" + ROWS[0][1:]], "label of example 6 is nan"),
        ([HEADER, *ROWS, "0.5" + ROWS[0][1:]], r"label of example 6 is 0\.5"),
        ([HEADER, *ROWS, ROWS[0][1:]], "data row 7 has no label"),
        ([HEADER[6:], *(row[2:] for row in ROWS)], "no column of labels"),
        ([HEADER + ",pixel16", *(row + ",0" for row in ROWS)], "17 pixels in each row"),
        (["a,b", "1,2"], "has the columns a, b; expected label and"),
        ([HEADER, '"', *ROWS], "Row #2"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message) as caught:
        _read(find_source(_write(tmp_path / "t.csv", *lines)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_table_without_rows_is_refused(tmp_path, end):
    (tmp_path / "t.csv").write_text(HEADER + end)
    with pytest.raises(InputError, match=r"no rows|no images"):
        check_classes(tmp_path, find_source(tmp_path / "t.csv"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", HEADER.encode() + b"\n\xe9,1", b"\0" * 99])
def test_files_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError):
        _read(find_source(tmp_path / "t.csv"))


def test_long_lines_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_sources, "BLOCK", 1000)
    for first in ("1" * 2000, HEADER + "\n" + "1" * 3000):
        with pytest.raises(InputError, match="1,000"):
            _read(find_source(_write(tmp_path / "t.csv", first)))


NAMES = ["a 1.png", "é,2.png", "../up/3.png", "x/4.PNG"]


def _table(folder, header="filename,label", rows=None):
    for name in NAMES:
        save(folder / "x" / name)
        save(folder / name)
    rows = rows or [f'"{name}",{"ab"[i % 2]}' for i, name in enumerate(NAMES)]
    return _write(folder / "labels.csv", header, *rows)


def test_tables_of_file_names_are_relative_to_their_folder(tmp_path):
    folder = tmp_path / "set"
    contents, labels = _read(find_source(_table(folder)))
    assert contents == [ImageFile(f"{folder}/{name}") for name in NAMES]
    assert labels == ["a", "b", "a", "b"]
    assert _read(find_source(folder))[0] == contents


def test_absolute_names_and_quoted_newlines_in_other_columns_are_read(tmp_path):
    rows = [f'{tmp_path}/a 1.png,{x},"one\ntwo, three"' for x in "ab"]
    contents, _ = _read(find_source(_table(tmp_path, "path,class,caption", rows)))
    assert contents == [ImageFile(f"{tmp_path}/a 1.png")] * 2


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_images_may_be_in_a_folder_next_to_the_table_and_named_without_ending(tmp_path, ending):
    for i in range(4):
        save(tmp_path / "images" / f"{i}.jpg")
    rows = [f"{i}{ending},{'ab'[i % 2]}" for i in range(4)]
    _write(tmp_path / "labels.csv", "id,breed", *rows)
    contents, _ = _read(find_source(tmp_path))
    assert contents == [ImageFile(f"{tmp_path}/images/{i}.jpg") for i in range(4)]


def _signs(folder, region):
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    for split in ("Train", "Test"):
        for i in range(4):
            save(folder / split / f"{i}.png", picture(i, 8, 8))
        rows = [f"8,8,{region},{i % 2},{split}/{i}.png" for i in range(4)]
        _write(folder / f"{split}.csv", header, *rows)
    _write(folder / "Meta.csv", "Path,ClassId", "Meta/0.png,0")
    (folder / "Meta").mkdir()
    return folder


def test_kaggles_gtsrb_is_read_with_and_without_regions(tmp_path):
    source = find_source(_signs(tmp_path, "1,2,5,6"), regions=True)
    assert list(source.splits) == ["train", "test"]
    contents, labels = _read(source, "test")
    # The last column and row of a region belong to it.
    assert contents[3] == ImageFile(f"{tmp_path}/Test/3.png", (1, 2, 6, 7))
    assert labels == ["0", "1", "0", "1"]
    assert _read(find_source(tmp_path))[0][0].box is None


@pytest.mark.parametrize("region", ["5,5,1,1", "-1,0,2,2", ",,,", "1,1,x,2", "1,1,2.5,2"])
def test_wrong_regions_are_refused(tmp_path, region):
    with pytest.raises(InputError, match=r"T(rain|est)\.csv.*(region|Row #2)"):
        find_source(_signs(tmp_path, region), regions=True)


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FILES = [png(i) for i in range(4)]


def _parquet(path, images=None, labels=(0, 1, 0, 1), metadata=None):
    images = [{"bytes": each, "path": None} for each in FILES] if images is None else images
    kind = STRUCT if isinstance(images[0] or {}, dict) else None
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels)})
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def _names(*names):
    feature = {"names": list(names), "_type": "ClassLabel"}
    return json.dumps({"info": {"features": {"label": feature}}})


def test_the_folder_of_a_hugging_face_set_is_read_with_its_class_names(tmp_path):
    names = _names("zebra", "ant", "unused")
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        _parquet(tmp_path / "data" / f"{name}.parquet", metadata=names)
    source = find_source(tmp_path)
    contents, labels = _read(source)
    assert contents == FILES * 2
    assert labels == ["zebra", "ant"] * 4
    assert check_classes(tmp_path, source) == ("zebra", "ant")
    assert _read(source, "test") == (FILES, ["zebra", "ant"] * 2)
    assert source.splits["train"].name(5).endswith("train-00001-of-00002.parquet: row 1")


@pytest.mark.parametrize(
    "options",
    [
        {"images": FILES},
        {"labels": ["0", "1", "0", "1"]},
        {"labels": pa.array(["0", "1", "0", "1"]).dictionary_encode()},
        *({"metadata": each} for each in ("{", "[1]", "{}", '{"info": 1}', b"\xff", _names())),
    ],
)
def test_other_columns_and_metadata_are_read(tmp_path, options):
    path = _parquet(tmp_path / "default" / "train" / "0000.parquet", **options)
    assert _read(find_source(tmp_path)) == _read(find_source(path)) == (FILES, ["0", "1"] * 2)


def test_missing_images_are_empty(tmp_path):
    path = _parquet(tmp_path / "x.parquet", [None, {"bytes": None, "path": "x"}, *([{}] * 2)])
    assert _read(find_source(path))[0] == [b""] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": [1, 2, 3, 4]}, "image has the type int64; expected the bytes"),
        ({"images": list("abcd")}, "image has the type string"),
        ({"labels": [None, 1, 0, 1]}, "1 rows? without a label"),
        ({"labels": [0.5, 1, 0, 1]}, "type float64"),
        ({"labels": [-1, 1, 0, 1]}, "example 0 is -1"),
        ({"labels": [[0], [1], [0], [1]]}, "type object"),
        ({"labels": [5, 1, 0, 1], "metadata": _names("a", "b")}, "label 5, but only 2 class names"),
    ],
)
def test_wrong_columns_are_refused_in_one_line(tmp_path, options, message):
    path = _parquet(tmp_path / "x.parquet", **options)
    with pytest.raises(InputError, match=message):
        find_source(path)


def test_damaged_and_unknown_parquet_files_are_refused(tmp_path):
    path = _parquet(tmp_path / "train.parquet")
    shutil.copy(path, tmp_path / "extra.parquet")
    with pytest.raises(InputError, match="Parquet files extra"):
        find_source(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train\.parquet cannot be read"):
        find_source(path)


def test_two_classes_of_the_same_name_are_refused(tmp_path):
    path = _parquet(tmp_path / "x.parquet", metadata=_names("a", "a"))
    with pytest.raises(InputError, match="same name"):
        check_classes(path, find_source(path))
