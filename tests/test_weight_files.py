"""Weight files: every known form loads, everything else ends in one sentence."""

import contextlib
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras2_files import write_keras2
from mutations import mutated
from networks import state_of
from refusals import refusal

from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model
from po2quant.runs.names import BEST_WEIGHTS
from po2quant.weight_files import is_quantized_checkpoint, load_weights, read_weight_file


def network(units=3, seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((4,), name="input"), keras.layers.Dense(units, name="dense")]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(name="norm")], name="small")


@pytest.mark.parametrize("under", ["model_weights", None])
def test_keras2_files_load_by_layer_name(tmp_path, under):
    source, target = network(seed=1), network(seed=2)
    write_keras2(tmp_path / "old.h5", source, under)
    load_weights(target, tmp_path / "old.h5")
    np.testing.assert_equal(target.get_weights(), source.get_weights())


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_keras3_files_load(tmp_path, name):
    source, target = network(seed=1), network(seed=2)
    (source.save if name.endswith(".keras") else source.save_weights)(tmp_path / name)
    load_weights(target, tmp_path / name)
    np.testing.assert_equal(target.get_weights(), source.get_weights())


def test_a_run_folder_stands_for_its_best_weights(tmp_path):
    source, target = network(seed=1), network(seed=2)
    source.save_weights(tmp_path / BEST_WEIGHTS)
    load_weights(target, tmp_path)
    np.testing.assert_equal(target.get_weights(), source.get_weights())


def test_quantized_checkpoints_are_told_from_float_weights(tmp_path):
    model = network()
    model.save_weights(tmp_path / "float.weights.h5")
    quantized = quantize_model(model, flat_config(model, 8))
    quantized.save_weights(tmp_path / "quantized.weights.h5")
    quantized.save(tmp_path / "quantized.keras")
    assert not is_quantized_checkpoint(tmp_path / "float.weights.h5")
    assert is_quantized_checkpoint(tmp_path / "quantized.weights.h5")
    assert is_quantized_checkpoint(tmp_path / "quantized.keras")


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.h5", b"hello"), ("empty.h5", b""), ("broken.keras", b"PK\x03\x04" + b"\0" * 40)],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = refusal(load_weights, network(), tmp_path / name)
    assert "weights must be" in message and name in message


def test_a_truncated_file_is_refused(tmp_path):
    network().save_weights(tmp_path / "a.weights.h5")
    data = (tmp_path / "a.weights.h5").read_bytes()
    (tmp_path / "a.weights.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_weights(network(), tmp_path / "a.weights.h5")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.h5", tmp_path):
        with pytest.raises(ValueError, match="There is no file"):
            load_weights(network(), path)


@pytest.mark.parametrize("name", ["a.weights.h5", "old.h5"])
def test_weights_of_another_network_change_nothing(tmp_path, name):
    source, target = network(units=5), network()
    if name == "old.h5":
        write_keras2(tmp_path / name, source)
    else:
        source.save_weights(tmp_path / name)
    before = target.get_weights()
    with pytest.raises(ValueError, match=r"does not fit model 'small'"):
        load_weights(target, tmp_path / name)
    np.testing.assert_equal(target.get_weights(), before)


def test_nan_weights_are_named(tmp_path):
    source = network()
    source.get_layer("dense").bias.assign([0.0, np.nan, 1.0])
    source.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"NaN or infinity in .*bias"):
        load_weights(network(), tmp_path / "a.weights.h5")


def damaged_by(path, change, content=None):
    """Write a float network's weights, change the file, and return the refusal of both of its readers."""
    model = content or network()
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    with h5py.File(path, "r+") as file:
        change(file)
    before = state_of(model)
    message = refusal(load_weights, model, path)
    np.testing.assert_equal(state_of(model), before)
    assert str(path) in message and refusal(read_weight_file, path) == message
    return message


def kernel_of(file):
    return file["layers/dense/vars"]


def replace_kernel(file, **options):
    del kernel_of(file)["0"]
    kernel_of(file).create_dataset("0", **options)


def link_outside(file):
    del kernel_of(file)["0"]
    kernel_of(file)["0"] = h5py.ExternalLink("/etc/hostname", "/data")


def link_inside(file):
    kernel_of(file).move("0", "kernel")
    kernel_of(file)["0"] = h5py.SoftLink("kernel")


