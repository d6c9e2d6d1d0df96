"""The `llmops` command and the launcher: the top of the import graph."""

import os

# Read when gRPC's core is loaded. Our processes start children (PostgreSQL) but never go on in a fork, and the handlers
# write a warning into the log each time.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
