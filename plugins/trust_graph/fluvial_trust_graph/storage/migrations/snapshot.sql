-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: 4f2e10970fb329687c39d53f489740d34b811c3812ff16427b1281a4fd0faf0c
CREATE TABLE trust_roots (
	peer BLOB NOT NULL, 
	exponent BIGINT NOT NULL, 
	CONSTRAINT pk_trust_roots PRIMARY KEY (peer)
);
CREATE TABLE trust_statements (
	issuer BLOB NOT NULL, 
	subject BLOB NOT NULL, 
	statement BLOB NOT NULL, 
	CONSTRAINT pk_trust_statements PRIMARY KEY (issuer, subject)
);
CREATE TABLE trust_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT trust_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "trust_version" VALUES('0001');
