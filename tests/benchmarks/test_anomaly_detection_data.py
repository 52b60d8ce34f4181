"""Machine sounds in DCASE form, their features against official ones, splits, scores, downloads and broken files."""

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import librosa
import numpy as np
import pytest
from refusals import complaint
from sample_files import sound_file, write_folder, write_zip

from benchmarks.anomaly_detection import BENCHMARK, features, recordings, score
from benchmarks.anomaly_detection import data as anomaly
from benchmarks.anomaly_detection.fixed import fixed_log_mel
from benchmarks.anomaly_detection.synthetic import FAULTS, machine_sound
from benchmarks.shared.cache import CACHE_FOLDER
from benchmarks.shared.download import Source
from po2quant.benchmark import Split
from po2quant.export.features.fixed import run_features
from po2quant.fixed_point import FixedPointFormat

LEAST_SAMPLES = features.LEAST_SAMPLES
FLOAT16_STEPS = 1  # librosa returns the official features to 6e-6, which can round to the neighbour


def wav(seed=0, samples=LEAST_SAMPLES):
    """Return a short file of noise."""
    return sound_file(np.random.default_rng(seed).normal(0, 0.1, samples))


def machine_files(machine_type="ToyCar"):
    """Return a tiny development set: four normal clips of each of two machines to train, three clips to test."""
    train = [f"train/normal_id_0{machine}_0000000{n}" for machine in (1, 2) for n in range(4)]
    kinds = ("normal_id_0{}_00000000", "normal_id_0{}_00000001", "anomaly_id_0{}_00000000")
    test = [f"test/{kind.format(machine)}" for machine in (1, 2) for kind in kinds]
    return {f"{machine_type}/{name}.wav": wav(seed) for seed, name in enumerate(train + test)}


def additional_files(machine_type="ToyCar"):
    """Return a tiny additional training set: four normal clips of one machine."""
    return {f"{machine_type}/train/normal_id_05_0000000{n}.wav": wav(100 + n) for n in range(4)}


def feature_arrays(machines=(1, 2), kinds=("normal", "anomaly"), seed=0):
    """Return the arrays of a tiny feature file: three clips of each machine and kind."""
    names = np.array([f"{kind}_id_0{m}_0000000{n}" for m in machines for kind in kinds for n in range(3)])
    rng = np.random.default_rng(seed)
    return {"names": names, "log_mel_db": rng.normal(size=(len(names), 200, 128)).astype(np.float16)}


def rows(split):
    """Return the windows of a split as a set."""
    return {row.tobytes() for row in split.x.reshape(-1, split.x.shape[-1])}


@pytest.mark.parametrize(
    ("member", "file"),
    [
        ("ToyCar/test/anomaly_id_01_00000000.wav", "ad_toycar_test.npz"),
        ("ToyCar/test/normal_id_01_00000000.wav", "ad_toycar_train.npz"),
    ],
)
def test_features_against_official_ones(shared, member, file):
    """Sound files give the official features back."""
    with zipfile.ZipFile(shared("data/ad_wavs.zip")) as archive:
        log_mel_db = recordings.clip_features(archive.read(member), member)
    official = np.load(shared(f"data/{file}"))
    expected = official["log_mel_db"][official["names"] == Path(member).stem][0]
    assert log_mel_db.dtype == expected.dtype == np.float16
    np.testing.assert_array_max_ulp(log_mel_db, expected, FLOAT16_STEPS, np.float16)
    assert np.mean(log_mel_db == expected) > 0.999


def test_features_formula():
    """The features are the baseline's formula on frames 50 to 250, and silence is finite."""
    sound = np.random.default_rng(0).normal(0, 0.1, LEAST_SAMPLES).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 512), 1024)[::512][50:250]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    expected = 20 / 2.0 * np.log10(power @ librosa.filters.mel(sr=16000, n_fft=1024).T + sys.float_info.epsilon)
    np.testing.assert_allclose(features.log_mel_db(sound), expected, atol=1e-4)
    np.testing.assert_allclose(features.log_mel_db(0 * sound), -156.54, atol=0.01)


