"""Visual wake words data: MLPerf Tiny's archive, building from COCO, generated pictures, and one sentence a fault."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from refusals import complaint
from sample_files import jpeg, write_folder, write_tar, write_zip
from sklearn.linear_model import LogisticRegression

from benchmarks.visual_wake_words import BENCHMARK, build, coco, data
from benchmarks.visual_wake_words.synthetic import synthesize

LIST = data.OFFICIAL_TESTS.name


def official_files(photos=40):
    """Return the files of a tiny archive of MLPerf Tiny, each picture of its own grey."""
    folders = [data.CLASSES[n % 2] for n in range(photos)]
    return {f"{folder}/COCO_val2014_{n:012d}.jpg": jpeg(96, 96, 5 * n) for n, folder in enumerate(folders)}


def make_tar(folder, files, top=f"{data.FOLDER}/"):
    """Write MLPerf Tiny's archive of names and contents into a folder."""
    return write_tar(folder / data.OFFICIAL.name, files, top)


def make_zip(folder, files):
    """Write the archive of INRIA person crops into a folder."""
    return write_zip(folder / "person_96.zip", files)


def coco_files(photos=40, year="2014"):
    """Return a tiny COCO: every second photo has a person, of 10 % of its area; both parts, two licences."""
    files = {}
    for part, numbers in (("train", range(photos // 2)), ("val", range(photos // 2, photos))):
        images, annotations = [], []
        for n in numbers:
            name = f"{n:012d}.jpg" if year == "2017" else f"COCO_{part}{year}_{n:012d}.jpg"
            images.append({"id": n, "file_name": name, "width": 100, "height": 50, "license": n % 2, "flickr_url": "u"})
            size = {"area": 500, "bbox": [0, 0, 20, 25], "iscrowd": 0}
            annotations.append({"image_id": n, "category_id": 1 + n % 2, **size})
            files[f"{part}{year}/{name}"] = jpeg(50, 100, 5 * n)
        categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
        licences = [{"id": 0, "name": "BY"}, {"id": 1, "name": "NC"}]
        content = {"images": images, "annotations": annotations, "categories": categories, "licenses": licences}
        files[f"annotations/instances_{part}{year}.json"] = json.dumps(content)
    return files


def changed(files, part="train", **changes):
    """Return a COCO whose annotation file has changed fields: None removes one, a function changes it."""
    name = f"annotations/instances_{part}2014.json"
    content = json.loads(files[name])
    for field, change in changes.items():
        content[field] = change(content[field]) if callable(change) else change
    return files | {name: json.dumps({field: value for field, value in content.items() if value is not None})}


def greys(split):
    """Return the mean of each picture."""
    return split.x.reshape(len(split), -1).mean(axis=1)


def test_official_archive(tmp_path, monkeypatch):
    """The archive and its extracted folder give the same data; without a list a tenth by hash is for testing."""
    files = official_files()
    zipped = make_tar(tmp_path, files | {"person/._COCO_val2014_000000000001.jpg": b"", ".DS_Store": b"x"})
    extracted = write_folder(tmp_path / "extracted" / data.FOLDER, files)
    dataset = data.load(zipped)
    for path in (tmp_path, extracted, extracted.parent):
        assert data.load(path).fingerprint() == dataset.fingerprint()
    assert dataset.kind == "subset", "40 pictures are not MLPerf Tiny's 109619"
    tests = [name for name in sorted(files) if coco.in_hashed_test(name)]
    assert len(dataset.test) == len(tests) > 0 and len(dataset.validation) == 4 - (len(tests) > 4)
    everything = np.concatenate([greys(dataset.train), greys(dataset.validation), greys(dataset.test)])
    np.testing.assert_allclose(np.sort(everything), np.arange(40) * 5, atol=1)
    monkeypatch.setattr(data, "OFFICIAL_PICTURES", 40)
    assert data.load(zipped).kind == "official"
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.x.dtype == np.uint8 and split.scale == np.float32(1 / 255) and split.y.dtype == np.int32
        np.testing.assert_array_equal(np.round(greys(split) / 5) % 2, split.y)
        assert split.inputs().min() >= 0 and split.inputs().max() <= 1


def test_list_of_mlperf_tiny(tmp_path):
    """The list in or beside the archive names the test pictures; one that does not fit is refused."""
    folder = write_folder(tmp_path / data.FOLDER, official_files())
    for place in (folder, tmp_path):
        (place / LIST).write_text("000000000003.bin,2,1\n000000000010.bin,2,0\n")
        dataset = data.load(tmp_path)
        assert sorted(np.round(greys(dataset.test) / 5)) == [3, 10] and len(dataset.validation) == 4
        (place / LIST).unlink()
    for row in ("000000000003.bin,2,0", "000000000099.bin,2,1", "000000000003.bin,2", "<html>"):
        (tmp_path / LIST).write_text(f"000000000003.bin,2,1\n{row}\n")
        assert row in complaint(data.load, tmp_path)


def test_hashed_test():
    """A photo is on the same side whatever the year of its name; about a tenth is for testing."""
    tests = [n for n in range(10000) if coco.in_hashed_test(f"person/COCO_train2014_{n:012d}.jpg")]
    assert tests == [n for n in range(10000) if coco.in_hashed_test(f"{n:012d}.jpg")]
    assert 900 < len(tests) < 1100 and tests[:3] == [6, 30, 38]
    assert coco.photo_number("person/photo.jpg") is None
    assert 900 < sum(coco.in_hashed_test(f"person/{n}_x.jpg") for n in range(10000)) < 1100


def test_validation_list(tmp_path):
    """Lists decide all three splits, and the seed their order; a picture in two lists or absent is refused."""
    names = list(official_files())
    lists = {"test_list.txt": "\n".join(names[:4]), "val_list.txt": "\n".join(names[4:10])}
    write_folder(tmp_path, official_files() | lists)
    dataset, other = data.load(tmp_path), data.load(tmp_path, seed=1)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [30, 6, 4]
    np.testing.assert_array_equal(np.sort(greys(dataset.validation)), np.sort(greys(other.validation)))
    assert dataset.fingerprint() != other.fingerprint()
    (tmp_path / "val_list.txt").write_text(names[0])
    assert f"{names[0]} in two" in complaint(data.load, tmp_path)
    (tmp_path / "val_list.txt").write_text("person/nobody.jpg")
    assert "person/nobody.jpg, not there" in complaint(data.load, tmp_path)
    (tmp_path / "test_list.txt").write_text("\n".join(names))
    (tmp_path / "val_list.txt").unlink()
    only_tests = data.load(tmp_path)
    assert only_tests.train is only_tests.validation is None and len(only_tests.test) == 40


ONE = "person/COCO_val2014_000000000001.jpg"
BROKEN_PICTURES = [
    ({ONE: jpeg(1, 1)}, f"{ONE} must have the shape (96, 96, 3). Received: (1, 1, 3)"),
    ({ONE: jpeg(96, 64)}, "Received: (96, 64, 3)"),
    ({ONE: b""}, f"{ONE} must be a complete JPEG"),
    ({ONE: b"no picture"}, f"{ONE} must be a complete JPEG"),
    ({ONE: jpeg(96, 96)[:200]}, f"{ONE} must be a complete JPEG"),
    ({"dog/1.jpg": jpeg(96, 96)}, "dog/1.jpg"),
    ({"test_list.txt": "person/nobody.jpg"}, "person/nobody.jpg"),
    ({"test_list.txt": ""}, "at least one"),
    ({"../evil.jpg": jpeg(96, 96)}, "../evil.jpg"),
    ({"/evil.jpg": jpeg(96, 96)}, "/evil.jpg"),
    ({"origin.json": "{}", "test_list.txt": ONE}, "origin.json must be"),
]


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize(("change", "sentence"), BROKEN_PICTURES)
def test_broken_pictures(tmp_path, make, change, sentence):
    """Wrong sizes, damaged pictures, strange folders and unsafe names are refused, and nothing is written."""
    archive = make(tmp_path, official_files() | change)
    assert sentence in complaint(data.load, tmp_path)
    assert os.listdir(tmp_path) == [archive.name]


def test_broken_archives(tmp_path):
    """Truncated, empty and foreign archives, and a missing class, are refused by name."""
    whole = make_tar(tmp_path, official_files()).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-8], b"", b"no archive"):
        (tmp_path / data.OFFICIAL.name).write_bytes(content)
        assert data.OFFICIAL.name in complaint(data.load, tmp_path)
    make_tar(tmp_path, {})
    assert "which is empty" in complaint(data.load, tmp_path)
    make_tar(tmp_path, {"yes/1.wav": b"RIFF"}, top="")
    assert "non_person must hold .jpg files" in complaint(data.load, tmp_path)
    persons = {name: content for name, content in official_files().items() if name.startswith("person/")}
    make_tar(tmp_path, persons)
    assert "non_person must hold .jpg files" in complaint(data.load, tmp_path)
    assert "non_person must hold .jpg files" in complaint(data.load, write_folder(tmp_path / "extracted", persons))


def test_png_named_jpg(tmp_path):
    """A PNG picture of the right size is read, whatever its name."""
    png = tf.io.encode_png(np.full((96, 96, 3), 77, np.uint8)).numpy()
    names = "person/COCO_val2014_000000000001.jpg", "non_person/COCO_val2014_000000000000.jpg"
    write_folder(tmp_path, official_files() | dict.fromkeys(names, png) | {"test_list.txt": "\n".join(names)})
    assert np.all(data.load(tmp_path).test.x == 77)


def test_crops_of_a_photo(tmp_path):
    """All crops of one photo stay on one side of the validation split."""
    names = [f"{label}/photo_{n}{crop}.jpg" for label in data.CLASSES for n in range(6) for crop in "ab"]
    tests = "person/photo_0a.jpg", "person/photo_0b.jpg", "non_person/photo_0a.jpg"
    files = {name: jpeg(96, 96, 10 * n) for n, name in enumerate(names)} | {"test_list.txt": "\n".join(tests)}
    dataset = data.load(make_zip(tmp_path, files))
    assert len(dataset.validation) == 2 and len(dataset.train) == 19 and len(dataset.test) == 3
    first, second = np.sort(np.round(greys(dataset.validation) / 10))
    assert first % 2 == 0 and second == first + 1
    photos = {name: data.photo_of(f"person/{name}.jpg") for name in ("12_3", "crop04b", "x_3")}
    assert photos == {"12_3": "person/12", "crop04b": "person/crop04", "x_3": "person/x_3"}


def test_download(tmp_path, monkeypatch):
    """What is not there is fetched: archive and list, or the list alone beside the extracted folder."""
    fetched = []
    monkeypatch.setattr(data, "fetch", lambda source, folder: fetched.append(source))
    BENCHMARK.download(tmp_path)
    (tmp_path / data.FOLDER).mkdir()
    BENCHMARK.download(tmp_path)
    assert fetched == [data.OFFICIAL, data.OFFICIAL_TESTS, data.OFFICIAL_TESTS]


def test_augmentation(tmp_path):
    """The same seed gives the same changes, in the order of the samples, within 0..1; plain grey stays."""
    make_tar(tmp_path, official_files())
    train = data.load(tmp_path).train
    samples, seed = tf.constant([3, 0, 7], tf.int64), tf.constant([1, 2], tf.int32)
    np.testing.assert_allclose(train.augmented(samples, seed), train.inputs([3, 0, 7]), atol=1e-5)
    split = data.training_split(np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8), np.zeros(8))
    traced = tf.function(split.augmented)
    changed_inputs = traced(samples, seed).numpy()
    np.testing.assert_array_equal(changed_inputs, traced(samples, seed))
    assert changed_inputs.dtype == np.float32 and changed_inputs.min() >= 0 and changed_inputs.max() <= 1
    assert np.abs(changed_inputs - split.inputs([3, 0, 7])).mean() > 0.01
    assert not np.array_equal(changed_inputs, traced(samples, tf.constant([1, 3], tf.int32)))


