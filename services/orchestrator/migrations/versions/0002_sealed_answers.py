"""Answers are sealed under keys that the database does not have.

What was kept before cannot be sealed now, because its keys are the clients': it is dropped, in clear as it lay. A
duplicate of a request of the last day (`retention_s`) is asked and paid anew, once, after this migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not DELETE: the text leaves the disk with the old file.
    op.execute("TRUNCATE answers")
    op.drop_column("answers", "answer")
    op.drop_column("answers", "failure")
    comment = "format, nonce, AES-256-GCM; services/orchestrator/adapters/sealing.py"
    op.add_column("answers", sa.Column("sealed", sa.LargeBinary, comment=comment))
    op.execute("ALTER TABLE answers ALTER COLUMN sealed SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("TRUNCATE answers")
    op.drop_column("answers", "sealed")
    op.add_column("answers", sa.Column("answer", sa.LargeBinary))
    op.add_column("answers", sa.Column("failure", sa.LargeBinary))
