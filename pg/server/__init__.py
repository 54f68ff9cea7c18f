"""A model behind a port: the engine, the form of the API, limits, the page."""
