"""Names of the forms of exported models, and of what their clients do to images. Imports no torch."""

from typing import Literal, get_args

# ONNX in float32, in float16 with float32 at its ends, with 8-bit linear layers; a program of torch.export.
Form = Literal["fp32", "fp16", "int8", "program"]
FORMS: tuple[Form, ...] = get_args(Form)
OPSET = 20
OPSETS = range(18, 24)
# What a client has done to RGB pixels: 0..1; with the model's own mean and std; with ImageNet's.
Pixels = Literal["unit", "normalised", "imagenet"]
PIXELS: tuple[Pixels, ...] = get_args(Pixels)
