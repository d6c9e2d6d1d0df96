"""Leaves are read along the index, however much the planner knows of the journal.

Of a table without statistics, as a new one is, it expected few entries in any range: from 128 at a time on it fetched
all of them and sorted them, which took 23 ms instead of one.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for way in ("seqscan", "bitmapscan", "sort"):
        op.execute(f"ALTER FUNCTION journal_leaves SET enable_{way} = off")
