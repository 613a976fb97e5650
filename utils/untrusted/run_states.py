"""The form of `last.pt`: where a run is, and all that it needs to go on."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator, with_config
from torch import Tensor
from typing_extensions import NotRequired, Self, TypedDict

from utils.untrusted.forms import Form
from utils.untrusted.settings import MAX_SETTINGS, leaves, parse_settings

_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False, extra="forbid")
MAX_CARD = 2**16  # characters or bytes; a thousand are usual
_PYTHON_WORDS, _NUMPY_WORDS = 625, 624  # of the Mersenne twister's state

_ADAM = {"step", "exp_avg", "exp_avg_sq"}


def _if(holds: Callable[[Tensor], bool], allowed: str) -> AfterValidator:
    def check(value: Tensor) -> Tensor:
        odd = value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex()
        if odd or not holds(value):
            raise ValueError(f"a tensor {tuple(value.shape)} of {value.dtype}; allowed: {allowed}")
        return value

    return AfterValidator(check)


def _is_amount(value: Tensor) -> bool:
    return not value.dim() and value.is_floating_point() and 0 <= value.item() < float("inf")


def _are_words(value: Tensor) -> bool:
    return value.shape == (_NUMPY_WORDS,) and value.dtype == torch.int64 and not (value >> 32).any()


def _from_text(value: Any) -> Any:
    """Format 2 has the configuration as YAML."""
    if not isinstance(value, str):
        return value
    if len(value) > MAX_SETTINGS:
        raise ValueError(f"a text of {len(value):,} characters; allowed: {MAX_SETTINGS:,}")
    return leaves(parse_settings(value, "its text").tree)


_Numbers = Annotated[Tensor, _if(lambda value: True, "plain numbers")]
_Sum = Annotated[Tensor, _if(lambda value: value.dtype == torch.float64 and not value.dim(), "one float64")]
_Amount = Annotated[Tensor, _if(_is_amount, "one number, 0 or more")]
_Words = Annotated[Tensor, _if(_are_words, f"{_NUMPY_WORDS} words of 32 bits, as int64")]
_Bytes = Annotated[Tensor, _if(lambda value: value.dtype == torch.uint8 and value.dim() == 1, "bytes")]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Word = Annotated[int, Field(ge=0, lt=2**32)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_Text = Annotated[str, Field(max_length=4096)]
_Plain = _Text | bool | int | float | None


@with_config(_STRICT)
class MeterSums(TypedDict):
    """Sums of an epoch's values, the weight of their samples, and how many samples there were."""

    sums: dict[str, _Sum]
    weight: _NotNegative
    samples: _Count


@with_config(_STRICT)
class RandomStates(TypedDict):
    """The states of the generators of Python, NumPy, torch, and of its GPU where one was in use."""

    python: tuple[
        Literal[3],
        Annotated[tuple[_Word, ...], Field(min_length=_PYTHON_WORDS, max_length=_PYTHON_WORDS)],
        float | None,
    ]
    numpy: tuple[
        Literal["MT19937"], _Words, Annotated[int, Field(ge=0, le=_NUMPY_WORDS)], Literal[0, 1], float
    ]
    torch: _Bytes
    cuda: NotRequired[_Bytes]


@with_config(_STRICT)
class ScalerState(TypedDict, total=False):
    """Of torch's gradient scaler; empty where it is not in use."""

    scale: _Positive
    growth_factor: _Positive
    backoff_factor: _Positive
    growth_interval: _Count
    _growth_tracker: _Count


@with_config(_STRICT | ConfigDict(extra="allow"))
class ParameterState(TypedDict, total=False):
    """What an optimizer keeps of a parameter, by its names: those of Adam, AdamW and SGD are checked."""

    step: _Amount | _NotNegative
    exp_avg: _Numbers
    exp_avg_sq: _Numbers
    momentum_buffer: _Numbers | None


def _of_one_optimizer(state: ParameterState) -> ParameterState:
    missing = _ADAM - state.keys()
    if missing and missing != _ADAM:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    return state


@with_config(_STRICT | ConfigDict(extra="ignore"))
class ParameterGroup(TypedDict):
    """The numbers of a group's parameters; its settings are those of the configuration."""

    params: list[_Count]


@with_config(_STRICT)
class OptimizerState(TypedDict):
    """As torch's optimizers give it."""

    state: dict[_Count, Annotated[ParameterState, AfterValidator(_of_one_optimizer)]]
    param_groups: list[ParameterGroup]


def _of_its_groups(optimizer: OptimizerState) -> OptimizerState:
    others = optimizer["state"].keys() - {n for group in optimizer["param_groups"] for n in group["params"]}
    if others:
        raise ValueError(f"its groups have no parameter {min(others)}")
    return optimizer


class RunState(Form):
    """A whole `last.pt`. `stage` is '' between two stages: the fields from `epoch` on are of the one in work.

    Further entries are facts about the run, which may be compared when it goes on.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")
    __pydantic_extra__: dict[str, _Plain]

    format: Literal[2, 3]
    finished: list[_Text]
    stage: _Text
    model: dict[str, _Numbers]
    scaler: ScalerState
    random: RandomStates
    trackers: dict[str, dict[str, _Plain]]
    versions: dict[str, _Text] = Field(default_factory=dict)
    launch: _Text = ""
    card: Annotated[str, Field(max_length=MAX_CARD)] = ""  # the model card, as JSON
    config: Annotated[dict[str, _Plain | list[_Plain]], BeforeValidator(_from_text)] = Field(
        default_factory=dict
    )

    epoch: Annotated[_Count, Field(ge=1)] = 1
    iteration: _Count = 0
    steps: _Count = 0  # which files of this format did not have at first
    seconds: _NotNegative = 0.0
    skipped: _Count = 0
    meters: MeterSums | None = None
    beside: dict[str, _Numbers] = Field(default_factory=dict)
    optimizer: Annotated[OptimizerState, AfterValidator(_of_its_groups)] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        fields = ("epoch", "iteration", "seconds", "skipped", "meters", "beside", "optimizer")
        missing = [
            name for name in fields if name not in self.model_fields_set or getattr(self, name) is None
        ]
        if self.stage and missing:
            raise ValueError(f"it has no {missing[0]} of {self.stage}")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """The further entries."""
        return self.model_extra or {}
