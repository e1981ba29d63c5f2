"""Systems by name."""

from __future__ import annotations

import pytest

from seqloom.core.errors import ConfigError
from seqloom.systems.registry import config_class, names, system_class


@pytest.mark.parametrize("name", names())
def test_the_configuration_is_that_of_the_system(name: str) -> None:
    assert config_class(name) is system_class(name).config_class


@pytest.mark.parametrize("find", [config_class, system_class])
def test_an_unknown_name_is_refused_with_a_suggestion(find: object) -> None:
    assert callable(find)
    with pytest.raises(ConfigError, match="'sasrek'; did you mean 'sasrec'"):
        find("sasrek")
