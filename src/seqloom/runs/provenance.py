"""What each thing that a run is made of may see; a run says so, and `audit` makes them again to prove it."""

TRAINED = {
    "popularity": "training part",
    "start": "training part; item and user texts; item vectors of another run",
    "batches": "training part",
    "choice of weights": "validation part",
    "textual ids": "item texts",
}
"""Of a system that is trained."""
COMBINED = {
    "popularity": "training part",
    "members": "what each member says of itself",
    "weights of the members": "validation part",
}
"""Of an ensemble."""
