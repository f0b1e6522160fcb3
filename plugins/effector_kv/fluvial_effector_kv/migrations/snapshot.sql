-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: b8e934e5c001498ef127f38e6f12b805883fb2e235e0e6f3b05ae9a5f90c3133
CREATE TABLE kv_entries (
	store TEXT NOT NULL, 
	"key" BLOB NOT NULL, 
	value BLOB NOT NULL, 
	CONSTRAINT pk_kv_entries PRIMARY KEY (store, "key")
);
CREATE TABLE kv_usage (
	store TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	entries BIGINT NOT NULL, 
	CONSTRAINT pk_kv_usage PRIMARY KEY (store)
);
CREATE TABLE kv_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT kv_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "kv_version" VALUES('0001');
