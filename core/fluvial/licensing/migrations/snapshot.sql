-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 51f280c0ab08423f426a41c40ce63ebde8022b4549501cbfa5bf1708d0400f44
CREATE TABLE licences_used (
	licence BLOB NOT NULL, 
	licensee BLOB NOT NULL, 
	service TEXT NOT NULL, 
	amount BIGINT NOT NULL, 
	signature BLOB NOT NULL, 
	used BIGINT NOT NULL, 
	CONSTRAINT pk_licences_used PRIMARY KEY (licence)
);
CREATE TABLE licences_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT licences_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "licences_version" VALUES('0001');
