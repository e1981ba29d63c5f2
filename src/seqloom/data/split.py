"""Splits a log into training and held-out events: leave-one-out, or by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqloom.core.errors import DataError
from seqloom.data.timestamps import SECOND, iso


@dataclass(frozen=True)
class Split:
    """The positions of each user's split, as `seqloom.data.events.Events` stores them."""

    train_end: np.ndarray
    """[users] int64, the position after the last training event."""
    valid: np.ndarray
    """[users] int64, the position of the validation target, or -1."""
    test: np.ndarray
    """[users] int64, the position of the test target, or -1."""
    unused: int = 0
    """Events that are neither a training event, nor a target, nor in the history of a target."""


def leave_one_out(offsets: np.ndarray) -> Split:
    """Splits by leave-one-out: the last event is the test target, the second last the validation target.

    Users with fewer than three events stay in training only.
    """
    ends = offsets[1:]
    long_enough = np.diff(offsets) >= 3
    return Split(
        train_end=np.where(long_enough, ends - 2, ends),
        valid=np.where(long_enough, ends - 2, -1),
        test=np.where(long_enough, ends - 1, -1),
    )


def drop_targets(split: Split, dropped: np.ndarray, offsets: np.ndarray) -> Split:
    """Removes targets from a split; training part, histories and the other targets stay as they are.

    Shapes: dropped [events] bool, offsets [users + 1].
    """
    valid, test = (
        np.where((at >= 0) & dropped[at], -1, at) if len(dropped) else at
        for at in (split.valid, split.test)
    )
    last_used = np.maximum(split.train_end, np.maximum(valid, test) + 1)
    return Split(split.train_end, valid, test, unused=int((offsets[1:] - last_used).sum()))


def temporal_bounds(
    times: np.ndarray, valid_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """Returns the seconds at which the validation and test periods begin, for these shares of the events.

    `times` are in microseconds, in any order.
    """
    ranks = temporal_ranks(len(times), valid_fraction, test_fraction)
    sorted_there = np.partition(times, ranks)
    valid_from, test_from = (int(sorted_there[rank]) // SECOND for rank in ranks)
    return valid_from, test_from


def temporal_ranks(number: int, valid_fraction: float, test_fraction: float) -> list[int]:
    """Returns the ranks, of `number` sorted times, at which the validation and test periods begin."""
    return [
        min(int(number * (1 - valid_fraction - test_fraction)), number - 1),
        min(int(number * (1 - test_fraction)), number - 1),
    ]


def check_temporal(first: int, valid_from: int, test_from: int) -> None:
    """Checks that a log whose first event is at `first` (microseconds) can be split at these seconds.

    Raises:
        DataError: the test period begins before the validation period, or training is empty.
    """
    if test_from < valid_from:
        raise DataError(
            f"the test period ({iso(test_from)}) begins before the validation period "
            f"({iso(valid_from)}); swap them"
        )
    if first >= valid_from * SECOND:
        raise DataError(
            f"no event is before the validation period ({iso(valid_from)}), so there is nothing to train "
            f"on; the log begins at {iso(first // SECOND)}: choose a later time or smaller fractions"
        )


def temporal_split(
    times: np.ndarray, users: np.ndarray, offsets: np.ndarray, valid_from: int, test_from: int
) -> Split:
    """Splits a log by time: events before `valid_from` (seconds) are training events.

    A user's first event in the validation or test period is the target; its history is all events of the
    user before it. The validation period ends where the test period begins. `times` (microseconds) and
    `users` are in time order.

    Raises:
        DataError: the test period begins before the validation period, or training is empty.
    """
    check_temporal(int(times.min()), valid_from, test_from)
    return split_at(times, users, offsets, valid_from, test_from)


def split_at(
    times: np.ndarray, users: np.ndarray, offsets: np.ndarray, valid_from: int, test_from: int
) -> Split:
    """Does the same for some users of a log, without the checks: none needs to have a training event."""
    num_users = len(offsets) - 1
    before_valid = offsets[:-1] + np.bincount(
        users[times < valid_from * SECOND], minlength=num_users
    )
    before_test = offsets[:-1] + np.bincount(users[times < test_from * SECOND], minlength=num_users)
    valid = np.where(before_valid < before_test, before_valid, -1)
    test = np.where(before_test < offsets[1:], before_test, -1)
    last_used = np.maximum(before_valid, np.maximum(valid, test) + 1)
    return Split(before_valid, valid, test, unused=int((offsets[1:] - last_used).sum()))
