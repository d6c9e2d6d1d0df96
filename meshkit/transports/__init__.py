"""How a call travels: in the same process, or over gRPC. Both stand behind the generated stubs.

Both give the same answers: deadline, principal, trace context, cancellation and errors alike. A third transport
implements `unary_unary`, `unary_stream`, `stream_unary` and `stream_stream` of a channel, as these two do.
"""
