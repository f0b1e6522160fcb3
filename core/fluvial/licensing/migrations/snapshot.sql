-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: d639551efc6b0051d24fed1159ccaac4f3ff026a377e3460f31290b9a4eb66be
CREATE TABLE licences_used (
	licence BLOB NOT NULL, 
	licensee BLOB NOT NULL, 
	service TEXT NOT NULL, 
	amount BIGINT NOT NULL, 
	signature BLOB NOT NULL, 
	used BIGINT NOT NULL, seen BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_licences_used PRIMARY KEY (licence)
);
CREATE TABLE licences_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT licences_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "licences_version" VALUES('0002');
