"""Options of the command line that are generated from a model's fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field, model_validator
from typer.testing import CliRunner, Result

from seqloom.cli.model_options import Chosen, OptionForm, build, model_options
from seqloom.core.config import Config


class Base(Config):
    """Fields of a base class."""

    user_column: str | None = None
    """Name of the user column."""


class Options(Base):
    """Every kind of field."""

    min_count: int = Field(5, ge=0)
    """Fewest events; see `user_column`."""
    share: float = Field(0.1, gt=0, lt=1)
    """A share."""
    header: bool = True
    """Whether there is a header."""
    columns: list[str] | None = None
    """Columns to keep."""
    split: Literal["last", "time"] = "last"
    """How to split."""
    begin: str | int | None = None
    """When; needs `split`."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.begin is not None and self.split != "time":
            raise ValueError("begin needs split='time' and no user_column")
        return self


Call = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def call() -> Call:
    seen: dict[str, Any] = {}
    app = typer.Typer(add_completion=False)

    @app.command()
    @model_options(Options, panel="Rest", panels={Base: "Reading"}, skip=["share"])
    def command(
        log: Annotated[str, typer.Argument()],
        chosen: Chosen,
        quiet: Annotated[bool, typer.Option("--quiet")] = False,
    ) -> None:
        """A command."""
        seen.update(log=log, quiet=quiet, chosen=chosen, options=build(Options, chosen))

    def run(*arguments: str) -> tuple[Result, dict[str, Any]]:
        seen.clear()
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
        return result, dict(seen)

    return run


def test_what_is_not_given_is_left_to_the_model(call: Call) -> None:
    result, seen = call("a.csv")
    assert result.exit_code == 0
    assert seen["chosen"] == {}
    assert seen["options"] == Options()
    assert (seen["log"], seen["quiet"]) == ("a.csv", False)


def test_every_kind_of_field_is_parsed(call: Call) -> None:
    _, seen = call(
        *("a.csv", "--user-column", "who", "--min-count", "0", "--no-header", "--quiet"),
        *("--columns", "title, brand", "--split", "time", "--begin", "2024-01-01"),
    )
    assert seen["quiet"]
    assert seen["options"] == Options(
        user_column="who",
        min_count=0,
        header=False,
        columns=["title", "brand"],
        split="time",
        begin="2024-01-01",
    )


def test_the_help_has_the_docstring_the_default_and_the_panel(call: Call) -> None:
    text = call("--help")[0].output
    assert "Fewest events; see --user-column. [default: 5]" in text
    assert "--no-header" in text
    assert "[default: --header]" in text
    assert text.index("Reading") < text.index("--user-column")
    assert "--share" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--min-count", "-1"), "Invalid value for --min-count: -1 is not allowed"),
        (("--split", "half"), "'half' is not one of 'last', 'time'"),
        (("--begin", "3"), "needs --split time and no --user-column"),
    ],
)
def test_errors_name_options(call: Call, arguments: tuple[str, ...], message: str) -> None:
    result, _ = call("a.csv", *arguments)
    assert result.exit_code == 2
    assert message in result.output


class Nested(Config):
    """A part of `Whole`."""

    budget_ms: float = 100.0
    """A budget."""
    exact: bool = True
    """Whether to search exactly."""


class Whole(Config):
    """A model with another one in it."""

    url: str = "a"
    """A URL."""
    proxies: tuple[str, ...] = ()
    """Addresses."""
    part: Nested = Field(default_factory=Nested)
    """The part."""


def test_fields_of_nested_models() -> None:
    chosen_values: list[Chosen] = []
    app = typer.Typer(add_completion=False)

    @app.command()
    @model_options(
        Whole,
        only=["url", "proxies", "part.budget_ms", "part.exact"],
        forms={
            "url": OptionForm(envvar="SOME_URL"),
            "proxies": OptionForm("--proxy", repeated=True),
            "part.exact": OptionForm("--exact/--approximate"),
        },
        into="settings",
    )
    def command(*, settings: Chosen) -> None:
        """A command."""
        chosen_values.append(settings)
        build(Whole, settings)

    arguments = ["--proxy", "x", "--proxy", "y", "--approximate", "--budget-ms", "5"]
    assert CliRunner().invoke(app, arguments, env={"SOME_URL": "b"}).exit_code == 0
    expected = {"url": "b", "proxies": ["x", "y"], "part": {"exact": False, "budget_ms": 5.0}}
    assert chosen_values == [expected]
    result = CliRunner().invoke(app, ["--budget-ms", "nan", "--proxy", ""])
    assert result.exit_code == 0


class Two(Config):
    """Two nested models with a field of the same name."""

    first: Base = Field(default_factory=Base)
    second: Base = Field(default_factory=Base)


def test_nested_fields_of_one_name_have_options_of_their_own() -> None:
    seen: dict[str, Any] = {}
    app = typer.Typer(add_completion=False)
    paths = ["first.user_column", "second.user_column"]

    @app.command()
    @model_options(Two, only=paths, forms={paths[1]: OptionForm("--second")})
    def command(chosen: Chosen) -> None:
        """A command."""
        seen.update(chosen)

    arguments = ["--first-user-column", "a", "--second", "b"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert seen == {"first": {"user_column": "a"}, "second": {"user_column": "b"}}