@pytest.mark.slow
def test_synthetic():
    """Generated pictures are balanced, repeat by seed, differ between splits, and can be learnt from edges."""
    dataset = BENCHMARK.synthesize(0)
    assert dataset.describe() == "synthetic figures (synthetic: 800 train, 160 validation, 320 test)"
    splits = dataset.train, dataset.validation, dataset.test
    for split in splits:
        assert split.x.shape[1:] == (96, 96, 3) and split.x.dtype == np.uint8 and split.y.mean() == 0.5
    assert len({picture.tobytes() for split in splits for picture in split.x}) == sum(map(len, splits))
    assert synthesize(0).fingerprint() == dataset.fingerprint() != synthesize(1).fingerprint()
    assert dataset.train.augmented(tf.range(2, dtype=tf.int64), tf.constant([0, 0])).shape == (2, 96, 96, 3)

    def edges(split):
        steps = np.abs(np.gradient(split.x.astype(np.float32).mean(axis=-1), axis=(1, 2)))
        return steps.reshape(2, len(split), 8, 12, 8, 12).max(axis=(3, 5)).transpose(1, 0, 2, 3).reshape(len(split), -1)

    line = LogisticRegression(max_iter=500).fit(edges(dataset.train) / 50, dataset.train.y)
    assert line.score(edges(dataset.test) / 50, dataset.test.y) > 0.65


