"""Where settings come from: a YAML file, the environment and the command line, each read into checked values."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from debt_mgmt.core import money

NULL, TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"
WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
Part = TypeVar("Part", bound=msgspec.Struct)
SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Secret:
    """A value that no repr, log line or error message shows; `reveal` gives it to the library that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Key(msgspec.Struct, frozen=True):
    """What is known about one setting beside its type and its default. Bounds hold for every number in it."""

    says: str
    unit: str = ""
    above: int | None = None
    least: int | None = None
    below: int | None = None
    most: int | None = None
    pattern: str = ""
    """What a text, or each name in a mapping, must look like from end to end."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings: its fields are keys of the YAML file, annotated with a Key, or sections in turn."""


class Setting(msgspec.Struct, frozen=True):
    """One setting with all that is known about it."""

    path: str
    """As in the YAML file, dotted: risk_settings.max_leverage."""
    variable: str
    """Its name in the environment."""
    kind: Any
    """Its type, without the Key."""
    key: Key
    default: Any


class Given(msgspec.Struct, frozen=True):
    """What one source says about one setting, unparsed."""

    node: yaml.Node
    origin: str


class Catalogue:
    """All settings, found by path and by variable, and what a misspelt one was probably meant to be."""

    def __init__(self, settings: tuple[Setting, ...], other_variables: Mapping[str, str]) -> None:
        self.settings = settings
        self.by_path = {setting.path: setting for setting in settings}
        self.by_variable = {setting.variable: setting for setting in settings}
        self.sections = {path[:end] for path in self.by_path for end in range(len(path)) if path[end] == "."}
        self.other_variables = other_variables
        first = settings[::-1]
        self._paths = {setting.path.rpartition(".")[2]: setting.path for setting in first}
        self._paths |= {path: path for path in (*self.by_path, *self.sections)}
        self._variables = {
            f"DEBT_MGMT_{path.replace('.', '_')}".upper(): s.variable for path, s in self.by_path.items()
        }
        self._variables |= {name: name for name in (*self.by_variable, *other_variables)}

    def meant_path(self, wrong: str) -> str:
        return suggestion(wrong, self._paths)

    def meant_variable(self, wrong: str) -> str:
        return suggestion(wrong, self._variables)


def suggestion(wrong: str, guesses: Mapping[str, str]) -> str:
    """The end of an error message: what `wrong` was probably meant to be, if anything is like it."""
    close = difflib.get_close_matches(wrong, guesses, n=1)
    return f"; did you mean {guesses[close[0]]}?" if close else ""


