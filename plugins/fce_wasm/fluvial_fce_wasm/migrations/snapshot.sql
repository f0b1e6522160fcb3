-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: bca82125744caabe244a568dc62ba3aef393d6c8e6e791effd0e2baa61676f76
CREATE TABLE fce_aliases (
	alias TEXT NOT NULL, 
	service TEXT NOT NULL, 
	CONSTRAINT pk_fce_aliases PRIMARY KEY (alias)
);
CREATE TABLE fce_blueprints (
	id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	added_ms BIGINT NOT NULL, added_by TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_fce_blueprints PRIMARY KEY (id)
);
CREATE TABLE fce_modules (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	shape BLOB NOT NULL, 
	added_by TEXT NOT NULL, 
	added_ms BIGINT NOT NULL, 
	CONSTRAINT pk_fce_modules PRIMARY KEY (id)
);
CREATE TABLE fce_services (
	id TEXT NOT NULL, 
	blueprint TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	CONSTRAINT pk_fce_services PRIMARY KEY (id)
);
CREATE TABLE fce_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT fce_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "fce_version" VALUES('0002');
