"""Modules that every layer uses: errors, files, tables, pictures, compiled kernels, provenance."""
