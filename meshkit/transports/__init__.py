"""How a call travels: in the same process, over gRPC, or with others over one stream, always behind generated stubs.

All three give the same answers: deadline, principal, trace context, cancellation and errors alike. A channel has
`unary_unary`, `unary_stream`, `stream_unary` and `stream_stream`; a unary call returns a future that has begun already.
"""
