"""The third transport: short calls between processes of the mesh, many of them over one stream per replica.

A unary gRPC hop costs what it costs for being set up: about 270 us of CPU on both sides, whatever it carries. Here a
stream stays open and each of its messages carries all that was waiting when the one before it had been sent: no timer,
no window. `channel` is what stubs get, `server` what a process answers with; docs/adr/0001 says what was measured.
"""
