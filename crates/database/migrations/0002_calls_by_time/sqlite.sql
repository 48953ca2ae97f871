-- Calls are listed by the time at which they began: their ids follow from the carrier's id and tell no time. For SQLite.
DROP INDEX calls_workspace;
DROP INDEX calls_number;
DROP INDEX calls_agent;
CREATE INDEX calls_workspace ON calls (workspace_id, started_at, id);
CREATE INDEX calls_number ON calls (number_id, started_at, id);
CREATE INDEX calls_agent ON calls (agent_id, started_at, id);

-- The oldest are forgotten first.
CREATE INDEX calls_started_at ON calls (started_at);