@pytest.mark.parametrize(
    ("persons", "mlperf_tiny", "visual_wake_words"),  # (width and height of the box, area of the outline, crowd)
    [
        ([], "non_person", "non_person"),
        ([(20, 25, 400, 0)], "person", "person"),
        ([(5, 25, 20, 0)], None, "non_person"),  # 2.5 %, not more; 0.4 %
        ([(5, 26, 26, 0)], "person", "person"),
        ([(5, 5, 25, 0)], None, "non_person"),  # 0.5 %, not more
        ([(5, 6, 26, 0)], None, "person"),
        ([(1, 1, 1, 0), (20, 25, 400, 0)], "person", "person"),
        ([(90, 45, 4000, 1)], "non_person", "person"),
        ([(90, 45, 4000, 1), (1, 1, 1, 0)], None, "person"),
    ],
)
def test_rules(tmp_path, persons, mlperf_tiny, visual_wake_words):
    """Large persons, only small ones, crowds and none, in a photo of 100 x 50 pixels."""
    annotations = [
        {"image_id": 0, "category_id": 1, "iscrowd": crowd, "area": area, "bbox": [3, 3, width, height]}
        for width, height, area, crowd in persons
    ]
    write_folder(tmp_path, changed(coco_files(), annotations=annotations))
    for rule, expected in (("mlperf_tiny", mlperf_tiny), ("visual_wake_words", visual_wake_words)):
        assert coco.read_photos(tmp_path, coco.RULES[rule])[0].label == expected


