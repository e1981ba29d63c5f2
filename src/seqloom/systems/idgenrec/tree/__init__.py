"""Names from a tree: a hierarchy of items by what is bought together and by their words."""
