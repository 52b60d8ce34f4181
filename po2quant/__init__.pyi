from .autoqkeras import AutoQKeras as AutoQKeras
from .benchmark import load_benchmark as load_benchmark
from .bit_config import BitConfig as BitConfig
from .deploy.check import check as check
from .deploy.from_keras import integer_program as integer_program
from .deploy.network import frozen_network as frozen_network
from .deploy.reference import compare as compare
from .export.c.source import write_c as write_c
from .integer.interpreter import quantize_inputs as quantize_inputs
from .integer.interpreter import run as run
from .integer.program import Program as Program
from .network import calibrate as calibrate
from .network import flat_config as flat_config
from .network import fold as fold
from .network import freeze_scales as freeze_scales
from .network import quantize_model as quantize_model
from .network.load import load_model as load_model
from .quantizers import quantized_bits as quantized_bits
from .quantizers import quantized_bits_featuremap as quantized_bits_featuremap

__version__: str
