"""The data set and the evaluated runs that the tests of evaluation share."""

from support.evaluated_runs import dataset, make_run, make_table

__all__ = ["dataset", "make_run", "make_table"]