def test_join_frames():
    """A window is five consecutive frames in time order, in the stored type and not copied."""
    frames = np.arange(2 * 7 * 3, dtype=np.float16).reshape(2, 7, 3)
    windows = features.join_frames(frames)
    assert windows.shape == (2, 3, 15) and windows.dtype == np.float16 and np.shares_memory(windows, frames)
    np.testing.assert_array_equal(windows[0, 0], np.arange(15))
    np.testing.assert_array_equal(windows[1, 2], np.concatenate([frames[1, t] for t in range(2, 7)]))


def test_shared_features(shared):
    """Windows to train on, whole clips of four machines to test, no window in two splits."""
    shared("data/ad_toycar_train.npz")
    dataset = anomaly.load(shared("data/ad_toycar_test.npz"))
    assert dataset.train.x.shape == (288 * 196, 640) and dataset.validation.x.shape == (32 * 196, 640)
    assert dataset.train.y is None and dataset.train.x.dtype == dataset.test.x.dtype == np.float16
    assert not rows(dataset.train) & rows(dataset.validation)
    assert dataset.test.x.shape == (480, 196, 640) and dataset.test.inputs(slice(2)).dtype == np.float32
    assert np.unique(dataset.test.groups).tolist() == ["id_01", "id_02", "id_03", "id_04"]
    for machine in np.unique(dataset.test.groups):
        assert np.bincount(dataset.test.y[dataset.test.groups == machine]).tolist() == [60, 60]


def test_shared_fans(shared, tmp_path):
    """Ten-second clips of another machine load; the incomplete ToyCar beside them is left out."""
    dataset = anomaly.load(shutil.copy(shared("data/ad_wavs.zip"), tmp_path))  # no cache in the shared folder
    assert dataset.describe() == "DCASE 2020 fan (subset: 588 train, 196 validation, 6 test)"
    assert sorted(dataset.test.y) == [0, 0, 0, 1, 1, 1] and set(dataset.test.groups) == {"id_00"}


@pytest.mark.slow
def test_all_forms_are_equal(tmp_path, monkeypatch):
    """Zipped or extracted, apart or merged, with or without a cache: the same data."""
    monkeypatch.setitem(anomaly.OFFICIAL_CLIPS, "ToyCar", ((8, 6), (12, 6)))
    development, additional = machine_files(), additional_files()
    zips, folders, merged = tmp_path / "zips", tmp_path / "folders", tmp_path / "merged"
    zipped = write_zip(zips / "dev_data_ToyCar.zip", development)
    write_zip(zips / "eval_data_train_ToyCar.zip", additional)
    write_folder(folders / "dev_data_ToyCar", development)
    write_folder(folders / "eval_data_train_ToyCar", additional)
    write_folder(merged, development | additional)
    write_folder(tmp_path / "baseline" / "dev_data", development)
    write_folder(tmp_path / "baseline" / "eval_data", additional | {"ToyCar/test/id_05_00000000.wav": b"unlabelled"})
    forms = [zips, zipped, folders, folders / "dev_data_ToyCar", merged, merged / "ToyCar", tmp_path / "baseline"]
    datasets = [anomaly.load(form) for form in [*forms, zips]]
    assert {dataset.fingerprint() for dataset in datasets} == {datasets[0].fingerprint()}
    assert datasets[0].describe() == "DCASE 2020 ToyCar (official: 2156 train, 196 validation, 6 test)"
    (zips / "eval_data_train_ToyCar.zip").unlink()
    assert anomaly.load(zips).describe() == "DCASE 2020 ToyCar (official: 1372 train, 196 validation, 6 test)"


