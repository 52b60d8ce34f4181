"""Keyword-spotting data: the official layout, background noise, sound files of every kind, generated keywords."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from refusals import complaint
from sample_files import sound_file, write_folder, write_tar, write_zip

from benchmarks.keyword_spotting import clips, data, features, official
from benchmarks.keyword_spotting.synthetic import CLIPS_PER_CLASS, synthesize
from po2quant.benchmark import load_benchmark
from po2quant.data import audio
from po2quant.training.pipeline import Pipeline

KEYWORDS = official.LABELS[:10]
SPEAKERS = {"a": "train", "c": "train", "x": "validation", "b": "test", "i": "test"}
ULPS_OF_CEPSTRA = 1e-4
"""Features of one clip in batches of other sizes differ by rounding of the matrix product; they are around 10."""


def speech(rng, samples=16000):
    return rng.uniform(0.05, 0.9) * np.clip(rng.normal(size=samples) / 4, -1, 1)


def official_files(seed=0):
    """Return the main archive: 12 words of 5 speakers (one clip is short), lists, and three seconds of two noises."""
    rng = np.random.default_rng(seed)
    words = [f"{word}/{speaker}_nohash_0.wav" for word in (*KEYWORDS, "bed", "cat") for speaker in SPEAKERS]
    files = {name: sound_file(speech(rng, 12000 if name.startswith("go/") else 16000)) for name in words}
    files |= {
        f"_background_noise_/{name}.wav": sound_file(speech(rng, 48000)) for name in ("running_tap", "white_noise")
    }
    for part, name in zip(("validation", "test"), official.LISTS, strict=True):
        files[name] = "\n".join(word for word in words if SPEAKERS[word.split("/")[1][0]] == part)
    return files | {"_background_noise_/README.md": "noise", "README.md": "words", "LICENSE": "CC BY"}


def files_of_the_test_set():
    """Return the test archive: two clips of every class."""
    rng = np.random.default_rng(9)
    return {f"{folder}/{n}.wav": sound_file(speech(rng)) for folder in official.CLASS_FOLDERS for n in range(2)}


def subset_files():
    """Return the files of a small subset: a training, a validation and a test clip of every class, and the lists."""
    rng = np.random.default_rng(0)
    names = [f"{folder}/{n}.wav" for folder in official.CLASS_FOLDERS for n in range(3)]
    files = {name: sound_file(speech(rng)) for name in names}
    return files | {list_name: "\n".join(names[n::3]) for n, list_name in enumerate(official.LISTS, start=1)}


@pytest.fixture
def folder(tmp_path):
    """A data folder with both official archives, extracted."""
    write_folder(tmp_path / official.FOLDER, official_files())
    write_folder(tmp_path / official.TEST_FOLDER, files_of_the_test_set())
    return tmp_path


def counts(split):
    return np.bincount(split.y, minlength=12).tolist()


def test_hash_rule():
    """27 bits of SHA-1 decide; abc's is a9993e36...9cd0d89d, so 0x4d0d89d of 2**27: 60 %."""
    parts = {"yes/abc_nohash_1.wav": 0, "a/p_nohash_0.wav": 1, "t_nohash_12.wav": 1, "no/b_nohash_0.wav": 2}
    assert {name: official.part_by_hash(name) for name in parts} == parts
    assert official.part_by_hash("off/i_nohash_3.wav") == official.TEST
    shares = np.bincount([official.part_by_hash(f"yes/{n}_nohash_0.wav") for n in range(20000)]) / 20000
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.01)


def test_hash_rule_agrees_with_the_official_test_set(shared):
    """The 3169 keyword clips of the subset all come from the official test split."""
    subset = zipfile.ZipFile(shared(f"data/{data.SUBSET}"))
    names = [name for name in subset.namelist() if name.partition("/")[0] in KEYWORDS]
    assert len(names) == 3169 and {official.part_by_hash(name) for name in names} == {official.TEST}


def test_official_layout(folder):
    dataset = data.load(folder)
    assert dataset.describe() == "Speech Commands V2 (subset: 28 train, 16 validation, 24 test)"
    assert counts(dataset.train) == [2] * 10 + [4, 4]
    assert counts(dataset.validation) == [1] * 10 + [4, 2]
    assert counts(dataset.test) == [2] * 12
    assert dataset.train.x.shape == (28, 49, 10, 1) and dataset.train.x.dtype == np.float32
    assert dataset.validation.augmented is dataset.test.augmented is None
    seen = [{x.tobytes() for x in split.x} for split in (dataset.train, dataset.validation, dataset.test)]
    assert len(set.union(*seen)) == 28 + 16 + 24, "no clip is in two splits"