def store_outside(file):
    replace_kernel(file, shape=(4, 3), dtype="f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def be_virtual(file):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "data", (4, 3))
    del kernel_of(file)["0"]
    kernel_of(file).create_virtual_dataset("0", layout)


def nest_in_itself(file):
    file["layers/dense/again"] = file["layers"]


def nest_deeply(file):
    file.create_group("/".join(["deeper"] * 40))


def hold_many_groups(file):
    for index in range(60):
        file.create_group(f"many/{index}")


DAMAGES = {
    "an external link": (link_outside, "link to another place"),
    "a soft link": (link_inside, "link to another place"),
    "external storage": (store_outside, "keeps its data in another place"),
    "a virtual dataset": (be_virtual, "keeps its data in another place"),
    "a cycle of groups": (nest_in_itself, "more than 32 deep"),
    "deep groups": (nest_deeply, "more than 32 deep"),
    "a group for an array": (
        lambda file: (kernel_of(file).pop("0"), kernel_of(file).create_group("0")),
        "'/layers/dense/vars/0' must be an array. Received: a group",
    ),
    "an array for a group": (
        lambda file: (file.pop("layers"), file.create_dataset("layers", data=1.0)),
        "'/layers' is an array where a group must be",
    ),
    "a named type": (
        lambda file: (kernel_of(file).pop("0"), kernel_of(file).__setitem__("0", np.dtype("f4"))),
        "is neither a group nor an array",
    ),
    "text": (lambda file: replace_kernel(file, data=["a"] * 3), "must hold real numbers"),
    "bytes": (lambda file: replace_kernel(file, data=np.full((4, 3), b"a")), "must hold real numbers"),
    "complex numbers": (
        lambda file: replace_kernel(file, data=np.full((4, 3), 1j)),
        "Received: compounds or complex numbers",
    ),
    "a compound": (lambda file: replace_kernel(file, data=np.zeros((4, 3), "f4,f4")), "must hold real numbers"),
    "references": (
        lambda file: replace_kernel(file, shape=(4, 3), dtype=h5py.ref_dtype),
        "must hold real numbers",
    ),
    "an empty array": (lambda file: replace_kernel(file, data=h5py.Empty("f4")), "without a shape"),
    "an array without data": (lambda file: replace_kernel(file, shape=(4, 3), dtype="f4"), "has no data"),
    "chunks": (lambda file: replace_kernel(file, data=np.zeros((4, 3)), chunks=(2, 2)), "in one piece"),
    "a packed array": (lambda file: replace_kernel(file, data=np.zeros((4, 3)), compression="gzip"), "not packed"),
    "no weights": (lambda file: [file.pop(name) for name in list(file)], "it holds no weights"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_no_array_of_the_file_itself_is_refused_and_changes_nothing(tmp_path, kind):
    change, named = DAMAGES[kind]
    assert named in damaged_by(tmp_path / "a.weights.h5", change)


def test_many_groups_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("po2quant.hdf5.LARGEST_OBJECTS", 50)
    network().save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        hold_many_groups(file)
    assert "more than 50 groups and arrays" in refusal(read_weight_file, tmp_path / "a.weights.h5")


@contextlib.contextmanager
def little_memory():
    """Fail where a block takes more than a MiB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def claim_packed(file):
    replace_kernel(file, shape=(40_000, 40_000), dtype="f4", compression="gzip", chunks=(400, 400))
    kernel_of(file)["0"][0, 0] = 1.0


def claim_shape(file):
    replace_kernel(file, data=np.zeros(77777, np.float32))


@pytest.mark.parametrize(
    ("claim", "named"),
    [
        (claim_packed, "not packed"),
        (claim_shape, "claims 40000004000000000 bytes, more than the 6"),
    ],
)
def test_a_small_file_that_claims_gigabytes_is_refused_before_memory_is_taken(tmp_path, claim, named):
    path = tmp_path / "a.weights.h5"
    network().save_weights(path)
    with h5py.File(path, "r+") as file:
        claim(file)
    claimed = (77777).to_bytes(8, "little"), (10**16 + 10**9).to_bytes(8, "little")
    path.write_bytes(path.read_bytes().replace(*claimed))
    with little_memory():
        assert named in refusal(read_weight_file, path)


def test_an_archive_that_claims_gigabytes_is_refused_before_memory_is_taken(tmp_path):
    path, zeros = tmp_path / "a.keras", bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w") as member:
            for _ in range(100):
                member.write(zeros)
    with little_memory():
        assert "claim 104857602 bytes, more than the 67108864" in refusal(load_weights, network(), path)


def test_an_encrypted_archive_is_named(tmp_path):
    path = tmp_path / "a.keras"
    network().save(path)
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + flags] |= 1
    path.write_bytes(data)
    message = refusal(load_weights, network(), path)
    assert str(path) in message and "is encrypted" in message


def test_a_member_that_unpacks_to_more_than_it_claims_is_cut_there(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(2**26))
    data = path.read_bytes().replace((2**26).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(data)
    with little_memory():
        assert "CRC" in refusal(load_weights, network(), path)


@pytest.mark.parametrize(
    ("description", "named"),
    [("[" * 100_000, "nested too deep"), ("{", "Expecting"), (b"\xff", "codec can't decode"), ("[1, 2]", "")],
)
def test_a_model_description_that_is_none_is_refused_or_tells_no_order(tmp_path, description, named):
    path = tmp_path / "a.keras"
    source, target = network(seed=1), network(seed=2)
    source.save_weights(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", description)
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    if named:
        assert named in refusal(load_weights, target, path)
    else:
        load_weights(target, path)
        np.testing.assert_equal(target.get_weights(), source.get_weights())


def quantized_network():
    model = network()
    model = quantize_model(model, flat_config(model, 8))
    calibrate(model, np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32))
    freeze_scales(model)
    return model


KERNEL_QUANTIZER = "layers/q_dense/kernel_quantizer_internal/vars"
STATES = {
    "frozen_scale": [2.0**120, 1e-45, 2.0**-140, 0.0, -0.5, np.nan, np.inf],
    "bit_width": [0, -1, 33, 2**31 - 1],
    "frozen": [2**0.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in STATES.items() for value in values])
def test_a_quantizer_state_that_no_quantizer_has_is_refused_by_tensor_and_value(tmp_path, name, value):
    def change(file):
        stored = file[KERNEL_QUANTIZER][name]
        if isinstance(value, float) and name != "frozen_scale":
            del file[KERNEL_QUANTIZER][name]
            file[KERNEL_QUANTIZER][name] = value
        else:
            stored[...] = value

    message = damaged_by(tmp_path / "a.weights.h5", change, quantized_network())
    shown = f"{np.float32(value):.9g}" if name == "frozen_scale" else str(value)
    assert "layers/q_dense/kernel_quantizer_internal" in message and shown in message


@pytest.mark.parametrize("limits", [(1.0, 2.0), (-2.0, -1.0), (np.nan, 1.0), (-1.0, np.inf), (0.0, 2.0**100)])
def test_a_range_that_no_quantizer_has_is_refused(tmp_path, limits):
    def change(file):
        places = []
        file.visit(lambda place: places.append(place) if place.endswith("/minimum") else None)
        group = file[places[0]].parent
        group["minimum"][...], group["maximum"][...] = limits

    message = damaged_by(tmp_path / "a.weights.h5", change, quantized_network())
    assert f"Received: [{limits[0]:.9g}, {limits[1]:.9g}]" in message


@pytest.mark.parametrize("names", [b"dense", ["/dense"], ["dense/../dense"], ["absent"], [1, 2], [b"\xff"]], ids=repr)
@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
def test_names_in_a_keras2_file_that_lead_elsewhere_are_refused(tmp_path, names, attribute):
    path = tmp_path / "old.h5"
    write_keras2(path, network())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"] if attribute == "layer_names" else file["model_weights/dense"]
        group.attrs[attribute] = names
    assert str(path) in refusal(load_weights, network(), path)


def test_a_keras2_file_with_links_is_refused(tmp_path):
    path = tmp_path / "old.h5"
    write_keras2(path, network())
    with h5py.File(path, "r+") as file:
        del file["model_weights/dense"]
        file["model_weights/dense"] = h5py.ExternalLink("other.h5", "/dense")
    assert "'dense' of '/model_weights' is a link" in refusal(load_weights, network(), path)


def test_a_misfit_gives_kerass_reason_not_its_count(tmp_path):
    network(units=5).save_weights(tmp_path / "a.weights.h5")
    message = refusal(load_weights, network(), tmp_path / "a.weights.h5")
    assert "(4, 5)" in message and "(4, 3)" in message and "A total of" not in message


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory):
    """Return the bytes of a file of each form by name."""
    folder, model = tmp_path_factory.mktemp("valid"), quantized_network()
    model.save_weights(folder / "a.weights.h5")
    model.save(folder / "a.keras")
    write_keras2(folder / "old.h5", network())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "old.h5"])
def test_a_file_with_changed_bytes_is_read_or_refused_in_one_line(valid_files, tmp_path, name):
    rng, path, data = np.random.default_rng(0), tmp_path / name, valid_files[name]
    read = 0
    for _ in range(150):
        path.write_bytes(mutated(data, rng))
        try:
            read += bool(read_weight_file(path).groups)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert read
