"""One directory per process of the mesh; see docs/architecture.md."""