def test_windows_of_sound_files(tmp_path):
    """Test clips carry their own windows and labels; the seed decides the validation clips alone."""
    files = machine_files()
    path = write_zip(tmp_path / "dev_data_ToyCar.zip", files)
    first, other = anomaly.load(path, 0), anomaly.load(path, 1)
    assert first.kind == "subset" and first.train.y is None and first.train.x.dtype == np.float16
    assert rows(first.validation) != rows(other.validation) and not rows(first.train) & rows(first.validation)
    np.testing.assert_array_equal(first.test.x, other.test.x)
    clip = recordings.clip_features(files["ToyCar/test/anomaly_id_02_00000000.wav"], "clip")
    sample = int(np.flatnonzero((first.test.groups == "id_02") & (first.test.y == 1))[0])
    np.testing.assert_array_equal(first.test.x[sample], features.join_frames(clip[None])[0])
    assert all(
        sum(label == (machine, kind) for label in zip(first.test.groups, first.test.y, strict=True)) == count
        for machine in ("id_01", "id_02")
        for kind, count in ((0, 2), (1, 1))
    )


def test_cache(tmp_path, monkeypatch):
    """Features are kept, and made anew where a file changes or the cache is damaged."""
    folder = write_folder(tmp_path / "data", machine_files())
    before = anomaly.load(folder).fingerprint()
    (cache,) = (folder / CACHE_FOLDER).iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(anomaly, "read_features", None)
        assert anomaly.load(folder).fingerprint() == before
    cache.write_bytes(cache.read_bytes()[:1000])
    assert anomaly.load(folder).fingerprint() == before
    (folder / "ToyCar/train/normal_id_01_00000000.wav").write_bytes(wav(9, LEAST_SAMPLES + 1))
    assert anomaly.load(folder).fingerprint() != before


@pytest.mark.slow
def test_machine_types(tmp_path):
    """ToyCar is preferred; otherwise the folder must hold one machine type, of any name."""
    write_folder(tmp_path, machine_files("gearbox"))
    assert anomaly.load(tmp_path).name == anomaly.load(tmp_path / "gearbox").name == "gearbox"
    write_folder(tmp_path, machine_files("pump"))
    assert "must name one machine type" in complaint(anomaly.load, tmp_path)
    assert anomaly.load(tmp_path / "pump").name == "DCASE 2020 pump"
    write_folder(tmp_path, machine_files("ToyCar"))
    assert anomaly.load(tmp_path).name == "DCASE 2020 ToyCar"


def test_stereo_at_44100_hz():
    """A stereo clip at 44.1 kHz gives the features of its mean at 16 kHz."""
    tone, slow = (
        np.sin(2 * np.pi * 440 * np.arange(9 * rate) / rate).astype(np.float32) / 2 for rate in (44100, 16000)
    )
    stereo = sound_file(np.stack([tone, 0 * tone], axis=1), 44100, subtype="FLOAT")
    loud = features.log_mel_db(slow / 2) > 0
    found = recordings.clip_features(stereo, "tone.wav")
    np.testing.assert_allclose(found[loud], features.log_mel_db(slow / 2)[loud], atol=0.1)


def test_test_recordings_alone_are_a_test_split(tmp_path):
    whole = anomaly.load(write_zip(tmp_path / "dev_data_ToyCar.zip", machine_files()))
    without_train = {name: None for name in machine_files() if "/train/" in name}
    alone = anomaly.load(write_zip(tmp_path / "alone" / "dev_data_ToyCar.zip", machine_files() | without_train))
    assert alone.train is None and alone.validation is None and "test recordings alone" in alone.describe()
    np.testing.assert_array_equal(alone.test.x, whole.test.x)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ToyCar/train/normal_id_01_00000000.wav": wav()[:100000]}, "normal_id_01_00000000.wav must have 127488"),
        ({"ToyCar/train/normal_id_01_00000000.wav": b"RIFF"}, "normal_id_01_00000000.wav must be a complete sound"),
        ({"ToyCar/train/normal_id_01_00000000.wav": b""}, "normal_id_01_00000000.wav must be a complete sound"),
        (
            {"ToyCar/test/normal_id_01_00000000.wav": wav(samples=LEAST_SAMPLES - 1)},
            "must have 127488 samples or more at 16 kHz. Received: 127487 (7.97 s)",
        ),
        ({"ToyCar/train/anomaly_id_01_00000000.wav": wav()}, "anomaly_id_01_00000000 among"),
        ({"ToyCar/train/car.wav": wav()}, "a clip name must be like normal_id_01_00000000. Received: car in"),
        ({"ToyCar/test/section_00_target.wav": wav()}, "Received: section_00_target in"),
        ({name: None for name in machine_files() if "/test/" in name}, "without ToyCar/test"),
        (
            {"ToyCar/test/anomaly_id_02_00000000.wav": None},
            "clips of machine id_02 must be normal and anomalous ones. Received: 2 normal and 0 anomalous",
        ),
        ({"../evil.wav": b""}, "../evil.wav"),
    ],
)
def test_broken_recordings(tmp_path, change, sentence):
    """Short, damaged, misnamed, misplaced or missing clips are refused, and nothing is kept of them."""
    path = write_zip(tmp_path / "dev_data_ToyCar.zip", machine_files() | change)
    assert sentence in complaint(anomaly.load, path)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "must hold finite"), (1e30, "must be sound in -1..1")])
