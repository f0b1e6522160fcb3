-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 1e243ee0109f1cc9e836bec99ccd86411e0f3c7477f767f085eb941ca2444bb6
CREATE TABLE kademlia_contacts (
	peer TEXT NOT NULL, 
	addresses TEXT NOT NULL, 
	seen_ms BIGINT NOT NULL, 
	PRIMARY KEY (peer)
);
CREATE TABLE kademlia_provided (
	"key" BLOB NOT NULL, 
	challenge BLOB NOT NULL, 
	value BLOB NOT NULL, 
	service TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE kademlia_publications (
	"key" BLOB NOT NULL, 
	challenge BLOB NOT NULL, 
	record BLOB NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE kademlia_records (
	"key" BLOB NOT NULL, 
	provider TEXT NOT NULL, 
	challenge BLOB NOT NULL, 
	record BLOB NOT NULL, 
	since_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, 
	PRIMARY KEY ("key", provider)
);
CREATE TABLE kademlia_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT kademlia_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "kademlia_version" VALUES('0001');
