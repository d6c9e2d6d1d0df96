"""Since when a user is disabled: what was begun before is ended for a while, and not for ever.

A replica from before cannot disable or enable users any more: it would leave no time, or an old one.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN disable_time timestamptz")
    op.execute("UPDATE users SET disable_time = now() WHERE disabled")
    op.execute("ALTER TABLE users ADD CONSTRAINT disabled_since CHECK (disabled = (disable_time IS NOT NULL))")


def downgrade() -> None:
    op.drop_column("users", "disable_time")
