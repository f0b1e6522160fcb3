-- add_script
INSERT INTO scripts (hash, text, initiator) VALUES (:hash, :text, :initiator) ON CONFLICT DO NOTHING
-- add_particle
INSERT INTO particles ("key", id, header, signature, script_hash, deadline_ms, received_at_ms, sender, hops, state, entries, revision, initiator, bytes) VALUES (:key, :id, :header, :signature, :script_hash, :deadline_ms, :received_at_ms, :sender, :hops, :state, :entries, :revision, :initiator, :bytes) ON CONFLICT DO NOTHING RETURNING revision
-- admit
INSERT INTO particles ("key", id, header, signature, script_hash, deadline_ms, received_at_ms, sender, hops, state, entries, revision, initiator, bytes) VALUES (:key, :id, :header, :signature, :script_hash, :deadline_ms, :received_at_ms, :sender, :hops, :state, :entries, :revision, :initiator, :bytes) ON CONFLICT ("key") DO UPDATE SET state = excluded.state, entries = CASE WHEN (excluded.entries = 0) THEN particles.entries WHEN (particles.entries = 0) THEN excluded.entries END, revision = (particles.revision + 1), bytes = (particles.bytes + :more) RETURNING revision, initiator, bytes, deadline_ms
-- touch
UPDATE particles SET state=:to, entries=(particles.entries + :count), revision=(particles.revision + 1), bytes=(particles.bytes + :more) WHERE particles."key" = :of RETURNING revision, initiator, bytes, deadline_ms
-- advance
UPDATE particles SET state=:to, entries=CASE WHEN (particles.entries = :first) THEN particles.entries + :count END, revision=(particles.revision + 1), bytes=(particles.bytes + :more) WHERE particles."key" = :of RETURNING revision, initiator, bytes, deadline_ms
-- advance_as_it_is
UPDATE particles SET entries=CASE WHEN (particles.entries = :first) THEN particles.entries + :count END, revision=(particles.revision + 1), bytes=(particles.bytes + :more) WHERE particles."key" = :of RETURNING revision, initiator, bytes, deadline_ms
-- length
SELECT particles.entries
FROM particles
WHERE particles."key" = :of
-- as_it_is
SELECT particles.revision, particles.initiator, particles.bytes, particles.deadline_ms
FROM particles
WHERE particles."key" = :of
-- add_entry
INSERT INTO journal ("key", seq, at_ms, kind, payload) VALUES (:key, :seq, :at_ms, :kind, :payload)
-- request
INSERT INTO outbox ("key", peer, version, since_ms, attempts, last_error) VALUES (:key, :peer, (SELECT particles.revision
FROM particles
WHERE particles."key" = :of), :since_ms, :attempts, :last_error) ON CONFLICT ("key", peer) DO UPDATE SET version = excluded.version
-- delivered
DELETE FROM outbox WHERE outbox."key" = :of AND outbox.peer = :to AND outbox.version <= :up_to
-- tried
UPDATE outbox SET attempts=:tries, last_error=:why WHERE outbox."key" = :of AND outbox.peer = :to
-- failed
UPDATE outbox SET attempts=(outbox.attempts + 1), last_error=:why WHERE outbox."key" = :of AND outbox.peer = :to
-- way
INSERT INTO ways ("key", peer, told) SELECT particles."key", CAST(:to AS TEXT) AS anon_1, CAST(:told AS TEXT) AS anon_2
FROM particles
WHERE particles."key" = :of ON CONFLICT ("key", peer) DO UPDATE SET told = CASE WHEN (length(ways.told) <= 240) THEN ways.told || ' ' || excluded.told ELSE ways.told END
-- keys
SELECT particles."key", particles.deadline_ms
FROM particles
WHERE particles.deadline_ms >= :since
-- guarded_keys
SELECT replay_guards."key", replay_guards.deadline_ms
FROM replay_guards
WHERE replay_guards.deadline_ms >= :since
-- large
SELECT particles."key", particles.initiator, particles.deadline_ms, particles.state
FROM particles
WHERE particles.bytes > 32768
-- bytes
SELECT particles.initiator, sum(particles.bytes) AS sum_1
FROM particles GROUP BY particles.initiator
-- story_bytes
SELECT stories.initiator, sum(stories.bytes) AS sum_1
FROM stories GROUP BY stories.initiator
-- script_bytes
SELECT scripts.initiator, length(scripts.text) AS length_1
FROM scripts
-- guards
SELECT count(*) AS count_1
FROM replay_guards
-- live
SELECT particles."key", particles.header, particles.sender
FROM particles
WHERE particles.state = 'live' AND particles.deadline_ms > :now ORDER BY particles.received_at_ms, particles."key"
-- state
SELECT particles.state
FROM particles
WHERE particles."key" = :of
-- load
SELECT particles."key", particles.id, particles.header, particles.signature, particles.script_hash, particles.deadline_ms, particles.received_at_ms, particles.sender, particles.hops, particles.state, particles.entries, particles.revision, particles.initiator, particles.bytes, scripts.text AS script
FROM particles JOIN scripts ON scripts.hash = particles.script_hash
WHERE particles."key" = :of
-- journal
SELECT journal.seq, journal.at_ms, journal.kind, journal.payload
FROM journal
WHERE journal."key" = :of ORDER BY journal.seq
-- outbox
SELECT outbox."key", outbox.peer, outbox.version, outbox.since_ms, outbox.attempts, outbox.last_error, particles.deadline_ms, particles.initiator, particles.sender
FROM outbox JOIN particles ON particles."key" = outbox."key"
WHERE outbox."key" = :of ORDER BY outbox.peer
-- due
SELECT outbox."key", outbox.peer, outbox.version, outbox.since_ms, outbox.attempts, outbox.last_error, particles.deadline_ms, particles.initiator, particles.sender
FROM outbox JOIN particles ON particles."key" = outbox."key"
WHERE particles.deadline_ms > :now ORDER BY outbox.since_ms, outbox."key", outbox.peer
-- due_to
SELECT outbox."key", outbox.peer, outbox.version, outbox.since_ms, outbox.attempts, outbox.last_error, particles.deadline_ms, particles.initiator, particles.sender
FROM outbox JOIN particles ON particles."key" = outbox."key"
WHERE particles.deadline_ms > :now AND outbox.peer = :to ORDER BY outbox.since_ms, outbox."key", outbox.peer
-- ways
SELECT ways.peer, ways.told
FROM ways
WHERE ways."key" = :of ORDER BY ways.peer
-- story
SELECT stories.story
FROM stories
WHERE stories."key" = :of
-- story_state
SELECT stories.state
FROM stories
WHERE stories."key" = :of
-- guard
SELECT replay_guards."key"
FROM replay_guards
WHERE replay_guards."key" = :of
-- recent
SELECT particles."key", particles.id, particles.header, particles.sender, particles.hops, particles.received_at_ms, particles.deadline_ms, particles.state, particles.entries, (SELECT count(*) AS count_1
FROM outbox
WHERE outbox."key" = particles."key") AS waiting
FROM particles ORDER BY particles.received_at_ms DESC, particles."key"
 LIMIT :most OFFSET 0
