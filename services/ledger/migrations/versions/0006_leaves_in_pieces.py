"""Leaves are hashed in pieces, between which others run: one statement over a block took a core for its whole length.

The leaves are those of 0004. Lengths are taken without a copy in UTF-8 where the database is in UTF-8 anyway, which
saves a seventh of the work. `seal_block` of 0004 stays for processes of the release before.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = (
    "seq",
    "at_us",
    "organisation",
    "kind",
    "request_id",
    "fingerprint",
    "reservation_id",
    "held_delta_nano_usd",
    "spent_delta_nano_usd",
    "counter_ids",
    "postings",
    "lines",
    "note",
    "answer",
    "meters",
)
TEXTS = ", ".join(f"j.{column}::text AS {column}" for column in COLUMNS)


def leaf(length: str) -> str:
    """SQL of a leaf over the columns of `x` as texts; `length` is that of one in bytes of UTF-8."""
    rendered = ", ".join(f"{length.format('x.' + column)}, ':', x.{column}, ','" for column in COLUMNS)
    return f"sha256(convert_to(concat(E'llmops journal entry 1\\n', {rendered}), 'UTF8'))"


def leaves(length: str) -> str:
    """SQL that hashes the next entries."""
    return f"""
        SELECT count(*), max(x.place), string_agg({leaf(length)}, ''::bytea ORDER BY x.place)
            INTO entries, last_seq, leaves
            FROM (
                SELECT j.seq AS place, {TEXTS} FROM journal j
                WHERE j.seq > p_after_seq AND j.seq <= p_settled_seq ORDER BY j.seq LIMIT p_max_entries
            ) x;
    """  # noqa: S608 - constants


# Asked each time: a dump may be restored into a database of another encoding.
JOURNAL_LEAVES = f"""
CREATE FUNCTION journal_leaves(
    p_after_seq bigint, p_settled_seq bigint, p_max_entries integer,
    OUT entries integer, OUT last_seq bigint, OUT leaves bytea
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_setting('server_encoding') = 'UTF8' THEN
        {leaves("octet_length({})")}
    ELSE
        {leaves("octet_length(convert_to({}, 'UTF8'))")}
    END IF;
END $$
"""

APPEND_BLOCK = """
-- For whoever has the sealers' lock (7312). The leaves are of all entries after the block before, up to p_last_seq.
CREATE FUNCTION append_block(p_last_seq bigint, p_entries integer, p_leaves bytea, p_now_us bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    next_block journal_blocks;
    lost_number bigint;
BEGIN
    IF octet_length(p_leaves) <> 32 * p_entries THEN
        RAISE EXCEPTION '% bytes of leaves for % entries', octet_length(p_leaves), p_entries;
    END IF;
    SELECT b.number + 1, b.last_seq + 1, b.hash
        INTO next_block.number, next_block.first_seq, next_block.prev_hash
        FROM journal_blocks b ORDER BY b.number DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT 1, 1, origin INTO next_block.number, next_block.first_seq, next_block.prev_hash FROM journal_origin;
    END IF;
    SELECT max((j.answer ->> 0)::bigint) INTO lost_number FROM journal j WHERE j.organisation = '' AND j.kind = 10;
    next_block.number := greatest(next_block.number, lost_number + 1);
    next_block.format := 1;
    next_block.last_seq := p_last_seq;
    next_block.entries := p_entries;
    next_block.leaves := p_leaves;
    next_block.sealed_at_us := p_now_us;
    next_block.hash := sha256(next_block.prev_hash || convert_to(format(
        E'llmops journal block %s\\n%s\\n%s\\n%s\\n%s\\n%s\\n',
        next_block.format, next_block.number, next_block.first_seq, next_block.last_seq, next_block.entries,
        next_block.sealed_at_us), 'UTF8') || next_block.leaves);
    INSERT INTO journal_blocks SELECT next_block.*;
END $$
"""


def upgrade() -> None:
    op.execute(JOURNAL_LEAVES)
    op.execute(APPEND_BLOCK)
