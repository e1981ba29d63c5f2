"""Serving trained runs over HTTP: engine, history store, application, explorer page."""
