"""The data that each part of a run may depend on: recorded in the manifest, proved by `audit`."""

TRAINED = {
    "popularity": "training part",
    "start": "training part; item and user texts; item vectors of another run",
    "batches": "training part",
    "choice of weights": "validation part",
    "textual ids": "item texts",
}
"""Parts of a trained system."""
COMBINED = {
    "popularity": "training part",
    "members": "what each member says of itself",
    "weights of the members": "validation part",
}
"""Parts of an ensemble."""
