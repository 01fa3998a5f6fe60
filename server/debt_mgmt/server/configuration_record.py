"""The settings as the house's log keeps them: every one in words, the secret ones as digests that tell them apart."""

import hashlib
import importlib.metadata
from functools import cache
from typing import Any

from debt_mgmt.server.config import CATALOGUE, Settings
from debt_mgmt.server.config_sources import Secret, spelled

SALT = b"debt-mgmt setting"


def recorded(settings: Settings) -> dict[str, str]:
    """Every setting by its path."""
    return {setting.path: words(value_at(settings, setting.path)) for setting in CATALOGUE.settings}


def value_at(settings: Any, path: str) -> Any:
    """The value at a path such as `risk_settings.max_leverage`."""
    value = settings
    for name in path.split("."):
        fields = dict(zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True))
        value = getattr(value, fields[name])
    return value


def words(value: Any) -> str:
    return digest(value.reveal()) if isinstance(value, Secret) else spelled(value)


@cache
def digest(secret: str) -> str:
    """Costs enough that guessing a password by it does not pay."""
    return "secret " + hashlib.scrypt(secret.encode(), salt=SALT, n=2**14, r=8, p=1, dklen=6).hex()


def version() -> str:
    """The installed version. "0" where it runs from a folder that was not installed."""
    try:
        return importlib.metadata.version("debt-mgmt")
    except importlib.metadata.PackageNotFoundError:
        return "0"