def test_build(tmp_path, monkeypatch):
    """The built folder has pictures of 96 x 96, lists, licences, and loads; it must be new."""
    write_folder(tmp_path / "coco", changed(coco_files(), annotations=lambda records: records[2:]))
    output = tmp_path / "built"
    assert build.build(tmp_path / "coco", output) == {"person": 19, "non_person": 21}
    assert sorted(os.listdir(tmp_path)) == ["built", "coco"]
    tests, validation = ((output / name).read_text().splitlines() for name in ("test_list.txt", "val_list.txt"))
    assert all(map(coco.in_hashed_test, tests)) and len(validation) == round((40 - len(tests)) / 10)
    rows = (output / "coco_licences.csv").read_text().splitlines()
    assert rows[:2] == ["file,image_licence,url", "non_person/COCO_train2014_000000000000.jpg,BY,u"] and len(rows) == 41
    dataset = data.load(output)
    assert dataset.name == "COCO pictures by the rule mlperf_tiny" and dataset.kind == "subset"
    assert [len(part) for part in (dataset.test, dataset.validation)] == [len(tests), len(validation)]
    np.testing.assert_allclose(np.sort(greys(dataset.train)) % 5 % 4, 0, atol=1)
    monkeypatch.setattr(data, "PHOTOS", 40)
    assert data.load(output).kind == "official"
    assert "must be new or empty" in complaint(build.build, tmp_path / "coco", output)
    inside_file = output / "origin.json" / "built"
    assert "must be writable" in complaint(build.build, tmp_path / "coco", inside_file)


