"""The edge's outside: the wire format, the mesh, the HTTP server, the metrics."""