def test_official_counts():
    """The kind is official only if all clips are there."""
    whole = clips.LabelledClips(Path(), [clips.Clip("a")] * 4890, np.zeros(4890, np.int32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips.LabelledClips, "features", lambda part: np.zeros((len(part.clips), 49, 10, 1), np.float32))
        patch.setattr(clips.LabelledClips, "digest", lambda part: "0")
        patch.setattr(data, "cached", lambda folder, key, expected, make: make())
        assert data._dataset("all", [whole]).kind == "official"
        assert data._dataset("all", [whole[np.arange(4889)]]).kind == "subset"


def test_silence_is_cut_from_noise():
    """A second every half second, as tensorflow_datasets cuts: the last full second is left out."""
    noise = {"_background_noise_/running_tap.wav": np.zeros(48000), "_background_noise_/a.wav": np.zeros(48001)}
    assert [clip.begin for clip in official.silences(noise, validation=True)] == [0, 8000, 16000, 24000]
    assert [clip.begin for clip in official.silences(noise, validation=False)] == [0, 8000, 16000, 24000, 32000]


def test_lists_absent(folder):
    """Without lists the hash rule decides, which gives the same splits here as in the official lists."""
    fingerprint = data.load(folder).fingerprint()
    for name in official.LISTS:
        (folder / official.FOLDER / name).unlink()
    assert data.load(folder).fingerprint() == fingerprint


def test_without_the_test_archive(folder):
    """The clips of testing_list.txt test, with a tenth of unknown words and silence of the second half."""
    dataset = data.load(folder / official.FOLDER)
    assert dataset.name == "Speech Commands V2 without speech_commands_test_set_v0.02"
    assert counts(dataset.train) == [2] * 10 + [4, 4]
    assert counts(dataset.validation) == [1] * 10 + [2, 2] and counts(dataset.test) == [2] * 10 + [1, 2]


def test_test_archive_alone(folder):
    dataset = data.load(folder / official.TEST_FOLDER)
    assert dataset.describe() == "Speech Commands V2 test set (subset: 24 test)" and dataset.train is None


def test_seed_orders_training(folder):
    first, other = data.load(folder, 0), data.load(folder, 1)
    assert first.fingerprint() == data.load(folder, 0).fingerprint() != other.fingerprint()
    assert {x.tobytes() for x in first.train.x} == {x.tobytes() for x in other.train.x}
    np.testing.assert_array_equal(first.test.x, other.test.x)


def test_features_are_kept(folder, monkeypatch):
    """A second load reads no clip; a changed clip is read again."""
    fingerprint, read = data.load(folder).fingerprint(), []
    of_batches = clips.LabelledClips.batches
    monkeypatch.setattr(clips.LabelledClips, "batches", lambda part: read.append(part) or of_batches(part))
    assert data.load(folder).fingerprint() == fingerprint and not read
    (folder / official.FOLDER / "yes/a_nohash_0.wav").write_bytes(sound_file(speech(np.random.default_rng(5), 15000)))
    assert data.load(folder).fingerprint() != fingerprint and len(read) == 1


def test_download(tmp_path, monkeypatch):
    """Both archives are extracted, once; one that is cut short leaves nothing."""
    asked = []
    contents = {official.FOLDER: official_files(), official.TEST_FOLDER: files_of_the_test_set()}

    def fetch(source, folder):
        asked.append(source.name)
        files = {"yes/": ""} | contents[source.name.removesuffix(".tar.gz")]
        return write_tar(folder / source.name, files, top="./")  # as the official ones are, folders included

    monkeypatch.setattr(official, "fetch", fetch)
    load_benchmark("keyword_spotting").download(tmp_path)
    assert data.load(tmp_path).describe().endswith("28 train, 16 validation, 24 test)")
    official.download(tmp_path)
    assert asked == [f"{official.FOLDER}.tar.gz", f"{official.TEST_FOLDER}.tar.gz"]

    def fetch_half(source, folder):
        path = fetch(source, folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    monkeypatch.setattr(official, "fetch", fetch_half)
    (empty := tmp_path / "empty").mkdir()
    assert official.FOLDER in complaint(official.download, empty)
    assert [path.name for path in empty.iterdir()] == [f"{official.FOLDER}.tar.gz"]
    assert "none of them" in complaint(data.load, empty)


def test_sources():
    assert set(official.SOURCES) == {official.FOLDER, official.TEST_FOLDER}
    for name, source in official.SOURCES.items():
        assert source.url == f"https://storage.googleapis.com/download.tensorflow.org/data/{name}.tar.gz"
        assert source.name == f"{name}.tar.gz"
        assert re.fullmatch("sha256:[0-9a-f]{64}", source.digest)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({f"yes/{speaker}_nohash_0.wav": None for speaker in SPEAKERS}, "yes must hold .wav files"),
        ({f"{w}/{s}_nohash_0.wav": None for w in ("bed", "cat") for s in SPEAKERS}, "beside the ten keywords"),
        ({"_background_noise_/running_tap.wav": None}, "_background_noise_ must hold running_tap and other"),
        ({"_background_noise_/white_noise.wav": None}, "_background_noise_ must hold running_tap and other"),
        ({"_background_noise_/white_noise.wav": sound_file(np.zeros(16000))}, "of more than a second"),
        ({"_background_noise_/white_noise.wav": sound_file(np.zeros(0))}, "white_noise.wav must hold finite"),
        ({"yes/a_nohash_0.wav": b""}, "yes/a_nohash_0.wav must be a complete sound file"),
        ({"yes/a_nohash_0.wav": b"words" * 1000}, "yes/a_nohash_0.wav must be a complete sound file"),
        ({"yes/a_nohash_0.wav": sound_file(np.zeros(0))}, "Received: no samples"),
        ({"yes/a_nohash_0.wav": sound_file(np.full(9, np.nan), subtype="FLOAT")}, "Received: NaN or infinity"),
        ({"testing_list.txt": "yes/nobody.wav"}, "testing_list.txt must list files"),
        ({"testing_list.txt": None}, "must hold testing_list.txt"),
        ({"testing_list.txt": "yes/x_nohash_0.wav"}, "in one list at most"),
    ],
)
def test_broken_official_folder(tmp_path, change, sentence):
    write_folder(tmp_path / official.FOLDER, official_files() | change)
    write_folder(tmp_path / official.TEST_FOLDER, files_of_the_test_set())
    assert sentence in complaint(data.load, tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"yes/0.wav": b"RIFF"}, "yes/0.wav must be a complete sound file"),
        ({"yes/0.wav": sound_file(np.full(9, np.nan), subtype="FLOAT")}, "yes/0.wav must hold finite"),
        ({"yes/0.wav": sound_file(np.zeros(0))}, "no samples"),
        ({"validation_list.txt": "yes/2.wav"}, "one list"),
        ({f"yes/{n}.wav": None for n in range(3)}, "yes must hold .ogg files"),
        ({"testing_list.txt": None, "y_labels.csv": "a.bin,10,3"}, "file,12,label"),
        ({"testing_list.txt": None, "y_labels.csv": "yes/0.wav,12,3"}, "490 bytes"),
    ],
)
def test_broken_subset(tmp_path, change, sentence):
    """Damaged, NaN or empty clips, wrong lists, missing classes and wrong labels are refused."""
    write_zip(tmp_path / data.SUBSET, subset_files() | change)
    assert sentence in complaint(data.load, tmp_path)