def test_build_of_2017_with_listed_tests(tmp_path):
    """COCO 2017 and a list of test photos in either published form."""
    write_folder(tmp_path / "coco", coco_files(year="2017"))
    for number, text in enumerate(("000000000003.bin,2,0\n000000000010.bin,2,1\n", "3\n10\n")):
        ids, output = tmp_path / "ids.txt", tmp_path / f"built{number}"
        ids.write_text(text)
        output.mkdir()
        build.build(tmp_path / "coco", output, "visual_wake_words", ids)
        assert sorted(np.round(greys(data.load(output).test) / 5)) == [3, 10]
    for text in ("99\n", "photo 3\n", "3.5e7x\n"):
        ids.write_text(text)
        assert text.strip() in complaint(build.build, tmp_path / "coco", tmp_path / "new", test_ids=ids)
    assert "--test-ids must be" in complaint(build.build, tmp_path / "coco", tmp_path / "new", test_ids=tmp_path)


def test_resumed_build(tmp_path):
    """A build that a damaged photo stops goes on where it was: finished pictures stay, strays go, nothing is half."""
    files = coco_files()
    folder = write_folder(tmp_path / "coco", files | {"val2014/COCO_val2014_000000000039.jpg": jpeg(50, 100)[:400]})
    unfinished = tmp_path / "unfinished-built"
    assert "000000000039.jpg must be a complete JPEG" in complaint(build.build, folder, tmp_path / "built")
    assert not (tmp_path / "built").exists() and not list(unfinished.rglob("partial-*"))
    first = unfinished / "person" / "COCO_train2014_000000000000.jpg"
    time_ns = first.stat().st_mtime_ns
    strays = {"person/partial-COCO_train2014_000000000002.jpg": b"half", "non_person/other.jpg": b"", "partial-x": b""}
    write_folder(unfinished, strays | {"person/COCO_train2014_000000000004.jpg": b""})
    write_folder(folder, files)
    build.build(folder, tmp_path / "built")
    assert sorted(os.listdir(tmp_path)) == ["built", "coco"]
    assert (tmp_path / "built" / first.relative_to(unfinished)).stat().st_mtime_ns == time_ns
    dataset = data.load(tmp_path / "built")
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 40
    assert set(os.listdir(tmp_path / "built")) == {
        *data.CLASSES, "coco_licences.csv", "origin.json", "test_list.txt", "val_list.txt"
    }  # fmt: skip


def test_wide_and_grey_photos():
    """A photo of any shape fills the square; grey ones become coloured, one pixel becomes a plain picture."""
    half = np.zeros((50, 200, 1), np.uint8)
    half[:, 100:] = 200
    picture = tf.io.decode_jpeg(build.shrink(tf.io.encode_jpeg(half, quality=100).numpy())).numpy().astype(int)
    assert picture.shape == (96, 96, 3) and picture[:, :44].max() < 10 and np.abs(picture[:, 52:] - 199).max() < 10
    assert np.ptp(tf.io.decode_jpeg(build.shrink(jpeg(1, 1, 77))).numpy()) <= 2


