"""The edge's decisions: errors, headers, parameters, framing, admission and the life of a stream."""
