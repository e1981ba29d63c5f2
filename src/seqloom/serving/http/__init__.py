"""The HTTP interface: routes, problems, access tokens, metrics, the explorer page."""