BROKEN_COCO = {
    "no JSON": (lambda files: files | {"annotations/instances_train2014.json": "no"}, "must be COCO's JSON"),
    "no text": (lambda files: files | {"annotations/instances_train2014.json": b"\xff\xfe\x00"}, "must be COCO's JSON"),
    "deep": (lambda files: files | {"annotations/instances_train2014.json": "[" * 200_000}, "RecursionError"),
    "a list": (lambda files: files | {"annotations/instances_train2014.json": "[]"}, "must have images, annotations"),
    "no annotations": (lambda files: changed(files, annotations=None), "must have images, annotations, categories"),
    "no lists": (lambda files: changed(files, images={}), "lists of COCO's records"),
    "no records": (lambda files: changed(files, images=[1]), "lists of COCO's records. Received: [1]"),
    "no person": (lambda files: changed(files, categories=[]), "must have the category person"),
    "no fields": (lambda files: changed(files, images=[{"id": 1}]), "must have id, file_name, width, height"),
    "no box": (lambda files: changed(files, annotations=[{"image_id": 1}]), "must have image_id, category_id"),
    "wrong box": (
        lambda files: changed(files, annotations=lambda all: [all[0] | {"bbox": [1, 2, "3", 4]}]),
        "must have sizes in pixels",
    ),
    "short box": (
        lambda files: changed(files, annotations=lambda all: [all[0] | {"bbox": 5}]),
        "must have sizes in pixels",
    ),
    "no area": (
        lambda files: changed(files, images=lambda all: [all[0] | {"width": 0}]),
        "must have photos with pixels",
    ),
    "infinite": (
        lambda files: changed(files, images=lambda all: [all[0] | {"width": float("nan")}]),
        "must have sizes in pixels",
    ),
    "leaves": (
        lambda files: changed(files, images=lambda all: [all[0] | {"file_name": "../evil.jpg"}]),
        "'../evil.jpg'",
    ),
    "repeated": (lambda files: changed(files, images=lambda all: all + all[:1]), "000000000000.jpg twice"),
    "one class": (
        lambda files: changed(changed(files, annotations=[]), "val", annotations=[]),
        "must show persons and no persons",
    ),
    "no photo": (
        lambda files: {name: content for name, content in files.items() if "000000000007" not in name},
        "COCO_train2014_000000000007.jpg, 1 are absent",
    ),
    "no COCO": (lambda files: {"a.txt": "a"}, "--coco-dir must hold annotations/instances_train2014.json"),
}


@pytest.mark.parametrize("case", BROKEN_COCO)
def test_broken_coco(tmp_path, case):
    """Annotations that are no JSON, lack fields or do not fit, and absent photos, give no output folder."""
    change, sentence = BROKEN_COCO[case]
    folder = write_folder(tmp_path / "coco", change(coco_files()))
    assert sentence in complaint(build.build, folder, tmp_path / "built")
    assert not (tmp_path / "built").exists() and not list(tmp_path.rglob("partial-*"))


def test_command(tmp_path, monkeypatch, capsys):
    """The command says what it wrote, or what is wrong, in one line."""
    folder = write_folder(tmp_path / "coco", coco_files())
    words = ["build", "--coco-dir", str(folder), "--output-dir", str(tmp_path / "built")]
    monkeypatch.setattr("sys.argv", words)
    build.main()
    assert capsys.readouterr().out == f"{tmp_path / 'built'}: 20 person, 20 non_person\n"
    for options, sentence in (([], "must be new or empty"), (["--rule", "mine"], "--rule must be one of")):
        monkeypatch.setattr("sys.argv", words + options)
        with pytest.raises(SystemExit) as stop:
            build.main()
        printed = capsys.readouterr()
        assert stop.value.code == 2 and sentence in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_interrupted_command(tmp_path, monkeypatch, capsys):
    """Ctrl-C ends in one line; the pictures until then wait for the same command."""
    folder = write_folder(tmp_path / "coco", coco_files())
    monkeypatch.setattr("sys.argv", ["build", "--coco-dir", str(folder), "--output-dir", str(tmp_path / "built")])

    def interrupt(*photo):
        raise KeyboardInterrupt

    with monkeypatch.context() as change:
        change.setattr(build, "shrink", interrupt)
        with pytest.raises(SystemExit) as stop:
            build.main()
    assert stop.value.code == 130 and capsys.readouterr().err == "stopped; the same command goes on\n"
    assert sorted(os.listdir(tmp_path)) == ["coco", "unfinished-built"]
    build.main()
    assert sorted(os.listdir(tmp_path)) == ["built", "coco"]
