"""Quantizers from strings: what QKeras prints is read, anything else is refused and never evaluated."""

from __future__ import annotations

import ast

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated
from refusals import refusal

from po2quant.quantizers import get_quantizer, parse_quantizer_call, quantized_bits, quantized_bits_featuremap

PRINTED = [
    (
        "quantized_bits( 4, 4,1,1,alpha='auto')",
        quantized_bits,
        {"bits": 4, "integer": 4, "symmetric": True, "keep_negative": True, "alpha": "auto"},
    ),
    (
        "quantized_bits(16,16,1,1,alpha='auto_po2')",
        quantized_bits,
        {"bits": 16, "integer": 16, "symmetric": True, "keep_negative": True, "alpha": "auto_po2"},
    ),
    (
        " quantized_bits(31 ,31, 1,1 , alpha = 'auto_po2' )\n",
        quantized_bits,
        {"bits": 31, "integer": 31, "alpha": "auto_po2"},
    ),
    (
        "quantized_bits_featuremap(8,8,1,1,alpha='auto_po2',scale_axis=0)",
        quantized_bits_featuremap,
        {"bits": 8, "integer": 8, "symmetric": True, "keep_negative": True, "alpha": "auto_po2", "scale_axis": 0},
    ),
    ("quantized_bits_featuremap(4,4,1,0)", quantized_bits_featuremap, {"bits": 4, "keep_negative": False}),
    ("quantized_bits(8, -1, 0, alpha=None)", quantized_bits, {"integer": -1, "symmetric": False, "alpha": None}),
    ("quantized_bits(4,0,1,alpha=1.0)", quantized_bits, {"bits": 4, "alpha": 1.0}),
    ("quantized_bits(4,0,0,keep_negative=False)", quantized_bits, {"keep_negative": False}),
    ("quantized_bits(8,8,1,1,alpha='auto_po2',scale_axis=(2, 3))", quantized_bits, {"scale_axis": (2, 3)}),
    ("quantized_bits(4,0,alpha=[0.5,1])", quantized_bits, {"alpha": [0.5, 1.0]}),
    ("quantized_bits()", quantized_bits, {"bits": 8, "alpha": None}),
    ("quantized_bits", quantized_bits, {"bits": 8, "alpha": None}),
]

MALFORMED = [
    "",
    "   ",
    "8",
    "'quantized_bits(8)'",
    "quantized_bits(",
    "quantized_bits)8(",
    "quantized_bits(8);quantized_bits(4)",
    "quantized_bits(8)\nquantized_bits(4)",
    "quantized_bits(8)(8)",
    "quantized_bits(8).bits",
    "quantized_bits[8]",
    "keras.quantized_bits(8)",
    "lambda: 0",
    "lambda: quantized_bits(8)",
    "[quantized_bits(8)]",
    "quantized_bits = 8",
    "(q := quantized_bits(8))",
    "quantized_bits(8) if True else None",
    "quantized_bits(n)",
    "quantized_bits(bits=n)",
    "quantized_bits(4+4)",
    "quantized_bits(2**3)",
    "quantized_bits(int('8'))",
    "quantized_bits(8,*[8])",
    "quantized_bits(8,**{'a':1})",
    "quantized_bits(8,**{'integer':1})",
    "quantized_bits([8 for _ in [1]][0])",
    "quantized_bits(8, f'{8}')",
    "quantized_bits(__import__('os'))",
    "quantized_bits(8\0)",
    "quantized_bits(8, '\ud800')",
    "\ud800",
    "await quantized_bits(8)",
    "import os",
]

TOO_DEEP = {
    "parentheses": "(" * 5000 + ")" * 5000,
    "lists": "quantized_bits(" + "[" * 3000 + "]" * 3000 + ")",
    "signs": "quantized_bits(" + "-" * 100_000 + "1)",
    "sum": "quantized_bits(" + "1+" * 50_000 + "1)",
    "attributes": "a" + ".b" * 20_000,
    "calls": "quantized_bits" + "(8)" * 5000,
    "digits": "quantized_bits(" + "9" * 100_000 + ")",
}

