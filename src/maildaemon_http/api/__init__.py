"""The REST API: Litestar around the core, one file per noun."""