@pytest.mark.parametrize("validation", [None, ""])
def test_an_archive_whose_clips_all_test_has_a_test_split_alone(tmp_path, validation):
    files = subset_files()
    clips = "\n".join(name for name in files if name not in official.LISTS)
    lists = {"testing_list.txt": clips, "validation_list.txt": validation}
    dataset = data.load(write_zip(tmp_path / data.SUBSET, files | lists))
    assert dataset.train is None and dataset.validation is None
    assert dataset.describe() == "Speech Commands V2, test clips alone (subset: 36 test)"


def test_noise_archive_alone(tmp_path):
    path = write_zip(tmp_path / data.NOISE, {"_background_noise_/a.wav": sound_file(np.zeros(20000))})
    assert "down must hold .wav files" in complaint(data.load, path)
    assert "must have" in complaint(data.load, tmp_path)


@pytest.fixture
def recordings():
    """Noise that tells its place: sample n of recording r is 1000 r + n / 40."""
    return [(1000 * r + np.arange(length) / 40).astype(np.int16) for r, length in enumerate((16000, 40000, 100))]


def test_random_seconds(recordings):
    which, where = np.float32([0, 0.34, 0.34, 0.66, 0.999]), np.float32([0.999, 0, 1 - 2**-24, 0.5, 0.7])
    seconds = features.random_seconds(recordings)(tf.constant(which), tf.constant(where)).numpy() * 32768
    np.testing.assert_array_equal(seconds[0], recordings[0])
    np.testing.assert_array_equal(seconds[1], recordings[1][:16000])
    np.testing.assert_array_equal(seconds[2], recordings[1][-16000:])
    np.testing.assert_array_equal(seconds[3], recordings[1][12000:28000])
    np.testing.assert_array_equal(seconds[4], np.pad(recordings[2], (0, 15900)))


