"""A report holds what its run folders hold, loads nothing, and takes no name for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from written_runs import LAYERS, write_run, write_search

from po2quant.diagnostics.measurement import QuantizedTensor
from po2quant.files import write_csv
from po2quant.report.document import write_report
from po2quant.report.record import histogram_of, load_histograms, load_layers, save_exports, save_histograms
from po2quant.report.run import points_of, read_run
from po2quant.report.sections import standard_error

EVIL = '"><script>alert(1)</script><img src="http://example.com/x">'


class Page(HTMLParser):
    """Elements, and addresses that a browser would load, of an HTML file."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.addresses, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    runs = [write_run(folder / "run"), write_search(folder / "search")]
    return Page(write_report(runs[:1], folder / "one.html")), Page(write_report(runs, folder / "both.html"))


def test_a_report_has_every_section_that_its_run_folder_has_facts_for(reported):
    titles = ("Results", "Learning curves", "Bits and size", "Confusion", "grids", "Export sizes", "asked", "Commands")
    for title in titles:
        assert title in reported[0].text
    assert "Search" not in reported[0].text
    for fact in ("0.9000 ± 0.0150", "1,234", "po2quant finetune --benchmark digits", "digits (embedded: 10 train"):
        assert fact in reported[0].text


def test_several_runs_are_compared_in_one_table_and_each_has_its_part(reported):
    assert "All runs" in reported[1].text
    assert reported[1].text.count("Learning curves") == 1
    assert "Search" in reported[1].text and "Pareto front" in reported[1].text
    assert {"#run", "#search"} <= set(reported[1].addresses)


def test_a_report_runs_no_script_and_loads_nothing(reported):
    for page in reported:
        assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.elements)
        pictures = [address for address in page.addresses if not address.startswith("#")]
        assert pictures and all(address.startswith("data:image/svg+xml;base64,") for address in pictures)


def test_names_of_layers_data_and_folders_are_no_markup(tmp_path):
    path = write_report([write_run(tmp_path / "a<b>&c", EVIL.replace("/", "|"), EVIL)], tmp_path / "report.html")
    page = Page(path)
    assert "script" not in page.elements
    assert EVIL in page.text
    assert not any("example.com" in address for address in page.addresses)


def test_what_a_run_records_is_read_as_it_was_written(tmp_path):
    folder = write_run(tmp_path)
    assert load_layers(folder) == list(LAYERS)
    found = load_histograms(folder)
    save_histograms(folder, found)
    assert load_histograms(folder) == found


def test_a_size_takes_the_place_of_the_one_of_the_same_form(tmp_path):
    folder = write_run(tmp_path)
    save_exports(folder, {"C, constants": 99, "onnx, net.onnx": 5})
    assert read_run(folder, "run").exports == {"C, constants": 99, "onnx, net.onnx": 5}


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_histogram_counts_every_value_and_tells_what_is_clipped(bits):
    rng = np.random.default_rng(bits)
    high = 2 ** (bits - 1) - 1
    scale = np.array([2.0**-3, 2.0**-5])
    values = rng.normal(0, high / 2, (1000, 2)) * scale
    quantized = np.clip(np.rint(values / scale), -high, high) * scale
    found = histogram_of(QuantizedTensor("dense", "kernel", "", bits, values, quantized, scale, -high, high, True))
    edges = found.edges
    middles = (edges[:-1] + edges[1:]) / 2
    beyond = (middles < -high - 0.5) | (middles > high + 0.5)
    assert sum(found.before) == sum(found.after) == values.size
    assert found.exponents == (-5.0, -3.0)
    assert np.asarray(found.before)[beyond].sum() == np.count_nonzero(np.abs(values / scale) > high + 0.5)
    assert np.asarray(found.after)[beyond].sum() == 0
    assert len(edges) < 100


@pytest.mark.parametrize("text", ['{"histograms": [{}]}', '{"histograms": 3}', '{"other": []}', "[]"])
def test_damaged_histograms_are_refused_in_one_sentence(tmp_path, text):
    folder = write_run(tmp_path)
    (folder / "histograms.json").write_text(text)
    with pytest.raises(ValueError, match="histograms of a run"):
        write_report([folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "results.csv",
            "config,alpha,stage,score,size_bits\nw4a8,auto_po2,calibrated,nan,5\n",
            "score must be a finite",
        ),
        ("results.csv", "config,alpha\nw4a8,auto_po2\n", "stage must be text"),
        ("trials.csv", "status,trial_id,score,metric,size_bits\ncompleted,1,1,1,many\n", "size_bits must be a whole"),
        ("epochs.csv", "epoch,val_loss\n1,<b>\n", "val_loss must be a number"),
        ("exports.csv", "form,bytes\nc,x\n", "bytes must be a whole"),
        ("scores.json", '{"calibrated": {"confusion": [[1, 2], [3]]}}', "square confusion"),
        ("scores.json", '{"calibrated": {"confusion": [["a"]]}}', "square confusion"),
        ("layers.csv", "name\nconv2d\n", "layers of a network"),
    ],
)
def test_damaged_tables_are_refused_in_one_sentence_that_names_the_file(tmp_path, name, text, reason):
    folder = write_run(tmp_path / "run")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        write_report([folder], tmp_path / "report.html")
    assert name in str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="RUN must be a run folder"):
        write_report([tmp_path], tmp_path / "report.html")


def test_the_points_of_a_front_are_those_of_its_file_by_size(tmp_path):
    folder = write_search(tmp_path)
    same = {"standard_error": "0.01", "score": "1", "config": "c.json", "weights": ""}
    rows = [{"point": "1", "metric": "0.9", **same, "bits": "12000", "macs": "7"}]
    rows += [{"point": "0", "metric": "0.8", **same, "bits": "9000", "macs": "9"}]
    write_csv(folder / "front.csv", rows)
    first, second = points_of(read_run(folder, "run"))
    assert (first.trial, first.metric, first.error, first.kib) == ("0", 0.8, 0.01, 9000 / 8192)
    assert second.costs == {"bits": 12000.0, "macs": 7.0}
    assert "0.9000 ± 0.0100" in Page(write_report([folder], tmp_path / "report.html")).text


def test_a_front_of_unknown_trials_is_refused(tmp_path):
    folder = write_search(tmp_path)
    write_csv(folder / "front.csv", [{"point": "99", "metric": "0.9", "standard_error": "", "bits": "5"}])
    with pytest.raises(ValueError, match="front of a search"):
        write_report([folder], tmp_path / "report.html")


def test_networks_are_compared_on_test_data_where_validation_data_have_no_such_value(tmp_path):
    folder = write_search(tmp_path / "search")
    for name in ("mpq", "flat8"):
        epochs = [{"epoch": n, "loss": 1 / n, "val_loss": 2 / n, "test_accuracy": 0.9} for n in (1, 2)]
        (folder / "comparison" / name).mkdir(parents=True)
        write_csv(folder / "comparison" / name / "epochs.csv", epochs)
    page = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "loss over epochs, validation" in page and "accuracy over epochs, test" in page


def test_the_standard_error_is_that_of_a_share_and_of_nothing_else():
    assert standard_error("accuracy", 0.5, 100) == 0.05
    assert standard_error("auc", 0.5, 100) == 0.0


@pytest.mark.slow
def test_every_id_of_a_report_stands_once(tmp_path):
    path = write_report([write_run(tmp_path / "x" / "run"), write_run(tmp_path / "y" / "run")], tmp_path / "r.html")
    ids = re.findall(r' id="([^"]*)"', path.read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids)) > 10
