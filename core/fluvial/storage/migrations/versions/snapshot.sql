-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 78fa55dffc7b220b6b0206de509e135256911e75dcfa08dc407aa771417d1822
CREATE TABLE fluvial_owner (
	id BIGINT NOT NULL, 
	token BLOB NOT NULL, 
	host TEXT NOT NULL, 
	process BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	lease_ms BIGINT NOT NULL, 
	beat BIGINT NOT NULL, 
	CONSTRAINT pk_fluvial_owner PRIMARY KEY (id)
);
CREATE TABLE fluvial_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT fluvial_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "fluvial_version" VALUES('0004');
CREATE TABLE journal (
	"key" BLOB NOT NULL, 
	seq BIGINT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_journal PRIMARY KEY ("key", seq), 
	CONSTRAINT fk_journal_key FOREIGN KEY("key") REFERENCES particles ("key") ON DELETE CASCADE
);
CREATE TABLE outbox (
	"key" BLOB NOT NULL, 
	peer TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	since_ms BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	last_error TEXT NOT NULL, 
	CONSTRAINT pk_outbox PRIMARY KEY ("key", peer), 
	CONSTRAINT fk_outbox_key FOREIGN KEY("key") REFERENCES particles ("key") ON DELETE CASCADE
);
CREATE TABLE particles (
	"key" BLOB NOT NULL, 
	id TEXT NOT NULL, 
	header BLOB NOT NULL, 
	signature BLOB NOT NULL, 
	script_hash BLOB NOT NULL, 
	deadline_ms BIGINT NOT NULL, 
	received_at_ms BIGINT NOT NULL, 
	sender TEXT NOT NULL, 
	hops BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	entries BIGINT NOT NULL, 
	revision BIGINT NOT NULL, initiator BLOB DEFAULT (x'') NOT NULL, bytes BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_particles PRIMARY KEY ("key"), 
	CONSTRAINT fk_particles_script_hash FOREIGN KEY(script_hash) REFERENCES scripts (hash)
);
CREATE TABLE replay_guards (
	"key" BLOB NOT NULL, 
	deadline_ms BIGINT NOT NULL, 
	CONSTRAINT pk_replay_guards PRIMARY KEY ("key")
);
CREATE TABLE scripts (
	hash BLOB NOT NULL, 
	text BLOB NOT NULL, initiator BLOB DEFAULT (x'') NOT NULL, 
	CONSTRAINT pk_scripts PRIMARY KEY (hash)
);
CREATE TABLE stories (
	"key" BLOB NOT NULL, 
	id TEXT NOT NULL, 
	header BLOB NOT NULL, 
	sender TEXT NOT NULL, 
	hops BIGINT NOT NULL, 
	received_at_ms BIGINT NOT NULL, 
	deadline_ms BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	entries BIGINT NOT NULL, 
	initiator BLOB NOT NULL, 
	bytes BIGINT NOT NULL, 
	story BLOB NOT NULL, 
	CONSTRAINT pk_stories PRIMARY KEY ("key")
);
CREATE TABLE ways (
	"key" BLOB NOT NULL, 
	peer TEXT NOT NULL, 
	told TEXT NOT NULL, 
	CONSTRAINT pk_ways PRIMARY KEY ("key", peer), 
	CONSTRAINT fk_ways_key FOREIGN KEY("key") REFERENCES particles ("key") ON DELETE CASCADE
);
CREATE INDEX ix_particles_id ON particles (id);
CREATE INDEX ix_particles_script_hash ON particles (script_hash);
CREATE INDEX ix_particles_deadline_ms ON particles (deadline_ms);
CREATE INDEX ix_particles_received_at_ms ON particles (received_at_ms);
CREATE INDEX ix_particles_state ON particles (state);
CREATE INDEX ix_outbox_peer ON outbox (peer);
CREATE INDEX ix_stories_id ON stories (id);
CREATE INDEX ix_stories_received_at_ms ON stories (received_at_ms);
CREATE INDEX ix_stories_deadline_ms ON stories (deadline_ms);
CREATE INDEX ix_replay_guards_deadline_ms ON replay_guards (deadline_ms);