def test_mixing(recordings, monkeypatch):
    """The clip has its largest sample at 1, the noise at most a tenth of its own scale, the sum stays in -1..1."""
    monkeypatch.setattr(features, "cepstra", lambda sound: sound)
    sound = np.random.default_rng(0).integers(-20000, 9000, (400, 16000)).astype(np.int16)
    samples = tf.range(400, dtype=tf.int64)
    mixed = features.noisy_features(lambda: sound, recordings[1:2])(samples, tf.constant([3, 4]))[..., 0].numpy()
    clean = sound / sound.max(axis=1, keepdims=True, initial=0)
    noisy = np.abs(mixed - clean).max(axis=1) > 1e-6
    assert 0.7 < noisy.mean() < 0.9
    np.testing.assert_array_equal(mixed[~noisy], clean[~noisy].astype(np.float32))
    assert mixed[noisy].min() == -1.0 and mixed[noisy].max() <= 1.0
    added = np.where(np.abs(mixed) < 1, mixed - clean, 0)[noisy] * 32768
    assert (added > -1e-2).all() and 0 < added.max() <= 0.1 * recordings[1].max() + 1e-2
    assert added.max() > 0.09 * 900, "some noise is near its largest volume"


@pytest.mark.parametrize("options", [{"largest_volume": 0.0}, {"probability": 0.0}])
def test_no_noise_gives_the_clean_features(recordings, options):
    sound = np.random.default_rng(0).integers(-20000, 9000, (30, 16000)).astype(np.int16)
    augmented = tf.function(features.noisy_features(lambda: sound, recordings, **options))
    samples = np.random.default_rng(1).permutation(30)[:20]
    changed = augmented(tf.constant(samples), tf.constant([1, 2]))
    np.testing.assert_allclose(changed[..., 0], features.mfcc(sound)[samples], atol=ULPS_OF_CEPSTRA)