def test_samples_that_are_no_sound(value, sentence):
    """NaN samples are refused, and samples without features in range."""
    sound = np.zeros(LEAST_SAMPLES, np.float32)
    sound[60000:60100] = value
    assert sentence in complaint(recordings.clip_features, sound_file(sound, subtype="FLOAT"), "clip.wav")


def test_broken_archives(tmp_path):
    """Truncated, empty and foreign archives, and a folder without clips, are refused."""
    path = write_zip(tmp_path / "dev_data_ToyCar.zip", machine_files())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for form in (path, tmp_path):
        assert "must be a complete zip file" in complaint(anomaly.load, form)
    assert "which is empty" in complaint(anomaly.load, write_zip(path, {}))
    assert "must have dev_data_ToyCar.zip" in complaint(anomaly.load, write_zip(path, {"a.txt": "a"}))
    path.unlink()
    assert "must have" in complaint(anomaly.load, tmp_path)
    alone = write_zip(tmp_path / "eval_data_train_ToyCar.zip", additional_files())
    assert "without ToyCar/test" in complaint(anomaly.load, alone)
    (tmp_path / "ToyCar" / "train").mkdir(parents=True)
    assert "must have" in complaint(anomaly.load, tmp_path / "ToyCar")


def test_feature_file_forms(tmp_path):
    """Each of the two files finds the other; the train file alone is refused, and so is an anomaly in it."""
    test_file, train_file = tmp_path / anomaly.TEST_FILE, tmp_path / anomaly.TRAIN_FILE
    np.savez(train_file, **feature_arrays(kinds=("normal",)))
    assert "ad_toycar_test.npz must be beside" in complaint(anomaly.load, train_file)
    np.savez(test_file, **feature_arrays(seed=1))
    for path in (tmp_path, train_file, test_file):
        assert anomaly.load(path).describe().endswith("(subset: 980 train, 196 validation, 12 test)")
    np.savez(train_file, **feature_arrays())
    assert "training clips must be normal. Received: anomaly_id_01_00000000" in complaint(anomaly.load, tmp_path)
    train_file.unlink()
    assert anomaly.load(test_file).train is None and sorted(anomaly.load(tmp_path).test.y) == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"log_mel_db": None}, "without log_mel_db"),
        ({"log_mel_db": np.full((12, 200, 128), np.nan)}, "NaN or infinity in normal_id_01_00000000"),
        ({"log_mel_db": np.zeros((12, 199, 128))}, r"(12, 199, 128)"),
        ({"names": np.array(["normal"] * 12)}, "clip name must be like"),
        ({"names": np.array("normal_id_01_00000000")}, "names must be text of the shape (any)"),
        ({"names": np.array([{}] * 12)}, "array 'names' in it must hold numbers or text. Received: dtype=object"),
        (
            {"names": np.array([f"normal_id_03_{n:08}" for n in range(12)])},
            "machine id_03 must be normal and anomalous",
        ),
        ({"names": np.array(["normal_id_03_00000000"] * 12)}, "normal_id_03_00000000 twice in"),
    ],
)
def test_broken_feature_file(tmp_path, change, sentence):
    """Missing, non-finite, misshapen, misnamed, pickled or one-sided arrays are refused."""
    arrays = {key: value for key, value in (feature_arrays() | change).items() if value is not None}
    np.savez(tmp_path / anomaly.TEST_FILE, **arrays)
    assert sentence in complaint(anomaly.load, tmp_path)


