"""Helpers that several tests share: small data sets, models and servers."""
