"""Small files that declare gigabytes, name a file twice or hide others: refused by name, with the limit, unread."""

import bz2
import functools
import gzip
import io
import json
import lzma
import pickle
import re
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import tensorflow as tf
from refusals import complaint
from sample_files import jpeg, sound_file, write_folder, write_tar, write_zip

from benchmarks.anomaly_detection import data as anomaly
from benchmarks.image_classification import data as images
from benchmarks.image_classification.pickled_batch import MEMO_NUMBERS, read_pickle
from benchmarks.keyword_spotting import data as keywords
from benchmarks.keyword_spotting.clips import read_noise
from benchmarks.visual_wake_words import build, coco
from benchmarks.visual_wake_words import data as persons
from po2quant.data import archives, budgets
from po2quant.data.archives import Archive, extract, members
from po2quant.data.arrays import Expected, read_npz
from po2quant.data.audio import read_sound
from po2quant.data.pictures import decode_images

GIB = 2**30
PEAK_BYTES = 2**27
"""What a refusal may take: the bombs of these tests unpack to 3 GB and more."""


def refusal_within_budget(call, *arguments):
    """Return the complaint of a call that takes no memory worth the name."""
    tracemalloc.start()
    try:
        sentence = complaint(call, *arguments)
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()
    return sentence


def zeros(size_bytes):
    """Return zeros, some whole 16 MB, as a raw deflate stream: one block, repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size_bytes >> 24) + packer.flush()


def zip_of(path, name, packed, size_bytes, method=zipfile.ZIP_DEFLATED, flags=0):
    """Write a zip file of one member whose header says what it is told to say."""
    raw = name.encode()
    sizes = len(packed), size_bytes, len(raw)
    header = struct.pack("<HHHHHLLLHH", 20, flags, method, 0, 33, 0, *sizes, 0)
    entry = struct.pack("<HHHHHHLLLHHHHHLL", 20, 20, flags, method, 0, 33, 0, *sizes, 0, 0, 0, 0, 0, 0)
    start = b"PK\3\4" + header + raw + packed
    directory = b"PK\1\2" + entry + raw
    path.write_bytes(start + directory + b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(directory), len(start), 0))
    return path


@functools.cache
def three_gigabytes():
    return zeros(3 * GIB)


def npy(shape, descr="<f4", content=b"", header=None):
    """Return an array file whose header says what it is told to say."""
    text = header or repr({"descr": descr, "fortran_order": False, "shape": shape})
    raw = text.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(raw)) + raw + content


ANY_FLOATS = {"x": Expected("f", (None,))}


def test_bomb_in_a_feature_file(tmp_path):
    """An .npz of 3 MB that unpacks to 3 GB is refused by its declared size."""
    path = zip_of(tmp_path / anomaly.TEST_FILE, "log_mel_db.npy", three_gigabytes(), 3 * GIB)
    assert path.stat().st_size < 4e6
    sentence = refusal_within_budget(Archive, path)
    assert "log_mel_db.npy" in sentence and f"{3 * GIB:,}" in sentence and f"{budgets.MEMBER_BYTES:,} bytes" in sentence
    assert str(path) in refusal_within_budget(anomaly.load, tmp_path)


def test_more_than_an_array_may_have(tmp_path):
    """A file within the budget of all files, but over that of its arrays or of one array, is refused."""
    np.savez(tmp_path / "a.npz", x=np.zeros(30_000))
    sentence = complaint(read_npz, tmp_path / "a.npz", {"x": Expected("f", (None,), 1000)})
    assert str(tmp_path / "a.npz") in sentence and "240128" in sentence
    sentence = complaint(read_npz, tmp_path / "a.npz", {"x": Expected("f", (None,), 239_000)})
    assert "x must be floats of the shape (any) in at most 239,000 bytes, not float64 of (30000,)" in sentence


@pytest.mark.parametrize("compressed", ["a.zip", "a.tar.gz", "a.tar.bz2"])
def test_bomb_in_an_archive(tmp_path, compressed):
    """A member of 3 GB is refused before it is unpacked, to memory or to disk."""
    path = tmp_path / compressed
    if path.suffix == ".zip":
        zip_of(path, "yes/1.wav", three_gigabytes(), 3 * GIB)
    else:
        member = tarfile.TarInfo("yes/1.wav")
        member.size = 3 * GIB
        pack = gzip.compress if path.suffix == ".gz" else bz2.compress
        path.write_bytes(pack(member.tobuf() + bytes(2**20)))
    sentence = refusal_within_budget(extract, path, tmp_path / "out")
    assert "yes/1.wav of" in sentence and f"at most {budgets.MEMBER_BYTES:,} bytes. Received: {3 * GIB:,}" in sentence
    assert [file.name for file in tmp_path.iterdir()] == [compressed]


def test_zip_that_declares_less_than_it_holds(tmp_path):
    """Three gigabytes behind a size of 1000 stay packed."""
    path = zip_of(tmp_path / "a.zip", "a", three_gigabytes(), 1000)
    with Archive(path) as archive:
        assert "a must be readable" in refusal_within_budget(archive.read, "a")
    assert str(path) in refusal_within_budget(extract, path, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 9, 93, 99])
def test_packing_methods_that_take_any_memory(tmp_path, method):
    """LZMA, whole or damaged, and other rare methods are refused by name: theirs is no bound on memory."""
    packed = lzma.compress(bytes(100)) if method == zipfile.ZIP_LZMA else b"damaged"
    path = zip_of(tmp_path / "a.zip", "yes/1.wav", packed, 100, method)
    for read in (Archive, keywords.load, lambda path: extract(path, tmp_path / "out")):
        sentence = refusal_within_budget(read, path)
        assert f"yes/1.wav in {path}, which is compressed by method {method}" in sentence


def test_encrypted_zip(tmp_path):
    """An encrypted member is refused with the names of archive and member."""
    path = zip_of(tmp_path / "a.zip", "yes/1.wav", b"secret", 6, zipfile.ZIP_STORED, flags=1)
    for read in (Archive, lambda path: extract(path, tmp_path / "out")):
        assert f"yes/1.wav in {path}, which is encrypted" in complaint(read, path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [3 * GIB, -1024])
def test_tar_header_that_pretends_to_be_long(tmp_path, kind, size):
    """A header that would be read into memory as a whole, and one of a negative size, are refused."""
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, size
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**26)))
    assert str(path) in refusal_within_budget(extract, path, tmp_path / "out")


def test_tar_that_goes_on(tmp_path):
    """What follows the files is read for its checksum, but not without end."""
    path = tmp_path / "a.tar.gz"
    member = tarfile.TarInfo("a")
    path.write_bytes(gzip.compress(member.tobuf() + bytes(2**24)))
    assert [name for name, _ in members(path)] == ["a"]
    assert "more than 3,048,576 bytes" in complaint(list, members(path, 10**6))


def test_many_headers_in_each_other(tmp_path):
    """Ten thousand headers, each of the next one, end in one sentence."""
    member = tarfile.TarInfo("a")
    member.type, member.size = tarfile.XHDTYPE, 0
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf() * 10_000 + bytes(1024))
    assert str(path) in complaint(extract, path, tmp_path / "out")


def test_too_many_files_and_too_much_in_all(tmp_path, monkeypatch):
    """The number of files and their sizes together are bounded, in a folder, a zip and a tar file."""
    files = {str(n): bytes(100) for n in range(8)}
    forms = write_zip(tmp_path / "a.zip", files), write_folder(tmp_path / "folder", files)
    tar = write_tar(tmp_path / "a.tar", files, mode="w")
    monkeypatch.setattr(archives, "MEMBERS", 7)
    assert f"{forms[0]} (it has more than 7 members)" in complaint(Archive, forms[0])
    assert f"{forms[1]} must have at most 7 files. Received: 8" in complaint(Archive, forms[1])
    assert f"{tar} must have at most 7 files. Received: 8" in complaint(list, members(tar))
    monkeypatch.undo()
    assert f"{tar}, unpacked, must have at most 750 bytes. Received: 800" in complaint(list, members(tar, 750))
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 750)
    assert "must have at most 750 bytes" in complaint(Archive, forms[0])


def test_large_file_in_a_folder(tmp_path):
    """A file with holes of 3 GB is refused by its size."""
    folder = write_folder(tmp_path / "folder", {"a": b""})
    with open(folder / "a", "r+b") as file:
        file.truncate(3 * GIB)
    with Archive(folder) as archive:
        assert f"a of {folder} must have at most" in refusal_within_budget(archive.read, "a")
        assert f"{budgets.TEXT_BYTES:,} bytes" in refusal_within_budget(archive.read_lines, "a")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["yes/1.wav", "./yes/1.wav", "yes//1.wav"])
def test_names_that_appear_twice(tmp_path, twin):
    """Two members of one name, in whatever spelling, are refused: nobody knows which one is meant."""
    zipped, tar = tmp_path / "a.zip", tmp_path / "a.tar"
    with zipfile.ZipFile(zipped, "w") as file:
        for name in ("yes/1.wav", twin):
            file.writestr(name, b"")
    with tarfile.open(tar, "w") as file:
        for name in ("yes/1.wav", twin):
            file.addfile(tarfile.TarInfo(name))
    for path in (zipped, tar):
        assert f"each file once. Received: yes/1.wav twice in {path}" in complaint(list, members(path))
    assert f"each file once. Received: yes/1.wav twice in {zipped}" in complaint(Archive, zipped)


def test_clips_and_batches_that_appear_twice(tmp_path):
    """One clip in two folders of an archive, one batch in two folders, one label or picture listed twice: refused."""
    sound = sound_file(np.zeros(130_000, np.int16))
    path = write_zip(tmp_path / "dev.zip", {f"{top}/ToyCar/test/normal_id_01_00000000.wav": sound for top in "ab"})
    assert "a clip must be there once" in complaint(anomaly.load, path)
    batch = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1]}, 4)
    path = write_tar(tmp_path / "cifar.tar", {f"{top}/data_batch_1": batch for top in "ab"}, mode="w")
    assert "data_batch_1 twice" in complaint(images.load, path)
    path = write_zip(tmp_path / "a.zip", {"y_labels.csv": "a,10,1\na,10,2\n", "a": bytes(3072)})
    assert "a twice" in complaint(images.load, path)
    path = write_tar(tmp_path / "vww.tar", {"person/1.jpg": b"", f"{persons.FOLDER}/person/1.jpg": b""}, mode="w")
    assert "person/1.jpg twice" in complaint(persons.load, path)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "x" * 300, ".", "./", "a\x7f"])
def test_names_that_no_file_should_have(tmp_path, name):
    """Control characters and names of more than 200 characters are refused, and shown harmless and short."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(tarfile.TarInfo(name))
    sentence = complaint(extract, path, tmp_path / "out")
    assert sentence.isprintable() and len(sentence) < 400 + len(str(path))


