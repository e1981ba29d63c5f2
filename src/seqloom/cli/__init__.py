"""Parses arguments and displays progress. The work of the commands is in `seqloom.pipelines`."""