-- recent_stories
SELECT stories."key", stories.id, stories.header, stories.sender, stories.hops, stories.received_at_ms, stories.deadline_ms, stories.state, stories.entries, 0 AS waiting
FROM stories ORDER BY stories.received_at_ms DESC, stories."key"
 LIMIT :most OFFSET 0
-- found
SELECT particles."key", particles.id, particles.header, particles.sender, particles.hops, particles.received_at_ms, particles.deadline_ms, particles.state, particles.entries, (SELECT count(*) AS count_1
FROM outbox
WHERE outbox."key" = particles."key") AS waiting
FROM particles
WHERE particles.id >= :low AND particles.id <= :high ORDER BY particles.received_at_ms DESC, particles."key"
 LIMIT :most OFFSET 0
-- found_stories
SELECT stories."key", stories.id, stories.header, stories.sender, stories.hops, stories.received_at_ms, stories.deadline_ms, stories.state, stories.entries, 0 AS waiting
FROM stories
WHERE stories.id >= :low AND stories.id <= :high ORDER BY stories.received_at_ms DESC, stories."key"
 LIMIT :most OFFSET 0
-- dead
SELECT particles."key", particles.script_hash, particles.deadline_ms, particles.initiator, particles.bytes, particles.bytes + (SELECT length(scripts.text) AS length_1
FROM scripts
WHERE scripts.hash = particles.script_hash) AS size
FROM particles
WHERE particles.deadline_ms < :end ORDER BY particles.deadline_ms
 LIMIT :most OFFSET 0
