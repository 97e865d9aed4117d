"""What the rows say that several services share, read past all of them."""

from __future__ import annotations

from postgres_server import PostgresServer

#: its plan's id and its index
Segment = tuple[str, int]

#: rows of segments are deleted with their plan: what they said last
_WITNESS = """
CREATE TABLE {schema}.witness (plan_id TEXT, "index" BIGINT, attempt_count BIGINT);
CREATE FUNCTION {schema}.bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {schema}.witness VALUES (old.plan_id, old."index", old.attempt_count);
    RETURN old;
END $$;
CREATE TRIGGER witness AFTER DELETE ON {schema}.segments FOR EACH ROW EXECUTE FUNCTION {schema}.bear_witness();
"""


class SharedRows:
    """A schema of a server.

    Args:
        server: runs.
        schema: of services that have been started.
    """

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self._server = server
        self._schema = schema

    def call_witness(self) -> None:
        """Have it remembered how often each segment was attempted."""
        self._server.execute(_WITNESS.format(schema=self._schema))

    def attempts(self) -> dict[Segment, int]:
        """How often each segment was attempted of each plan that is gone."""
        found = self._server.execute(f'SELECT plan_id, "index", attempt_count FROM {self._schema}.witness')
        return {(str(plan_id), int(str(index))): int(str(count)) for plan_id, index, count in found}

    def segments(self, state: str) -> frozenset[Segment]:
        """The segments in a state, such as leased."""
        query = f'SELECT plan_id, "index" FROM {self._schema}.segments WHERE state = %s'
        found = self._server.execute(query, state)
        return frozenset((str(plan_id), int(str(index))) for plan_id, index in found)

    def is_changing(self) -> bool:
        """Whether a change is under way; the server may still be at the last COMMIT of a service that was killed."""
        return bool(self._server.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"))

    def replica_of(self, job_id: str) -> str | None:
        """The id of the replica that drives a job; None where none does."""
        query = f"SELECT document -> 'driver' ->> 'replica_id' FROM {self._schema}.jobs WHERE job_id = %s"
        ((found,),) = self._server.execute(query, job_id)
        return None if found is None else str(found)
