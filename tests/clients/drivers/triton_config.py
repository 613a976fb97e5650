"""Read a config.pbtxt by Triton's own description of it: triton_config.py CONFIG; prints it as JSON."""

import importlib.util
import sys
import sysconfig
from pathlib import Path

from google.protobuf import json_format, text_format

# Without the package around it, which imports grpc.
path = Path(sysconfig.get_path("purelib"), "tritonclient/grpc/model_config_pb2.py")
spec = importlib.util.spec_from_file_location("model_config_pb2", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
config = text_format.Parse(Path(sys.argv[1]).read_text(), module.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
