"""The base of all exams: what any level must fulfil, and how the points of an exam are run."""

import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from pydantic import ValidationError

from ablate.identity import derive
from ablate.slots import Metric, Settings, registry
from ablate.slots.level_file import Level


class Missing(AssertionError):
    """A point that the level does not fulfil. The message says what was found, what was expected, and what to do."""


@dataclass(frozen=True)
class Point:
    """The outcome of one point of an exam.

    `name`: of the test method. `claim`: what the level should do. `status`: "not tried" where the level could not be
    built. `message`: what is missing.
    """

    name: str
    claim: str
    status: Literal["ok", "missing", "not tried"]
    message: str = ""


def point(method: Callable[[Any, Any], None]) -> Callable[[Any], None]:
    """Turn a method that examines a built level into a test method, which runs it for each set of settings.

    Whatever the level raises becomes a `Missing` that says where.
    """

    def run(self: "Exam") -> None:
        for settings in self.all_settings:
            given = f" (with settings {json.dumps(settings)})" if settings else ""
            try:
                method(self, self.build(settings))
            except Missing as error:
                raise Missing(f"{error}{given}") from error
            except (Exception, SystemExit) as error:
                raise Missing(f"{self.describe(error)}{given}") from error

    run.__name__, run.__doc__ = method.__name__, method.__doc__
    return run


