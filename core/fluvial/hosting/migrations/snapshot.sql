-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 568e1c3eb71ac42ba6400ee33fd855f1a9957521be5887e19c6b781641656b61
CREATE TABLE consensus_blocks (
	height BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_blocks PRIMARY KEY (height)
);
CREATE TABLE consensus_epochs (
	epoch BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_epochs PRIMARY KEY (epoch)
);
CREATE TABLE consensus_keys (
	peer BLOB NOT NULL, 
	chain BLOB NOT NULL, 
	votes_from BIGINT NOT NULL, 
	CONSTRAINT pk_consensus_keys PRIMARY KEY (peer)
);
CREATE TABLE consensus_offences (
	offender BLOB NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_offences PRIMARY KEY (offender)
);
CREATE TABLE consensus_proofs (
	height BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_proofs PRIMARY KEY (height)
);
CREATE TABLE consensus_records (
	number BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_records PRIMARY KEY (number)
);
CREATE TABLE consensus_snapshots (
	height BIGINT NOT NULL, 
	number BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	entry BLOB NOT NULL, 
	CONSTRAINT pk_consensus_snapshots PRIMARY KEY (height, number)
);
CREATE TABLE consensus_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT consensus_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "consensus_version" VALUES('0002');
