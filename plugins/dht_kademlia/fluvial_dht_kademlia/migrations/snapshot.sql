-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 5ec599f101d14f49546c051c8dc1bd57ff19f3b7d826d9c6e906546c4245ab42
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
	expires_ms BIGINT NOT NULL, sender TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY ("key", provider)
);
CREATE TABLE kademlia_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT kademlia_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "kademlia_version" VALUES('0002');