def test_holes_in_a_tar_file(tmp_path):
    """A sparse member, a terabyte of nothing, is refused."""
    member = tarfile.TarInfo("a")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**32
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:512]))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    assert "a file with holes" in complaint(extract, path, tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    [
        npy((10**15,)),
        npy((10**30,)),
        npy((2**62, 4)),
        npy((-1,), content=bytes(4)),
        npy((-1, -1), content=bytes(4)),
        npy((3,), content=bytes(8)),
        npy((2,), content=bytes(12)),
        npy((2, 1), content=bytes(8)),
        npy((2,), "<i4", bytes(8)),
        npy((2,), "|O", bytes(16)),
        npy((2,), [("f", "<f4")], bytes(8)),
        npy((), header="{'descr': '<f4', ("),
        npy((), header="(" * 5000),
        npy((), header="{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape2': 1}"),
        npy((), header="{'descr': '" + "(4,)" * 500 + "f4', 'fortran_order': False, 'shape': (1,)}"),
        npy((), header="__import__('os').system('true')"),
        npy((), header="\x00"),
        b"\x93NUMPY\1\0\xff\xff{",
        b"\x93NUMPY\3\0" + bytes(12),
        b"\x93NUMPY",
        b"no array",
        b"",
    ],
    ids=range(22),
)
def test_array_headers(tmp_path, content):
    """Headers of impossible shapes, other types or broken syntax, and sizes that do not fit, are refused."""
    path = write_zip(tmp_path / "a.npz", {"x.npy": content})
    sentence = refusal_within_budget(read_npz, path, ANY_FLOATS)
    assert str(path) in sentence and re.search(r"'x'|\bx must be", sentence.partition(str(path))[2])
    assert sentence.isprintable() and len(sentence) < 500 + len(str(path))