REFUSED_ARGUMENTS = [
    ("quantized_relu(8)", "quantized_relu"),
    ("Quantized_Bits(8)", "Quantized_Bits"),
    ("open('x')", "open"),
    ("eval('1')", "eval"),
    ("quantized_bits(0)", "bits=0"),
    ("quantized_bits(True)", "bits=True"),
    ("quantized_bits('8')", "bits='8'"),
    ("quantized_bits(8,8,1,1,alpha='autopo2')", "'autopo2'"),
    ("quantized_bits(8,8,1,1,'auto',0,0,1.0,None,1,0,None,None,None,None,'mse',1,None,None,99)", "does not take"),
    ("quantized_bits_featuremap(8,8,1,1,'auto',0,None,1.0,None,1,0,99)", "does not take"),
    ("quantized_bits(8,bits=8)", "does not take"),
    ("quantized_bits(8,colour='red')", "colour"),
    ("quantized_bits(8,8,1,1,alpha={})", "does not take"),
    ("quantized_bits(8,8,1,1,alpha='a\\nb')", "alpha="),
    ("quantized_bits_featuremap(8,8,1,1,alpha='auto_po2',scale_axis=3)", "scale_axis=3"),
    ("quantized_bits(8,integer=None)", "integer"),
    ("quantized_bits(8,'x')", "integer"),
    ("quantized_bits(8,8,1,1,alpha='auto_po2',scale_axis='a')", "scale_axis"),
    ("quantized_bits(8,8,1,1,alpha='auto_po2',min_po2_exponent='a')", "min_po2_exponent"),
]

REFUSED_ARGUMENTS += [
    (f"quantized_bits(8,0,{name}={value})", f"{name}=")
    for name, values in {
        "qnoise_factor": ("1e400", "-1e400", "-0.1", "1.5", "'1'", "None", "[1.0]", "[]"),
        "keep_negative": ("'no'", "''", "2", "-1", "None", "0.5", "[]", "(1,)"),
        "symmetric": ("'no'", "2", "None", "[]"),
        "use_stochastic_rounding": ("'no'", "2", "None"),
        "use_ste": ("'no'", "2", "None"),
        "use_variables": ("'no'", "2", "None"),
        "clipped_gradient": ("'no'", "2", "None"),
        "integer": ("0.5", "1e400", "10000", "9" * 300),
        "alpha": ("1e400", "-1e400", "[1.0, 1e999]", "['1']", "[]", "[[1], [2, 3]]", "1" + "0" * 400),
        "scale_axis": ("10", "-9", "0.0", "True", "[0, 'a']", "1" + "0" * 100),
        "var_name": ("1", "['a']"),
        "min_po2_exponent": ("0.0", "True", "[1]", "200"),
        "max_po2_exponent": ("0.0", "True", "-200"),
        "scale_rule": ("'best'", "1", "['mse']"),
        "elements_per_scale": ("1", "'a'"),
    }.items()
    for value in values
]
REFUSED_ARGUMENTS += [
    (f"quantized_bits(8,0,alpha='{alpha}',{name}={value})", f"{name}=")
    for alpha, name, value in (
        ("auto", "frozen_scale", "1e400"),
        ("auto", "frozen_scale", "-1.0"),
        ("auto", "frozen_scale", "['a']"),
        ("learned_po2", "log2_threshold", "1e400"),
        ("learned_po2", "log2_threshold", "'a'"),
    )
]
REFUSED_ARGUMENTS += [
    (f"quantized_bits_featuremap(8,{name}={value})", f"{name}=")
    for name, value in (("momentum", "'a'"), ("momentum", "1e400"), ("momentum", "None"), ("scale_axis", "0.0"))
]
REFUSED_ARGUMENTS += [(f"quantized_bits(8,{name}=1)", f"'{name}'") for name in ("name", "dtype", "trainable", "kwargs")]

ATTACKS = [
    "__import__('os').system('touch evaluated')",
    "quantized_bits(bits=open('evaluated','w'))",
    "quantized_bits(open('evaluated','w').close() or 8)",
    "open('evaluated','w')",
    'exec(\'open("evaluated","w")\')',
    "(lambda: open('evaluated','w'))()",
    "[open('evaluated','w') for _ in [0]]",
    "quantized_bits(8, alpha=(open('evaluated','w'), 1)[1])",
    "quantized_bits(8, **open('evaluated','w').__dict__)",
    "quantized_bits(8, *[open('evaluated','w')])",
    'quantized_bits(alpha=f\'{open("evaluated","w")}\')',
    "quantized_bits(alpha=\"__import__('os').system('touch evaluated')\")",
    "quantized_bits(8, var_name=[].__class__.__base__.__subclasses__())",
    "quantized_bits(8, activity_regularizer=\"__import__('os').system('touch evaluated')\")",
]


@pytest.mark.parametrize(("text", "quantizer_class", "expected"), PRINTED)
def test_printed_quantizers_are_read(text, quantizer_class, expected):
    quantizer = get_quantizer(text)
    assert type(quantizer) is quantizer_class
    config = quantizer.get_config()
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(
    "text", ["quantized_bits(8,8,1,1,alpha='auto_po2')", "quantized_bits_featuremap(4,2,1,0,'auto')"]
)
def test_each_call_gives_a_new_quantizer(text):
    assert get_quantizer(text) is not get_quantizer(text)


