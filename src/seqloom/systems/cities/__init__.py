"""CITIES: tail items' vectors inferred from the items around them."""