@pytest.mark.parametrize("order", "<>")
def test_characters_that_unicode_lacks(tmp_path, order):
    """A number beyond the last character would be a string that crashes Python."""
    content = npy((1,), f"{order}U2", np.array([65, 0x110000], f"{order}u4").tobytes())
    path = write_zip(tmp_path / "a.npz", {"x.npy": content})
    sentence = complaint(read_npz, path, {"x": Expected("U", (None,))})
    assert f"{path}: array 'x' in it must hold text. Received: the character number 1114112" in sentence


def test_arrays_are_read_as_numpy_does(tmp_path):
    """Every float type, either byte order and either memory order give what numpy.load gives."""
    values = np.arange(6).reshape(2, 3)
    for dtype in ("<f2", ">f4", "<f8"):
        for order in "CF":
            np.savez(tmp_path / "a.npz", x=np.asarray(values, dtype, order=order), names=np.array(["ä", "bc"]))
            found = read_npz(tmp_path / "a.npz", {"x": Expected("f", (2, None)), "names": Expected("U", (None,))})
            expected = np.load(tmp_path / "a.npz")["x"]
            np.testing.assert_array_equal(found["x"], expected)
            assert found["x"].dtype == expected.dtype and found["names"].tolist() == ["ä", "bc"]


def wav_header(sample_rate_hz=16000, channels=1, content=bytes(350_000)):
    """Return a sound file of 16-bit samples that says of itself what it is told to say."""
    block = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, sample_rate_hz, sample_rate_hz * block % 2**32, block, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def flac_of(samples):
    """Return a FLAC file of a few samples whose header claims ``samples`` of them."""
    content = bytearray(sound_file(np.zeros(4096, np.int16), kind="FLAC"))
    content[21] = (content[21] & 0xF0) | samples >> 32
    content[22:26] = struct.pack(">I", samples % 2**32)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: wav_header(1), "a sample rate from 4,000 to 192,000 Hz. Received: 1"),
        (lambda: wav_header(3999), "Received: 3,999"),
        (lambda: wav_header(2**31 - 1), "Received: 2,147,483,647"),
        (lambda: wav_header(channels=9), "at most 8 channels. Received: 9"),
        (lambda: flac_of(2**36 - 1), "at most 60 seconds. Received: 4,294,967"),
        (lambda: flac_of(61 * 16000), "at most 60 seconds. Received: 61"),
        (lambda: sound_file(np.zeros(2 * 3600 * 8000, np.int16), 8000, "FLAC"), "at most 60 seconds. Received: 7,200"),
        (
            lambda: sound_file(np.zeros((50 * 48000, 4), np.int16), 48000, "FLAC"),
            "at most 5,760,000 samples in all its channels. Received: 9,600,000",
        ),
    ],
    ids=range(8),
)
def test_sounds(content, sentence):
    """A rate of 1 Hz, two hours of silence in a few bytes and claims of 2^36 samples are refused before reading."""
    content = content()
    assert len(content) < 1e6
    found = refusal_within_budget(read_sound, content, "yes/1.wav")
    assert found.startswith("yes/1.wav must have") and sentence in found