def test_noise_in_training(folder):
    """Batches are the same for a seed and epoch, others for another, and belong to their samples."""
    train = data.load(folder).train
    pipeline = Pipeline(train)
    first, again, later = (list(pipeline.epoch(10, 0, epoch).as_numpy_iterator()) for epoch in (1, 1, 2))
    for (x, y), (x_again, y_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert first[0][0].shape == (10, 49, 10, 1) and not np.array_equal(first[0][0], later[0][0])
    samples = tf.range(len(train), dtype=tf.int64)
    changed = [train.augmented(samples, tf.constant([seed, 0])).numpy() for seed in range(8)]
    nearest = np.min([np.abs(x - train.x).max(axis=(1, 2, 3)) for x in changed], axis=0)
    assert (nearest < ULPS_OF_CEPSTRA).mean() > 0.5, "left alone once in eight times, with probability 0.83"


def test_noise_beside_the_subset(tmp_path):
    """Noise is used where --data-dir holds it, not from beside the file that --data-dir names."""
    files = subset_files()
    noise = {"_background_noise_/a.wav": sound_file(speech(np.random.default_rng(1), 30000))}
    write_zip(tmp_path / data.SUBSET, files)
    write_zip(tmp_path / data.NOISE, noise)
    alone, together = data.load(tmp_path / data.SUBSET), data.load(tmp_path)
    assert alone.train.augmented is None and together.train.augmented is not None
    assert alone.fingerprint() == together.fingerprint() and not list(tmp_path.glob(".*")), "a zip keeps no features"
    (tmp_path / data.NOISE).unlink()
    assert data.load(tmp_path).train.augmented is None
    inside = data.load(write_folder(tmp_path / "extracted", files | noise))
    assert inside.train.augmented is not None and inside.fingerprint() == alone.fingerprint()


def test_real_noise(shared):
    """The real subset with the real recordings: features change little, and by noise alone."""
    noise = clips.read_noise(clips.Archive(shared(f"data/{data.NOISE}")))
    assert {len(sound) for sound in noise.values()} == {480000} and len(noise) == 6
    part = official.clips_by_class(shared(f"data/{data.SUBSET}"))[np.arange(0, 3772, 40)]
    augmented = features.noisy_features(part.sound, list(noise.values()))
    changed = augmented(tf.range(len(part.clips), dtype=tf.int64), tf.constant([0, 0])).numpy()
    assert np.isfinite(changed).all()
    difference = np.abs(changed - part.features()).mean(axis=(1, 2, 3))
    assert 0.1 < (difference < ULPS_OF_CEPSTRA).mean() < 0.35 and 0.05 < np.median(difference) < 5


def test_stereo_at_44100_hz():
    """A stereo clip at 44.1 kHz has the features of the same sound in mono at 16 kHz."""
    both = []
    for rate in (44100, 16000):
        time = np.arange(rate) / rate
        both.append(sum(np.sin(2 * np.pi * (f + 100 * time) * time) / 8 for f in range(200, 3400, 400)))
    stereo = clips.read_recording(sound_file(np.stack([both[0], 0 * both[0]], axis=1), 44100), "stereo.wav")
    mono = clips.read_recording(sound_file(both[1] / 2), "mono.wav")
    assert stereo.shape == mono.shape == (16000,)
    np.testing.assert_allclose(stereo[500:-500], mono[500:-500], atol=33)  # 0.001 of full scale
    assert np.abs(features.mfcc(stereo) - features.mfcc(mono)).mean() < 0.1


def test_pcm_is_read_exactly():
    levels = np.int16([-32768, -1, 0, 1, 32767])
    np.testing.assert_array_equal(clips.read_recording(sound_file(levels), "a.wav"), levels)
    np.testing.assert_array_equal(clips.read_recording(sound_file(levels, kind="FLAC"), "a.flac"), levels)
    loud = clips.read_recording(sound_file(np.array([2.0, -2.0]), subtype="FLOAT"), "a.wav")
    np.testing.assert_array_equal(loud, [32767, -32768])


def test_mp3():
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    samples, sample_rate_hz = audio.read_sound(sound_file(tone, kind="MP3", subtype="MPEG_LAYER_III"), "tone.mp3")
    assert sample_rate_hz == 16000 and samples.shape[1] == 1 and 0.9 < np.abs(samples[2000:10000]).max() < 1.1


@pytest.mark.filterwarnings("ignore:Couldn't find ffmpeg")
def test_containers_need_ffmpeg(monkeypatch):
    """What soundfile cannot read is read by pydub, where ffmpeg is."""
    import pydub

    monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    assert "reading a.m4a needs ffmpeg" in complaint(audio.read_sound, b"mp4", "a.m4a")
    monkeypatch.setattr(audio.shutil, "which", lambda program: program)
    raw = np.int16([[100, -200], [16384, -32768]])
    header = {"streams": [{"codec_type": "audio", "channels": 2, "sample_rate": "22050"}]}
    monkeypatch.setattr(pydub.utils, "mediainfo_json", lambda file: header)
    segment = pydub.AudioSegment(raw.tobytes(), frame_rate=22050, sample_width=2, channels=2)
    monkeypatch.setattr(pydub.AudioSegment, "from_file", lambda file, kind, duration: segment)
    samples, sample_rate_hz = audio.read_sound(b"mp4", "a.m4a")
    np.testing.assert_array_equal(samples, raw / np.float32(32768))
    assert sample_rate_hz == 22050 and samples.dtype == np.float32

    def fail(file, kind, duration):
        raise pydub.exceptions.CouldntDecodeError("Decoding failed.\n\nOutput:\n\nmoov atom not found\n")

    monkeypatch.setattr(pydub.AudioSegment, "from_file", fail)
    assert complaint(audio.read_sound, b"mp4", "a.m4a").endswith("Received: moov atom not found")


@pytest.mark.slow
def test_generated_keywords():
    """Right shapes, disjoint splits, the same for a seed, and classes that their mean features tell apart."""
    dataset = load_benchmark("keyword_spotting").synthesize(0)
    assert dataset.kind == "synthetic" and dataset.name.startswith("synthetic ")
    assert dataset.fingerprint() == synthesize(0).fingerprint() != synthesize(1).fingerprint()
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, split in splits.items():
        assert split.x.shape[1:] == (49, 10, 1) and split.x.dtype == np.float32 and split.y.dtype == np.int32
        assert counts(split) == [CLIPS_PER_CLASS[part]] * 12
    assert len({x.tobytes() for split in splits.values() for x in split.x}) == sum(map(len, splits.values()))
    x, y = dataset.train.inputs(), dataset.train.y
    means = np.stack([x[y == label].mean(axis=0) for label in range(12)])
    nearest = np.square(dataset.test.x[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == dataset.test.y) > 0.5
    changed = dataset.train.augmented(tf.range(16, dtype=tf.int64), tf.constant([0, 1]))
    assert changed.shape == (16, 49, 10, 1) and changed.dtype == tf.float32
