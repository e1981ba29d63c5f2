"""English words that say nothing about an item."""

_WORDS = """
    a about after all also an and any are as at be been but by can do does each etc for from get
    has have her his how if in into is it its just like made make makes many may more most much
    my new no not of off on one only or other our out over own per so some such than that the
    their them then there these they this those to too under up use used uses using very was we
    well were what when where which while who will with within without you your
"""
STOP_WORDS = frozenset(_WORDS.split())