def test_sounds_within_the_limits():
    """The limits themselves are allowed."""
    samples, rate = read_sound(wav_header(4000, 8), "a.wav")
    assert samples.shape == (350_000 // 16, 8) and rate == 4000
    assert len(read_sound(sound_file(np.zeros(60 * 8000, np.int16), 8000, "FLAC"), "a.flac")[0]) == 60 * 8000
    assert len(read_sound(sound_file(np.zeros(61 * 8000, np.int16), 8000, "FLAC"), "a.flac", 61)[0]) == 61 * 8000


def test_noise_in_all(tmp_path, monkeypatch):
    """Many recordings of background noise are too much together."""
    monkeypatch.setattr("benchmarks.keyword_spotting.clips.ALL_NOISE_SECONDS", 3)
    second = sound_file(np.zeros(16000, np.int16))
    path = write_zip(tmp_path / "a.zip", {f"_background_noise_/{n}.wav": second for n in range(4)})
    with Archive(path) as archive:
        assert f"_background_noise_ of {path} must have at most 3 seconds. Received: 4.0" in complaint(
            read_noise, archive
        )


def with_jpeg_size(content, height, width):
    """Return a JPEG whose header declares another size."""
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


def with_png_size(height, width):
    """Return a small PNG whose header declares another size."""
    content = bytearray(tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("content", [with_jpeg_size(jpeg(96, 96), 65500, 65500), with_png_size(65500, 65500)])
def test_pictures(tmp_path, content):
    """A picture that claims four thousand megapixels is refused before it is decoded, by loader and builder."""
    path = write_zip(tmp_path / "a.zip", {"person/1.jpg": content})
    with Archive(path) as archive:
        sentence = refusal_within_budget(decode_images, archive, ["person/1.jpg"], (96, 96))
    assert sentence == "person/1.jpg must have the shape (96, 96, 3). Received: (65500, 65500, 3)"
    sentence = refusal_within_budget(build.shrink, content, "photo.jpg")
    assert sentence == "photo.jpg must have at most 4,194,304 pixels. Received: 4,290,250,000"


@pytest.mark.parametrize("content", [tf.io.encode_jpeg, tf.io.encode_png])
def test_pictures_of_the_right_size_are_the_same(tmp_path, content):
    """The check of the header changes no pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    data = content(pixels).numpy()
    path = write_zip(tmp_path / "a.zip", {"a.jpg": data})
    with Archive(path) as archive:
        found = decode_images(archive, ["a.jpg"], (96, 96))
    np.testing.assert_array_equal(found[0], tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"))


@pytest.mark.parametrize("number", [b"r\xff\xff\xff\x7f", b"p2147483647\n", b"r" + struct.pack("<I", MEMO_NUMBERS)])
def test_memo_of_a_pickle(number):
    """Ten bytes of a pickle that would take 32 GB for its memo are refused."""
    assert "in the memo" in refusal_within_budget(read_pickle, b"\x80\x02]" + number + b".", "data_batch_1")


def test_objects_of_a_pickle():
    """Sixty million empty lists in as many bytes are not made."""
    content = b"(" + b"]" * 60_000_000 + b"l."
    assert "more than 262,144 operations" in refusal_within_budget(read_pickle, content, "data_batch_1")


def test_lists_of_annotations(tmp_path):
    """Eight million empty lists in 25 MB would take half a GB, and a file may have twenty times as many bytes."""
    content = b"[" + b"[]," * budgets.ANNOTATION_RECORDS + b"1]"
    file = write_folder(tmp_path / "annotations", {"instances_train2014.json": content}) / "instances_train2014.json"
    sentence = refusal_within_budget(coco.read_photos, tmp_path, coco.RULES["mlperf_tiny"])
    assert sentence == f"{file} must have at most 8,388,608 lists and objects. Received: 8,388,609"


def test_entries_of_a_zip_file(tmp_path):
    """Entries of 46 bytes, of which Python would make objects of 600, are counted first."""
    whole = zip_of(tmp_path / "a.zip", "a", b"", 0).read_bytes()
    start = whole.index(b"PK\1\2")
    entry = whole[start : whole.index(b"PK\5\6")] * (budgets.MEMBERS + 1)
    end = struct.pack("<HHHHLLH", 0, 0, 1, 1, len(entry), start, 0)
    (tmp_path / "a.zip").write_bytes(whole[:start] + entry + b"PK\5\6" + end)
    for read in (Archive, lambda path: extract(path, tmp_path / "out")):
        assert "it has more than 262144 members" in refusal_within_budget(read, tmp_path / "a.zip")


def test_long_annotations(tmp_path):
    """Annotations of COCO beyond their budget are refused unread."""
    folder = write_folder(tmp_path, {"annotations/instances_train2014.json": ""})
    with open(folder / "annotations/instances_train2014.json", "r+b") as file:
        file.truncate(3 * GIB)
    sentence = refusal_within_budget(coco.read_photos, folder, coco.RULES["mlperf_tiny"])
    assert f"at most {budgets.ANNOTATION_BYTES:,} bytes. Received: {3 * GIB:,}" in sentence


@pytest.mark.parametrize("side", [10**400, 2**17, 1e300, -1, True, "1"])
@pytest.mark.parametrize("name", ["a\x00.jpg", "\ud800.jpg", "x" * 300 + ".jpg", "a b.jpg", "٣.jpg"])
def test_numbers_and_names_in_annotations(tmp_path, side, name):
    """Sides that no photo has and names that no photo of COCO has end in one sentence."""
    photo = {"id": 0, "file_name": "COCO_train2014_000000000000.jpg", "width": 1, "height": 1}
    for change in ({"width": side}, {"file_name": name}):
        content = {"images": [photo | change], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        folder = write_folder(tmp_path, {"annotations/instances_train2014.json": json.dumps(content)})
        sentence = complaint(coco.read_photos, folder, coco.RULES["mlperf_tiny"])
        assert sentence.isprintable() and len(sentence) < 600 + len(str(tmp_path))


def test_limits_hold_what_is_published():
    """Every limit leaves room for the largest official file of its kind."""
    assert budgets.MEMBER_BYTES > 10_000 * 3074 and budgets.MEMBERS > 109_619 + 105_835
    assert budgets.ARCHIVE_BYTES > 4e9 and budgets.ARCHIVE_IN_MEMORY_BYTES / persons.OFFICIAL.size_bytes > 2
    assert budgets.ANNOTATION_RECORDS > 5 * 860_001 + 118_287
    assert budgets.ANNOTATION_BYTES > 469_785_474 and budgets.PHOTO_PIXELS > 640 * 640
    assert budgets.FEATURE_BYTES > 2 * 480 * 200 * 128 * 2 and budgets.ALL_NOISE_SECONDS > 400
    assert budgets.CLIP_SECONDS > 2 * 12 and budgets.NOISE_SECONDS > 95.2
    assert io.DEFAULT_BUFFER_SIZE < archives.LARGEST_READ_BYTES
