"""Frozen, validated settings: of a federation, and of one unlearning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from fedunlearn.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseModel)


def matching(pattern: str, expected: str) -> AfterValidator:
    """A text that is `pattern` as a whole, or else a mistake that says what was `expected`."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

EXECUTION = frozenset({"engine", "timeout", "workers", "cohort", "class_harm", "prepare_for"})
"""Settings that say how a federation is executed, and what it accepts: they change none of its models, and do not
identify it."""


class FederationSettings(BaseModel):
    """What a federation is: task, clients, their data, and how they train.

    Equal settings give equal models, bit for bit, on every engine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = "mnist5k"
    clients: Annotated[int, Field(ge=2)] = 10
    partition: str = "dirichlet:1.0"
    init: Annotated[str, Field(min_length=1)] | None = None
    """The model that training starts from: a safetensors file or torchvision:NAME, and once it is read its digest;
    None: a newly initialised one."""
    rounds: Annotated[int, Field(ge=0)] = 15
    """0 only with `init`: requests are then served against that model as it is."""
    local_epochs: PositiveInt = 2
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    batch_size: PositiveInt = 32
    network: str | None = None
    seed: Seed = 0
    strategy: str = "fedavg"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the available clients that a round samples."""
    backdoor: str | None = None
    canaries: str | None = None
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of its samples that each client never trains on: its own unseen data."""
    server_data: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training samples that no client gets: the server has them, without labels."""
    class_harm: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Fall of a remaining class's accuracy, beyond what noise and the lost samples explain, from which an unlearned
    model is refused; 1: none is."""
    prepare_for: Annotated[str, matching(r"([a-z0-9-]+(,[a-z0-9-]+)*)?", "names of methods joined by commas")] = ""
    """Methods, joined by commas, for which server and clients keep something while the federation trains."""
    engine: Literal["local", "ray"] = "local"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes in which the local engine runs the clients, 0: in this one, "auto": as many as pay off."""
    cohort: Literal["auto"] | PositiveInt = "auto"
    """Clients that are trained together as one computation, 1: none, "auto": as many as a measurement finds faster."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a client that has not answered is left out of the round."""
    device: Annotated[str, matching(r"cpu|cuda(:\d{1,2})?", "cpu, cuda or cuda:N")] = "cpu"
    """Where clients train: cpu, cuda or cuda:N. Every device has digests of its own."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in while clients train; weights are float32 in either."""
    compile: bool = False
    """Whether torch.compile makes code for a client's step."""

    @property
    def prepared_methods(self) -> tuple[str, ...]:
        """The names in `prepare_for`."""
        return tuple(filter(None, self.prepare_for.split(",")))

    @field_validator("rounds")
    @classmethod
    def _trained_somewhere(cls, rounds: int, info: ValidationInfo) -> int:
        if rounds == 0 and info.data.get("init") is None:
            raise ValueError("expected 1 or more, or a model to start from (init)")
        return rounds

    @field_validator("workers", "cohort", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        least = 0 if info.field_name == "workers" else 1
        whole = isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
        if value != "auto" and not (whole and int(value) >= least):
            raise ValueError(f"expected 'auto' or a whole number, {least} or more")
        return value


class UnlearnSettings(BaseModel):
    """How one request is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "selective-channels"
    ratio: float | dict[str, float] | Literal["auto"] = "auto"
    """Share of the channels of each layer, a table layer -> share, or read off the attribution."""
    rounds: PositiveInt = 3
    local_epochs: PositiveInt = 1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """None: the federation's own."""
    options: dict[str, str | float | int | bool] = Field(default_factory=dict)
    """Options of the method itself."""

    @field_validator("ratio")
    @classmethod
    def _ratio_is_a_share(cls, ratio: Any) -> Any:
        for share in ratio.values() if isinstance(ratio, dict) else [ratio]:
            if share != "auto" and not 0 <= share <= 1:
                raise ValueError(f"expected a share from 0 to 1, or 'auto', not {share}")
        return ratio


def recovery_passes(local_epochs: int) -> int:
    """Passes of a recovery round where none are named: half of the `local_epochs` of the federation, at least one.

    So the same number of rounds costs at most the same share of retraining, however many passes a round has.
    """
    return max(1, local_epochs // 2)


def make_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build `kind` from `values`; every mistake becomes one sentence in a SettingsError."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part not in ("float", "int")) or "settings"
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
        if first["type"] == "extra_forbidden":
            message = f"there is no such setting; known: {', '.join(sorted(kind.model_fields))}"
        raise SettingsError(f"{name.replace('_', '-')} = {first['input']!r}: {message}.") from error


def settings_from_run_config(run_config: Mapping[str, Any]) -> FederationSettings:
    """Federation settings out of Flower's run configuration: the command line's words, "" for nothing.

    Keys that are no setting of a federation are left to whoever reads them.
    """
    values = {name: run_config.get(name.replace("_", "-"), "") for name in FederationSettings.model_fields}
    return make_settings(FederationSettings, {name: value for name, value in values.items() if value != ""})


def run_config_of(settings: FederationSettings) -> dict[str, Any]:
    """The inverse of `settings_from_run_config`."""
    values = settings.model_dump()
    return {name.replace("_", "-"): "" if value is None else value for name, value in values.items()}
