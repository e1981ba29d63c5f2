"""Pages: what templates show is escaped, and numbers read well."""

from __future__ import annotations

import subprocess
import sys

import jinja2
import pytest

from seqloom.reports.pages import _environment, capitalize_first


def test_all_templates_escape_and_load() -> None:
    environment = _environment()
    names = environment.list_templates(extensions=["j2"])
    assert {"comparison.html.j2", "sweep.html.j2"} <= set(names)
    for name in names:
        environment.get_template(name)
    macros = environment.get_template("macros.html.j2").make_module()
    cell = "<b>'&\""
    assert "<td>&lt;b&gt;&#39;&amp;&#34;</td>" in macros.row("name", [cell])  # type: ignore[attr-defined]


def test_only_the_svg_of_figures_is_not_escaped() -> None:
    environment = _environment()
    assert environment.loader is not None
    sources = {
        name: environment.loader.get_source(environment, name)[0]
        for name in environment.list_templates()
    }
    unescaped = {name: source.count("safe }}") for name, source in sources.items()}
    assert {name: count for name, count in unescaped.items() if count} == {"macros.html.j2": 1}
    assert "autoescape" not in "".join(sources.values())


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        _environment().get_template("sweep.html.j2").render(report=None, runs=1)


def test_only_the_first_letter_changes() -> None:
    assert capitalize_first("nDCG of IDs") == "NDCG of IDs"
    assert capitalize_first("") == ""


def test_times_are_dates() -> None:
    fact = _environment().filters["fact"]
    assert fact("1997-09-20T03:05:10Z to 1998-04-22T23:10:38Z") == "20 Sep 1997 to 22 Apr 1998"
    assert (fact(0.25), fact(1200), fact("-62135596800")) == ("0.25", "1,200", "-62135596800")


def test_the_package_loads_no_templates() -> None:
    code = "import sys, seqloom.cli.main; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