def test_a_string_gives_the_bits_of_the_constructor():
    x = np.random.default_rng(0).normal(0, 0.3, (64, 8)).astype(np.float32)
    expected = quantized_bits(4, 4, 1, 1, alpha="auto_po2")(x)
    np.testing.assert_array_equal(get_quantizer("quantized_bits(4,4,1,1,alpha='auto_po2')")(x), expected)


@pytest.mark.parametrize("quantizer_class", [quantized_bits, quantized_bits_featuremap])
@pytest.mark.parametrize("alpha", ["auto", "auto_po2", None, 0.5])
@pytest.mark.parametrize(("symmetric", "keep_negative"), [(0, 1), (1, 1), (1, 0)])
def test_a_printed_quantizer_reads_itself(quantizer_class, alpha, symmetric, keep_negative):
    quantizer = quantizer_class(5, 2, symmetric, keep_negative, alpha)
    copy = get_quantizer(str(quantizer))
    names = ("bits", "integer", "symmetric", "keep_negative", "alpha")
    assert type(copy) is quantizer_class
    assert [copy.get_config()[n] for n in names] == [quantizer.get_config()[n] for n in names]
    assert str(copy) == str(quantizer)


def test_a_call_is_split_into_name_and_literal_arguments():
    text = "anything(1, -2.5, 'a', None, [True, (1, 2)], key={'x': 1}, other=-3)"
    expected = ("anything", (1, -2.5, "a", None, [True, (1, 2)]), {"key": {"x": 1}, "other": -3})
    assert parse_quantizer_call(text) == expected
    assert parse_quantizer_call("name") == ("name", (), {})


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_strings_are_refused_with_an_example(text):
    message = refusal(get_quantizer, text)
    assert "must read like quantized_bits(8,8,1,1,alpha='auto_po2')" in message
    assert repr(text) in message


@pytest.mark.parametrize("kind", TOO_DEEP)
def test_deep_or_huge_strings_are_refused(kind):
    refusal(get_quantizer, TOO_DEEP[kind])


@pytest.mark.parametrize("text", ["f(a=1, " + "[" * 9 + "]" * 9 + ")", "(" * 90 + ")" * 90, "f(a=1, {(0, " + "[" * 60])
def test_deep_brackets_never_reach_the_parser_of_python(text, monkeypatch):
    monkeypatch.setattr(ast, "parse", None)
    assert "brackets more than 8 deep" in refusal(get_quantizer, text)


@pytest.mark.parametrize(("text", "named"), REFUSED_ARGUMENTS)
def test_wrong_names_and_arguments_are_named(text, named):
    assert named in refusal(get_quantizer, text)


def test_an_unknown_name_lists_the_known_ones():
    assert "quantized_bits, quantized_bits_featuremap" in refusal(get_quantizer, "ternary(2)")


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_is_evaluated(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(get_quantizer, text)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.text(), st.text("quantized_bits(8,'=[]{}*:) \n\\\"#lambd", max_size=40)))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        quantizer = get_quantizer(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(quantizer, (quantized_bits, quantized_bits_featuremap))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), text=st.sampled_from([text for text, *_ in PRINTED]))
def test_a_changed_text_is_read_or_refused_in_one_line(seed, text):
    changed = mutated(text.encode(), np.random.default_rng(seed)).decode("utf-8", "surrogateescape")
    try:
        assert isinstance(get_quantizer(changed), (quantized_bits, quantized_bits_featuremap))
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 700


def test_none_and_callables_pass():
    quantizer = quantized_bits(8)
    assert get_quantizer(None) is None
    assert get_quantizer(quantizer) is quantizer
    assert get_quantizer(abs) is abs


def test_serialized_dictionaries_are_restored():
    quantizer = quantized_bits(5, 2, 1, 1, alpha="auto_po2", scale_rule="max")
    copy = get_quantizer(keras.saving.serialize_keras_object(quantizer))
    assert type(copy) is quantized_bits
    assert copy.get_config() == quantizer.get_config()


@pytest.mark.parametrize("identifier", [8, 0.5, ["quantized_bits(8)"], b"quantized_bits(8)", True])
def test_other_identifiers_are_named(identifier):
    with pytest.raises(ValueError, match="string, a dictionary or a callable") as error:
        get_quantizer(identifier)
    assert repr(identifier) in str(error.value)