def settings_of(section: msgspec.Struct, variable_of: Callable[[str], str], prefix: str = "") -> Iterator[Setting]:
    """Every setting below `section`, whose present values are the defaults."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    for field in msgspec.structs.fields(type(section)):
        value, path, hint = getattr(section, field.name), prefix + field.encode_name, hints[field.name]
        if isinstance(value, Section):
            yield from settings_of(value, variable_of, f"{path}.")
        elif typing.get_origin(hint) is Annotated:
            kind, key = typing.get_args(hint)
            yield Setting(path, variable_of(path), kind, key, value)


def filled(part: Part, values: Mapping[str, Any], prefix: str = "") -> Part:
    """`part` with each setting below it replaced by the value under its path."""
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(part)):
        value, path = getattr(part, field.name), prefix + field.encode_name
        if isinstance(value, Section):
            changes[field.name] = filled(value, values, f"{path}.")
        elif path in values:
            changes[field.name] = values[path]
    return msgspec.structs.replace(part, **changes)


def read_file(file: Path, catalogue: Catalogue, problems: list[str]) -> dict[str, Given]:
    """What the YAML file says, by path. What it should not say is added to `problems`."""
    try:
        root = yaml.compose(file.read_text("utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file}: can't be read: {error}")
        return {}
    except yaml.YAMLError as error:
        problems.append(f"{file}: is not YAML: {' '.join(str(error).split())}")
        return {}
    return {} if root is None else dict(keys_of(root, "", file, catalogue, problems))


def keys_of(
    node: yaml.Node, prefix: str, file: Path, catalogue: Catalogue, problems: list[str]
) -> Iterator[tuple[str, Given]]:
    """The settings below one mapping of the file; a section left empty has none."""
    if node.tag == NULL:
        return
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{place(file, node)}: {prefix.rstrip('.') or 'the file'} must be a mapping of keys to values")
        return
    seen: set[str] = set()
    for name, value in node.value:
        path = f"{prefix}{name.value}"
        if path in seen:
            problems.append(f"{place(file, name)}: {path} stands here a second time")
        elif path in catalogue.by_path:
            yield path, Given(value, place(file, name))
        elif path in catalogue.sections:
            yield from keys_of(value, f"{path}.", file, catalogue, problems)
        else:
            problems.append(f"{place(file, name)}: unknown key {path}{catalogue.meant_path(path)}")
        seen.add(path)


def place(file: Path, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}"


def read_environment(environment: Mapping[str, str], catalogue: Catalogue, problems: list[str]) -> dict[str, Given]:
    """What the environment says, by path. An empty value says nothing, as `${NAME:-}` in a compose file means it."""
    given: dict[str, Given] = {}
    for name, text in sorted(environment.items()):
        setting = catalogue.by_variable.get(name)
        if setting is not None and text:
            given[setting.path] = Given(node_of(setting, text), f"environment {name}")
        elif setting is None and name.startswith("DEBT_MGMT_") and name not in catalogue.other_variables:
            problems.append(f"environment {name}: unknown name{catalogue.meant_variable(name)}")
    return given


def read_flags(flags: Mapping[str, str], catalogue: Catalogue) -> dict[str, Given]:
    """What the command line says, by path."""
    return {path: Given(node_of(catalogue.by_path[path], text), "command line") for path, text in flags.items()}


def node_of(setting: Setting, text: str) -> yaml.Node:
    """`text` from outside the file: YAML where the setting is a mapping, else one plain value; null is none."""
    if typing.get_origin(setting.kind) is not Mapping:
        return yaml.ScalarNode(NULL if text == "null" else TEXT, text)
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode(NULL, "")
    except yaml.YAMLError:
        return yaml.ScalarNode(TEXT, text)


def parse(kind: Any, key: Key, node: yaml.Node) -> Any:
    """The value of type `kind` that `node` spells; raises ValueError saying what it is and what it must be."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if node.tag == NULL else parse(arguments[0], key, node)
    if node.tag == NULL or (not node.value and isinstance(node, yaml.ScalarNode)):
        raise ValueError("needs a value")
    if origin is Mapping:
        return mapping_of(arguments[1], key, node)
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError("must be one value, not a list or a mapping")
    if origin is Literal:
        if node.value not in arguments:
            raise ValueError(f"is {node.value!r}, must be one of {', '.join(arguments)}")
        return node.value
    return READERS[kind](key, node.value)


def mapping_of(kind: Any, key: Key, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("must be a mapping of names to values")
    names = [matched(key, str(name.value)) for name, _ in node.value]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names {', '.join(repeated)} more than once")
    return {name: parse(kind, key, value) for name, (_, value) in zip(names, node.value, strict=True)}


def matched(key: Key, text: str) -> str:
    if key.pattern and re.fullmatch(key.pattern, text) is None:
        raise ValueError(f"is {text!r}, must be {key.unit or 'a name'} of the form {key.pattern}")
    return text


def decimal_of(key: Key, text: str) -> Decimal:
    try:
        value = money.parse(text)
    except ValueError:
        raise ValueError(f"is {text!r}, must be a plain decimal number such as 0.25") from None
    within(key, value)
    return value


def whole_of(key: Key, text: str) -> int:
    if WHOLE_NUMBER.fullmatch(text) is None:
        raise ValueError(f"is {text!r}, must be a whole number")
    within(key, Decimal(text))
    return int(text)


def switch_of(key: Key, text: str) -> bool:
    if text.lower() not in SWITCHES:
        raise ValueError(f"is {text!r}, must be true or false")
    return SWITCHES[text.lower()]


def within(key: Key, value: Decimal) -> None:
    """Raises ValueError where a bound of the key does not hold."""
    for bound, holds, says in (
        (key.above, value.__gt__, "above"),
        (key.least, value.__ge__, "at least"),
        (key.below, value.__lt__, "below"),
        (key.most, value.__le__, "at most"),
    ):
        if bound is not None and not holds(bound):
            raise ValueError(f"is {spelled(value)}, must be {says} {bound}")


READERS: Mapping[Any, Callable[[Key, str], Any]] = {
    Decimal: decimal_of,
    int: whole_of,
    float: lambda key, text: float(decimal_of(key, text)),
    bool: switch_of,
    str: matched,
    Path: lambda key, text: Path(text),
    Secret: lambda key, text: Secret(text),
}


def spelled(value: Any) -> str:
    """`value` as it is written in the YAML file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return format(value, "g")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {spelled(part)}" for name, part in value.items()) + "}"
    return str(value)
