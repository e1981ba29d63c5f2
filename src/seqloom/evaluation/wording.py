"""The words for groups of users, in sentences, tables and figures."""

from __future__ import annotations

ALL_USERS = "all"

LABELS = {
    ALL_USERS: "all users",
    "tail_item": "rare items",
    "head_item": "popular items",
    "tail_user": "short histories",
    "head_user": "long histories",
    "cold_item": "new items",
    "warm_item": "trained items",
    "new_user": "new users",
    "known_user": "users with a history",
    "repeat_target": "repeated items",
    "new_target": "items new to the user",
    "tied_target": "tied times",
    "untied_target": "untied times",
}
"""Group of users -> its name for readers; files keep the key."""


def group_label(group: str) -> str:
    """Returns the name of a group: `tail_item` is `rare items`."""
    return LABELS.get(group, group.replace("_", " "))


def in_group(group: str) -> str:
    """Returns the name of a group with its preposition: `on rare items`, `for short histories`."""
    preposition = "on" if group.endswith(("_item", "_target")) else "for"
    return f"{preposition} {group_label(group)}"