-- tied
SELECT particles."key", particles.script_hash, particles.deadline_ms, particles.initiator, particles.bytes, particles.bytes + (SELECT length(scripts.text) AS length_1
FROM scripts
WHERE scripts.hash = particles.script_hash) AS size, particles.state = 'finished' AND NOT (EXISTS (SELECT *
FROM outbox
WHERE outbox."key" = particles."key")) AS ended, particles.rowid AS place
FROM particles
WHERE particles.deadline_ms = :since AND particles.rowid > :after ORDER BY particles.deadline_ms, particles.rowid
 LIMIT :most OFFSET 0
-- later
SELECT particles."key", particles.script_hash, particles.deadline_ms, particles.initiator, particles.bytes, particles.bytes + (SELECT length(scripts.text) AS length_1
FROM scripts
WHERE scripts.hash = particles.script_hash) AS size, particles.state = 'finished' AND NOT (EXISTS (SELECT *
FROM outbox
WHERE outbox."key" = particles."key")) AS ended, particles.rowid AS place
FROM particles
WHERE particles.deadline_ms > :since ORDER BY particles.deadline_ms, particles.rowid
 LIMIT :most OFFSET 0
-- ended
SELECT particles."key", particles.id, particles.header, particles.signature, particles.script_hash, particles.deadline_ms, particles.received_at_ms, particles.sender, particles.hops, particles.state, particles.entries, particles.revision, particles.initiator, particles.bytes
FROM particles
WHERE particles."key" = :of AND (particles.deadline_ms < :end OR particles.state = 'finished' AND NOT (EXISTS (SELECT *
FROM outbox
WHERE outbox."key" = particles."key")))
-- old_stories
SELECT stories."key", stories.deadline_ms, stories.initiator, stories.bytes, stories.bytes AS size
FROM stories
WHERE stories.deadline_ms <= :end ORDER BY stories.deadline_ms
 LIMIT :most OFFSET 0
-- forget
DELETE FROM particles WHERE particles."key" IN (__[POSTCOMPILE_keys])
-- forget_scripts
DELETE FROM scripts WHERE scripts.hash IN (__[POSTCOMPILE_hashes]) AND NOT (EXISTS (SELECT *
FROM particles
WHERE particles.script_hash = scripts.hash)) RETURNING initiator, length(text) AS length_1
-- forget_stories
DELETE FROM stories WHERE stories."key" IN (__[POSTCOMPILE_keys])
-- forget_guards
DELETE FROM replay_guards WHERE replay_guards."key" IN (SELECT replay_guards."key"
FROM replay_guards
WHERE replay_guards.deadline_ms < :end
 LIMIT :most OFFSET 0)
-- add_guard
INSERT INTO replay_guards ("key", deadline_ms) VALUES (:key, :deadline_ms) ON CONFLICT DO NOTHING
-- add_story
INSERT INTO stories ("key", id, header, sender, hops, received_at_ms, deadline_ms, state, entries, initiator, bytes, story) VALUES (:key, :id, :header, :sender, :hops, :received_at_ms, :deadline_ms, :state, :entries, :initiator, :bytes, :story) ON CONFLICT DO NOTHING RETURNING bytes
