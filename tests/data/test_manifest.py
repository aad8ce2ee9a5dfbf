"""Tables of items: the same data through every format, and each thing that can be wrong in a row."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from amodal.data import read
from amodal.errors import DataError

ROWS = [
    {"id": "a", "image": "p/1.png", "text": ["red", "a red thing"], "labels": ["x", "y"], "split": "train", "price": 3},
    {"id": "b", "image": "p/2.png", "text": None, "labels": ["x"], "split": "train", "price": 4},
    {"id": "c", "image": None, "text": ["blue"], "labels": None, "split": "test", "price": 5},
]


def as_jsonl(path):
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")


def as_parquet(path):
    parquet.write_table(pa.Table.from_pylist(ROWS), path)


def as_csv(path):
    lines = ["id,image,text,labels,split,price"]
    lines += ['a,p/1.png,"[""red"", ""a red thing""]",x;y,train,3', "b,p/2.png,,x,train,4", "c,,blue,,test,5"]
    path.write_text("\n".join(lines))


def as_tsv(path):
    lines = ["id\timage\ttext\tlabels\tsplit\tprice"]
    lines += ['a\tp/1.png\t"[""red"", ""a red thing""]"\tx|y\ttrain\t3', 'b\tp/2.png\t\t"[""x""]"\ttrain\t4']
    path.write_text("\n".join([*lines, "c\t\tblue\t\ttest\t5"]))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p").mkdir()
    for k in (1, 2):
        Image.new("RGB", (8, 8)).save(tmp_path / "p" / f"{k}.png")
    return tmp_path


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_csv, as_tsv])
def test_every_format_gives_the_same_data(folder, write):
    path = folder / f"items.{write.__name__[3:]}"
    write(path)
    data = read(path)
    assert data.name == "items"
    assert data.ids.tolist() == ["a", "b", "c"]
    assert data.names == ("image", "text")
    assert data["image"].read().tolist() == [str(folder / "p/1.png"), str(folder / "p/2.png")]
    assert data["text"].read().tolist() == ["red", "a red thing", "blue"]
    assert data["text"].item.tolist() == [0, 0, 2]
    assert data.labels.names == ("x", "y")
    assert data.labels.known.tolist() == [True, True, False]
    assert data.labels.dense().tolist() == [[1, 1], [1, 0], [0, 0]]
    assert data.split.tolist() == ["train", "train", "test"]
    assert data.attributes["price"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("nested", [False, True])
def test_vectors_are_features(tmp_path, nested):
    vectors = [[1.0, 2.0], None, [3.0, 4.0]]
    values = [None if vector is None else [vector, vector] for vector in vectors] if nested else vectors
    parquet.write_table(pa.table({"id": ["a", "b", "c"], "clip": values}), tmp_path / "x.parquet")
    data = read(tmp_path / "x.parquet")
    copies = 2 if nested else 1
    np.testing.assert_array_equal(data["clip"].read(), np.repeat([[1, 2], [3, 4]], copies, axis=0))
    assert data["clip"].item.tolist() == [0] * copies + [2] * copies


def test_fixed_size_vectors_are_features(tmp_path):
    column = pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2))
    parquet.write_table(pa.table({"id": ["a", "b", "c"], "clip": column}), tmp_path / "x.parquet")
    data = read(tmp_path / "x.parquet")
    np.testing.assert_array_equal(data["clip"].read(), [[1, 2], [3, 4]])
    assert data.present("clip").tolist() == [True, True, False]


def test_modalities_are_the_usual_names_unless_they_are_given(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,title,text,weight,code\na,first,some words,1.5,007\nb,second,,2,010\n")
    data = read(path)
    assert data.names == ("text",)
    assert data.attributes["weight"].tolist() == [1.5, 2.0]
    assert data.attributes["title"].tolist() == ["first", "second"]
    titles = read(path, modalities=["title"])
    assert titles.names == ("title",)
    assert titles["title"].read().tolist() == ["first", "second"]


def test_ids_stay_as_they_are_written(tmp_path):
    (tmp_path / "x.csv").write_text("id,text\n007,a\n10,b\n")
    assert read(tmp_path / "x.csv").ids.tolist() == ["007", "10"]


def test_a_column_of_labels_without_any_label_is_no_labels(tmp_path):
    (tmp_path / "x.csv").write_text("id,text,labels\na,one,\nb,two,\n")
    assert read(tmp_path / "x.csv").labels is None


def test_text_in_files_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("words in a file\n")
    (tmp_path / "x.csv").write_text("id,text\na,a.txt\n")
    assert read(tmp_path / "x.csv")["text"].read().tolist() == ["words in a file"]


def test_any_column_may_hold_pictures(folder):
    (folder / "x.csv").write_text("id,front\na,p/1.png\nb,p/2.png\n")
    assert read(folder / "x.csv", modalities=["front"])["front"].read().tolist()[0] == str(folder / "p/1.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "id,image\na,p/1.png\nb,p/9.png\n", 'line 3, column "image": there is no file p/9.png'),
        ("x.csv", "id,text\na,one\nb,two,three\n", "line 3: has 3 fields, the header has 2"),
        ("x.csv", 'id,text\na,"one\n', "is not valid CSV"),
        ("x.csv", "id,text\na,one\na,two\n", 'line 3: id "a" is already the id of line 2'),
        ("x.csv", "id,text\na,one\n,two\n", "line 3: has no id"),
        ("x.csv", "key,text\na,one\n", 'has no column "id". Columns: key, text'),
        ("x.csv", "id,words\na,one\n", "no column is a modality by its name .*modalities=.'words'."),
        ("x.jsonl", '{"id": "a", "text": "one"}\n{"id": "b", \n', "line 2: is not valid JSON"),
        ("x.jsonl", '{"id": "a", "text": "one"}\n["b"]\n', "line 2: is no JSON object"),
        ("x.jsonl", '{"id": "a", "text": "one"}\n{"id": "b", "text": 3}\n', 'column "text": mixes kinds of values'),
        (
            "x.jsonl",
            '{"id": "a", "v": [1.0, 2]}\n{"id": "b", "v": [1.0]}\n{"id": "c", "v": [1.0, 3]}\n',
            'line 2, column "v": has 1 numbers where most rows have 2',
        ),
        ("x.jsonl", '{"id": "a", "v": [1.0, NaN]}\n', 'line 1: modality "v" of item "a" holds NaN'),
        ("x.parquet", "PAR1 and then nothing", "is truncated, damaged or no Parquet file"),
        ("x.csv", "id,text,labels,split\na,b,x,train\nb,c,y,test\n", 'class "y" has no training example'),
    ],
)
def test_what_is_wrong_is_said_with_file_and_row(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(folder / name)
    assert name in str(caught.value)


def test_text_that_is_not_utf8_is_said(tmp_path):
    (tmp_path / "x.csv").write_bytes("id,text\na,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read(tmp_path / "x.csv")


def test_bad_rows_are_left_out_and_listed_on_request(folder):
    (folder / "x.csv").write_text(
        "id,image,text\na,p/1.png,one\nb,p/9.png,two\nc,p/9.png,\nd,too,many,fields\na,p/2.png,again\ne,,\n,p/1.png,nobody\n"
    )
    problems = []
    data = read(folder / "x.csv", skip_bad=True, problems=problems)
    assert data.ids.tolist() == ["a", "b", "e"]
    assert data.presence().tolist() == [[True, True], [False, True], [False, False]]
    assert [problem.split(", ", 1)[1][:6] for problem in problems] == ["line 5", "line 3", "line 4", "line 8", "line 6"]