def published(archive, name, digest=None):
    """Return a source that stands on this disk."""
    content = archive.read_bytes()
    return Source(archive.as_uri(), name, len(content), digest or f"sha256:{hashlib.sha256(content).hexdigest()}")


def test_download(tmp_path, monkeypatch):
    """Both archives are fetched, checked and extracted once; what is there already stays."""
    archives = {
        "normal_id_01_00000000": write_zip(tmp_path / "web" / "dev_data_ToyCar.zip", machine_files()),
        "normal_id_05_00000000": write_zip(tmp_path / "web" / "eval_data_train_ToyCar.zip", additional_files()),
    }
    sources = {clip: published(archive, archive.name) for clip, archive in archives.items()}
    monkeypatch.setattr(anomaly, "SOURCES", sources)
    folder = tmp_path / "data" / "anomaly_detection"
    BENCHMARK.download(folder)
    names = ["dev_data_ToyCar", "dev_data_ToyCar.zip", "eval_data_train_ToyCar", "eval_data_train_ToyCar.zip"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert BENCHMARK.load_data(folder, 0).describe().endswith("2156 train, 196 validation, 6 test)")
    monkeypatch.setattr(anomaly, "fetch", None)
    for name in names[1::2]:
        (folder / name).unlink()
    BENCHMARK.download(folder)
    BENCHMARK.download(write_folder(tmp_path / "by_hand", machine_files() | additional_files()))


def test_download_of_wrong_files(tmp_path, monkeypatch):
    """A wrong digest and an unreachable server leave no data behind."""
    archive = write_zip(tmp_path / "web" / "dev_data_ToyCar.zip", machine_files())
    monkeypatch.setattr(anomaly, "SOURCES", {"clip": published(archive, archive.name, digest="sha256:" + "0" * 64)})
    assert "sha256" in complaint(anomaly.download, tmp_path / "data")
    archive.unlink()
    assert archive.as_uri() in complaint(anomaly.download, tmp_path / "data")
    assert not [*(tmp_path / "data").iterdir()]


def test_sources():
    """The two sources are the official ones, with the size and the digest that Zenodo states each."""
    assert [source.name for source in anomaly.SOURCES.values()] == ["dev_data_ToyCar.zip", "eval_data_train_ToyCar.zip"]
    for source in anomaly.SOURCES.values():
        assert source.url.startswith("https://zenodo.org/record/") and source.url.endswith(source.name)
        assert len(bytes.fromhex(source.digest.removeprefix("md5:"))) == 16 and source.size_bytes > 8e8


def clips_of_errors(errors, anomalous, machine_ids):
    """Return a split of whole clips, and a network that reconstructs each with a mean squared error as given."""
    x = np.random.default_rng(0).normal(size=(len(errors), 3, 4)).astype(np.float16)
    reconstructed = x.astype(np.float32) + np.sqrt(np.array(errors, np.float32))[:, None, None]
    known = {row.astype(np.float32).tobytes(): output for row, output in zip(x, reconstructed, strict=True)}
    split = Split(x, np.array(anomalous, np.int32), None if machine_ids is None else np.array(machine_ids))
    return split, lambda clips: np.concatenate([known[clip.tobytes()] for clip in clips])


def test_score_by_hand():
    """AUC is the share of pairs of a normal and an anomalous clip in which the anomaly has the larger error."""
    split, predict = clips_of_errors(
        [1, 3, 2, 4, 10, 30, 20, 20], [0, 0, 1, 1, 0, 0, 1, 1], ["id_01"] * 4 + ["id_03"] * 4
    )
    result = score.auc_score(predict, split)
    assert (result.metric, result.samples) == ("auc", 8)
    assert result.details["auc_id_01"] == 3 / 4  # 2 > 1, 4 > 1, 4 > 3
    assert result.details["auc_id_03"] == 2 / 4  # 20 > 10 twice
    assert result.value == (3 / 4 + 2 / 4) / 2
    assert result.details["auc_pooled"] == (1 + 2 + 3 + 3) / 16  # anomalies 2, 4, 20, 20 against normal 1, 3, 10, 30


def test_partial_auc_by_hand():
    """With ten normal clips, up to 10 % false positives is the ROC curve over the first of them."""
    normal, anomalies = list(range(10)), [9.5, 8.5, 8.4, 7.0]
    split, predict = clips_of_errors(normal + anomalies, [0] * 10 + [1] * 4, None)
    area = 0.1 * 1 / 4  # one of four anomalies lies above the largest normal error
    least, most = 0.1**2 / 2, 0.1
    expected = (1 + (area - least) / (most - least)) / 2  # McClish: chance 0.5, perfect 1
    details = score.auc_score(predict, split).details
    assert details["pauc"] == details["pauc_pooled"] == details["pauc_all"] == pytest.approx(expected)


def test_score_in_parts(monkeypatch):
    """The score does not depend on how many clips are predicted at once."""
    split, predict = clips_of_errors([1, 3, 2, 4, 5], [0, 0, 1, 1, 1], ["id_01"] * 5)
    whole = score.auc_score(predict, split)
    np.testing.assert_allclose(score.reconstruction_errors(predict, split), [1, 3, 2, 4, 5], rtol=1e-5)
    monkeypatch.setattr(score, "CLIPS_PER_CALL", 2)
    assert score.auc_score(predict, split) == whole


def test_score_needs_both_kinds():
    """A machine without an anomaly has no AUC."""
    split, predict = clips_of_errors([1, 2, 3, 4], [0, 1, 0, 0], ["id_01", "id_01", "id_02", "id_02"])
    assert "machine id_02 must be normal and anomalous ones. Received: 2 normal and 0" in complaint(
        score.auc_score, predict, split
    )


@pytest.mark.slow
def test_synthetic():
    """Generated data have the real form, repeat for a seed, and faults stand out from the principal components."""
    dataset, other = BENCHMARK.synthesize(0), BENCHMARK.synthesize(1)
    assert dataset.describe() == "synthetic machines (synthetic: 8428 train, 980 validation, 40 test)"
    assert BENCHMARK.synthesize(0).fingerprint() == dataset.fingerprint() != other.fingerprint()
    assert dataset.test.x.shape == (40, 196, 640) and dataset.train.y is None
    assert not rows(dataset.train) & rows(dataset.validation) and not rows(dataset.test) & rows(dataset.train)
    for machine in np.unique(dataset.test.groups):
        assert np.bincount(dataset.test.y[dataset.test.groups == machine]).tolist() == [5, 5]
    x = dataset.train.inputs(slice(2000))
    mean = x.mean(axis=0)
    components = np.linalg.svd(x - mean, full_matrices=False)[2][:8]
    result = score.auc_score(
        lambda clips: (clips.reshape(-1, 640) - mean) @ components.T @ components + mean, dataset.test
    )
    assert result.value > 0.7


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_machine_sound(fault):
    """A generated sound is in range, and a fault changes it."""
    sound = machine_sound(0, 1, 2, fault)
    assert sound.shape == (128000,) and sound.dtype == np.float32 and 0.05 < np.abs(sound).max() <= 1
    assert (fault is None) == np.array_equal(sound, machine_sound(0, 1, 2, None))


def test_log_mel_in_integers():
    """They are near those in floating point, in the last frame too, which ends behind the sound."""
    sound = np.rint(np.random.default_rng(0).normal(0, 1000, LEAST_SAMPLES)).astype(np.int16)
    found = run_features(fixed_log_mel(FixedPointFormat(16, -7)), sound)
    expected = features.log_mel_db(sound / np.float32(2**15))
    np.testing.assert_allclose(np.ldexp(found.astype(float), -7), expected, atol=0.02)
