"""What requests with idempotency keys were answered."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("scope", sa.LargeBinary, primary_key=True, comment="32 bytes: whose key, which RPC, which key"),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="32 bytes: what was asked"),
        sa.Column("owner", sa.Text, nullable=False, comment="who claimed the key"),
        sa.Column("finished", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("answer", sa.LargeBinary, comment="llmops.orchestrator.v1.CompleteResponse"),
        sa.Column("failure", sa.LargeBinary, comment="google.rpc.Status"),
        sa.Column(
            "expire_time",
            sa.TIMESTAMP(timezone=True),
            nullable=False,
            comment="of the claim while it is not finished, then of the answer",
        ),
    )
    # Answers are read once or never, and are short: compressing costs more than it saves.
    op.execute("ALTER TABLE answers ALTER COLUMN answer SET STORAGE EXTERNAL")
    op.create_index("answers_expire_time", "answers", ["expire_time"])
    op.create_index("answers_organisation", "answers", ["organisation"])


def downgrade() -> None:
    op.drop_table("answers")