class Exam:
    """What a level of any slot must fulfil. Inherit the class of the slot and set `level`.

    `settings`: the settings to examine it with, or several sets of them. Required fields that the exam knows, such as
    a loss term's `weight`, may be left out.
    """

    slot: ClassVar[str]
    level: ClassVar[str]
    settings: ClassVar[Mapping[str, Any] | Sequence[Mapping[str, Any]]] = {}

    examples: ClassVar[Mapping[str, Any]] = {}
    """Values for required fields that `settings` leaves out."""

    signature: ClassVar[str] = "build(config)"
    """How `build` is called, for messages."""

    def test_introduces_itself(self) -> None:
        """the file's docstring says what the level is"""
        if not self.described.doc:
            raise Missing(f"{self.file} has no docstring; the first line of the file says what the level is")

    def test_explains_its_settings(self) -> None:
        """Config's docstring explains every setting"""
        config = self.described.Config
        texts = [parent.__doc__ or "" for parent in config.__mro__ if issubclass(parent, Settings)]
        if not config.__doc__:
            raise Missing('Config has no docstring; write what each setting means, or "No settings."')
        for name in config.model_fields:
            if not any(f"`{name}`" in text for text in texts):
                raise Missing(f"Config's docstring does not explain `{name}`; add what it means, and its unit if any")

    def test_settings_survive_a_round_trip(self) -> None:
        """settings, defaults included, are valid and stay the same when they are written and read again"""
        for settings in self.all_settings:
            config = self.read(settings)
            plain = config.plain()
            try:
                again = self.described.Config.read(json.loads(json.dumps(plain)))
            except ValidationError as error:
                found = error.errors()[0]
                name = ".".join(map(str, found["loc"]))
                raise Missing(
                    f"the default of `{name}` is not valid: {found['msg']}, found {found['input']!r}"
                ) from error
            if again != config:
                raise Missing(f"settings change when they are written and read: {plain} became {again.plain()}")

    def test_source_and_module_agree(self) -> None:
        """Config and METRICS read from the source, without running the file, are those of the module"""
        light, module = self.described, self.module
        if module.Config.model_json_schema() != light.Config.model_json_schema():
            raise Missing("Config of the module has other fields than its class statement in the source")
        if tuple(getattr(module, "METRICS", ())) != tuple(light.metrics):
            raise Missing("METRICS of the module are not those in the source; assign them once, at the top level")
        if not isinstance(light.metrics, tuple) or not all(isinstance(one, Metric) for one in light.metrics):
            raise Missing(f"METRICS must be a tuple of Metric, found {light.metrics!r}")
        if bool(light.metrics) != (self.slot == "probe"):
            expected = "a probe declares its METRICS" if self.slot == "probe" else "only probes have METRICS"
            raise Missing(f"{expected}, found {len(light.metrics)}")

    def test_can_be_built(self) -> None:
        """build makes the level from its settings"""
        if not callable(getattr(self.module, "build", None)):
            raise Missing(f"{self.file} defines no build; expected {self.signature}")
        for settings in self.all_settings:
            arguments = self.arguments(self.read(settings))
            try:
                inspect.signature(self.module.build).bind(None, *arguments)
            except TypeError:
                found = f"build{inspect.signature(self.module.build)}"
                raise Missing(f"build is called as {self.signature}, found {found}") from None
            try:
                self.build(settings)
            except (Exception, SystemExit) as error:
                raise Missing(self.describe(error)) from error

    def arguments(self, config: Any) -> tuple[Any, ...]:
        """What `build` is given after the settings."""
        return ()

    def build(self, settings: Mapping[str, Any]) -> Any:
        """The level, built with these settings and equal weights each time. The global generators stay as they were."""
        config = self.read(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.module.build(self.module.Config.read(config.plain()), *self.arguments(config))

    def read(self, settings: Mapping[str, Any]) -> Any:
        """The `Config` of these settings and of `examples`. Raises Missing for a setting that is wrong or not given."""
        config = self.described.Config
        required = {name for name, field in config.model_fields.items() if field.is_required()}
        known = {name: value for name, value in self.examples.items() if name in required}
        try:
            return config.read({**known, **settings})
        except ValidationError as error:
            found = error.errors()[0]
            name = ".".join(map(str, found["loc"]))
            if found["type"] == "missing":
                message = f"the exam needs the setting '{name}': give it by --set {name}=VALUE, or in `settings`"
                raise Missing(message) from None
            raise Missing(f"settings: {name}: {found['msg']}, found {found['input']!r}") from None

    @property
    def all_settings(self) -> Sequence[Mapping[str, Any]]:
        """The sets of settings to examine the level with."""
        return [self.settings] if isinstance(self.settings, Mapping) else self.settings

    @cached_property
    def described(self) -> Level:
        """The level as its source describes it."""
        return registry.level(self.slot, self.level)

    @cached_property
    def module(self) -> ModuleType:
        """The level's module."""
        return registry.load(self.slot, self.level)

    @property
    def file(self) -> str:
        """The level's file, from the folder of levels on."""
        return "/".join(self.described.path.parts[-3:])

    def describe(self, error: BaseException) -> str:
        """An error that the level raised, with the line of the level's file that it came from."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename).name == self.described.path.name]
        where = f" at {self.file}:{own[-1]}" if own else ""
        return f"raises {type(error).__name__}{where}: {error}"

    def run(self) -> Iterator[Point]:
        """Run all points, those of any level first. Once the level cannot be built, the rest is not tried."""
        stopped = False
        for name in self.points():
            method = getattr(self, name)
            claim = (method.__doc__ or name).strip()
            if stopped:
                yield Point(name, claim, "not tried")
                continue
            try:
                method()
            except (Exception, SystemExit) as error:
                message = str(error) if isinstance(error, AssertionError) else self.describe(error)
                yield Point(name, claim, "missing", message)
                stopped = name in {"test_settings_survive_a_round_trip", "test_can_be_built"}
            else:
                yield Point(name, claim, "ok")

    @classmethod
    def points(cls) -> list[str]:
        """Names of the test methods, those of the base classes first, in the order of their definition."""
        names = [name for parent in reversed(cls.__mro__) for name in vars(parent) if name.startswith("test_")]
        return list(dict.fromkeys(names))


def seed_of(purpose: str) -> int:
    """A seed for each purpose, as levels are given it."""
    return derive(0, "exam", purpose)
