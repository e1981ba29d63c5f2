"""IDGenRec: learned textual item IDs, and recommendations that are generated."""
