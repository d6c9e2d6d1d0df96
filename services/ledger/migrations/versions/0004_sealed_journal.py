"""The journal is sealed: blocks over its entries, each with the hash of the one before it.

Writers join a lock that they share with each other, by a trigger, so that nothing that inserts can forget it, a program
of release 0003 included. Who takes it alone knows that every entry up to the newest is committed or will never be: ids
of entries are given in one order and committed in another, and a seal that went by what it sees would leave out the
late ones. The keys are 7311 for who writes, 7312 for who seals, each with the table's own oid: schemas of one database
never meet.

What is hashed is fixed by format 1 and described in ADR 0010: `core/seals.py` computes the same in Python.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


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
# Each column as "length:bytes,": no two rows render alike. One expression over texts that are made once: a function per
# column costs more than all the rest.
RENDERED = ", ".join(f"octet_length(convert_to(x.{column}, 'UTF8')), ':', x.{column}, ','" for column in COLUMNS)
LEAF = f"sha256(convert_to(concat(E'llmops journal entry 1\\n', {RENDERED}), 'UTF8'))"

STATEMENTS = [
    """
    -- Of this ledger and no other; a copy keeps it. The first block stands on it.
    CREATE TABLE journal_origin (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        origin bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
            CHECK (octet_length(origin) = 32)
    )
    """,
    "INSERT INTO journal_origin DEFAULT VALUES",
    """
    -- leaves: 32 bytes per entry, in the order of seq. Numbers rise; after an accepted restore they skip what was lost.
    CREATE TABLE journal_blocks (
        number bigint PRIMARY KEY,
        format smallint NOT NULL,
        first_seq bigint NOT NULL,
        last_seq bigint NOT NULL,
        entries integer NOT NULL CHECK (entries > 0),
        sealed_at_us bigint NOT NULL,
        prev_hash bytea NOT NULL,
        leaves bytea NOT NULL,
        hash bytea NOT NULL
    )
    """,
    """
    CREATE FUNCTION refuse_block_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'blocks of the journal are never changed';
    END $$
    """,
    """
    CREATE TRIGGER blocks_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_blocks
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_block_change()
    """,
    """
    CREATE TRIGGER origin_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_origin
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_block_change()
    """,
    """
    CREATE FUNCTION join_writers() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7311, TG_RELID::integer);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER journal_writers_join BEFORE INSERT ON journal
        FOR EACH STATEMENT EXECUTE FUNCTION join_writers()
    """,
    """
    -- Writers queue behind who waits here: it waits shortly, and tries again another time.
    CREATE FUNCTION settled_seq() RETURNS bigint LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(7311, 'journal'::regclass::oid::integer);
        RETURN (SELECT coalesce(max(seq), 0) FROM journal);
    END $$
    """,
    f"""
    -- Seals the next entries up to p_settled_seq; returns how many. Who comes second seals nothing.
    CREATE FUNCTION seal_block(p_settled_seq bigint, p_max_entries integer, p_now_us bigint) RETURNS integer
    LANGUAGE plpgsql AS $$
    DECLARE
        next_block journal_blocks;
        lost_number bigint;
    BEGIN
        IF NOT pg_try_advisory_xact_lock(7312, 'journal'::regclass::oid::integer) THEN
            RETURN 0;
        END IF;
        SELECT b.number + 1, b.last_seq + 1, b.hash
            INTO next_block.number, next_block.first_seq, next_block.prev_hash
            FROM journal_blocks b ORDER BY b.number DESC LIMIT 1;
        IF NOT FOUND THEN
            SELECT 1, 1, origin INTO next_block.number, next_block.first_seq, next_block.prev_hash FROM journal_origin;
        END IF;
        SELECT max((j.answer ->> 0)::bigint) INTO lost_number FROM journal j WHERE j.organisation = '' AND j.kind = 10;
        next_block.number := greatest(next_block.number, lost_number + 1);
        SELECT count(*), max(x.place), string_agg({LEAF}, ''::bytea ORDER BY x.place)
            INTO next_block.entries, next_block.last_seq, next_block.leaves
            FROM (
                SELECT j.seq AS place, {TEXTS} FROM journal j
                WHERE j.seq >= next_block.first_seq AND j.seq <= p_settled_seq ORDER BY j.seq LIMIT p_max_entries
            ) x;
        IF next_block.entries = 0 THEN
            RETURN 0;
        END IF;
        next_block.format := 1;
        next_block.sealed_at_us := p_now_us;
        next_block.hash := sha256(next_block.prev_hash || convert_to(format(
            E'llmops journal block %s\\n%s\\n%s\\n%s\\n%s\\n%s\\n',
            next_block.format, next_block.number, next_block.first_seq, next_block.last_seq, next_block.entries,
            next_block.sealed_at_us), 'UTF8') || next_block.leaves);
        INSERT INTO journal_blocks SELECT next_block.*;
        RETURN next_block.entries;
    END $$
    """,  # noqa: S608 - constants
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
