-- How long a room's data is kept, ms, where the application says so; NULL: as the server's settings say.
ALTER TABLE rooms ADD COLUMN keep_chat_ms BIGINT;
ALTER TABLE rooms ADD COLUMN keep_log_ms BIGINT;
ALTER TABLE rooms ADD COLUMN keep_meeting_ms BIGINT;
