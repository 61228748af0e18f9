BEGIN TRANSACTION;
CREATE TABLE api_key (
	prefix TEXT NOT NULL, 
	name TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	scopes JSON NOT NULL, 
	created BIGINT NOT NULL, 
	expires BIGINT, 
	last_used BIGINT, 
	revoked BIGINT, 
	CONSTRAINT pk_api_key PRIMARY KEY (prefix)
);
INSERT INTO "api_key" VALUES('0000000000','main','0000000000000000000000000000000000000000000000000000000000000000','["mailboxes:read", "mailboxes:write", "monitoring:read", "monitoring:write", "sweeps:run"]',1780315286123456,NULL,NULL,NULL);
INSERT INTO "api_key" VALUES('0000000001','büro','0000000000000000000000000000000000000000000000000000000000000001','["sweeps:run"]',1780315286123456,1788091286123456,1780315286123456,NULL);
INSERT INTO "api_key" VALUES('0000000002','old','0000000000000000000000000000000000000000000000000000000000000002','[]',1780315286123456,1788091286123456,NULL,1780315286123456);
CREATE TABLE artifact (
	place TEXT NOT NULL, 
	path TEXT NOT NULL, 
	entry INTEGER NOT NULL, 
	position INTEGER, 
	destination TEXT NOT NULL, 
	role TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	name TEXT, 
	part TEXT NOT NULL, 
	receipt_size BIGINT, 
	receipt_at BIGINT, 
	receipt_etag TEXT, 
	CONSTRAINT pk_artifact PRIMARY KEY (place, path), 
	CONSTRAINT fk_artifact_entry FOREIGN KEY(entry) REFERENCES entry (id)
);
INSERT INTO "artifact" VALUES('memory:one','invoice.eml',1,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',3,1780315210123456,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 1.eml',4,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 10.eml',13,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 11.eml',14,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 2.eml',5,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 3.eml',6,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 4.eml',7,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 5.eml',8,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 6.eml',9,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 7.eml',10,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 8.eml',11,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','first 9.eml',12,NULL,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('/srv/ß','c.eml',14,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','p.eml',6,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'1-1',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','p.pdf',6,1,'one','attachment',1,3,'abababababababababababababababababababababababababababababababab','ü.pdf','',NULL,NULL,NULL);
INSERT INTO "artifact" VALUES('memory:one','s.eml',7,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',1099511627776,1780315215123456,NULL);
INSERT INTO "artifact" VALUES('memory:one','t.eml',8,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',1099511627776,1780315215123456,NULL);
INSERT INTO "artifact" VALUES('memory:one','u.eml',9,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',1099511627776,1780315215123456,NULL);
INSERT INTO "artifact" VALUES('memory:one','tagged.eml',15,0,'one','mail',0,3,'abababababababababababababababababababababababababababababababab',NULL,'',3,1780315428123456,'W/"größe-☃"');
CREATE TABLE configuration (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	document JSON NOT NULL, 
	secrets JSON NOT NULL, 
	version INTEGER NOT NULL, 
	created BIGINT NOT NULL, 
	changed BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	changed_by TEXT NOT NULL, 
	dropped BIGINT, 
	CONSTRAINT pk_configuration PRIMARY KEY (id)
);
INSERT INTO "configuration" VALUES('00000000-0000-0000-0000-0000000000aa','swept','{"mailbox": "in@our.example", "active": true, "password": "\u2022\u2022\u2022", "folders": ["INBOX"], "since": null}','{"password": "sealed:1:AAAA", "destinations/one/password": "sealed:1:\u00c4\u00d6"}',3,1780315200123456,1780315286123456,'','the key main',NULL);
INSERT INTO "configuration" VALUES('00000000-0000-0000-0000-0000000000bb','brüchig','{"username": "j\u00f6rg", "active": false}','{}',1,1780315210123456,1780315210123456,'','',1780315346123456);
INSERT INTO "configuration" VALUES('00000000-0000-0000-0000-0000000000cc','held again','{"active": false}','{}',2,1780315366123456,1780315366123456,'jörg','jörg',NULL);
INSERT INTO "configuration" VALUES('00000000-0000-0000-0000-0000000000dd','gone','{"port": 0}','{}',2,1780315286123456,1780315346123456,'jörg','two',1780315356123456);
CREATE TABLE entry (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	mailbox TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	uidvalidity TEXT NOT NULL, 
	uid TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	strong TEXT, 
	"key" TEXT NOT NULL, 
	received BIGINT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	sender TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	sender_folded TEXT NOT NULL, 
	subject_folded TEXT NOT NULL, 
	message_id TEXT NOT NULL, 
	size BIGINT, 
	stage TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	dismissed BOOLEAN DEFAULT 0 NOT NULL, 
	due_at BIGINT, 
	attempts INTEGER NOT NULL, 
	suspect BOOLEAN NOT NULL, 
	in_hand BIGINT NOT NULL, 
	last_tried BIGINT, 
	batch TEXT, 
	complete BOOLEAN NOT NULL, 
	care SMALLINT NOT NULL, 
	care_folder TEXT, 
	error TEXT, 
	trouble JSON, 
	reason TEXT NOT NULL, 
	defects JSON, 
	moved_to JSON, 
	CONSTRAINT uq_entry_mailbox_folder_uidvalidity_uid UNIQUE (mailbox, folder, uidvalidity, uid)
);
INSERT INTO "entry" VALUES(1,'00000000-0000-0000-0000-0000000000aa','INBOX','1','1','00000000000000000000000000000001','S1','000000000001',1780228800123456,1780315200123456,'','','','','',1001,'settled','',0,NULL,0,0,0,NULL,NULL,1,0,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(2,'00000000-0000-0000-0000-0000000000aa','INBOX','1','2','00000000000000000000000000000002',NULL,'000000000002',1780142400123456,1780315200123456,'Jörg2@firm.example','Straße 2, 100 % ''"','jörg2@firm.example','strasse 2, 100 % ''"','<2@firm.example>',NULL,'found','pending',0,1780315200123456,0,0,0,NULL,NULL,0,0,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(3,'00000000-0000-0000-0000-0000000000aa','INBOX','1','3','00000000000000000000000000000003','S3','000000000003',1780056000123456,1780315200123456,'Jörg3@firm.example','Straße 3, 100 % ''"','jörg3@firm.example','strasse 3, 100 % ''"','<3@firm.example>',1003,'waiting','failed',0,1780315200123456,2,0,0,1780315210123456,NULL,0,0,NULL,'DestinationRefused','{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}','',NULL,NULL);
INSERT INTO "entry" VALUES(4,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','1','00000000000000000000000000000001','S1','000000000001',1780228800123456,1780315200123456,'Jörg1@firm.example','Straße 1, 100 % ''"','jörg1@firm.example','strasse 1, 100 % ''"','<1@firm.example>',1001,'found','pending',0,1780315220123456,0,0,1,1780315216123456,NULL,0,0,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(5,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','2','00000000000000000000000000000002',NULL,'000000000002',1780142400123456,1780315200123456,'Jörg2@firm.example','Straße 2, 100 % ''"','jörg2@firm.example','strasse 2, 100 % ''"','<2@firm.example>',NULL,'waiting','failed',1,1780315221123456,3,1,0,1780315216123456,NULL,0,0,NULL,'DestinationRefused','{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}','',NULL,NULL);
INSERT INTO "entry" VALUES(6,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','3','00000000000000000000000000000003','S3','000000000003',1780056000123456,1780315200123456,'Jörg3@firm.example','Straße 3, 100 % ''"','jörg3@firm.example','strasse 3, 100 % ''"','<3@firm.example>',1003,'planned','pending',0,1780315222123456,0,0,0,1780315216123456,'00000000-0000-0000-0000-0000000000bb.1.7.nonce',0,0,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(7,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','4','00000000000000000000000000000004',NULL,'000000000004',1779969600123456,1780315200123456,'Jörg4@firm.example','Straße 4, 100 % ''"','jörg4@firm.example','strasse 4, 100 % ''"','<4@firm.example>',1004,'stored','stored',0,1780315223123456,0,0,0,1780315216123456,NULL,0,2,'Erledigt',NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(8,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','5','00000000000000000000000000000005','S5','000000000005',1779883200123456,1780315200123456,'Jörg5@firm.example','Straße 5, 100 % ''"','jörg5@firm.example','strasse 5, 100 % ''"','<5@firm.example>',1005,'settled','stored',0,NULL,0,0,0,1780315216123456,NULL,0,3,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(9,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','6','00000000000000000000000000000006',NULL,'000000000006',1779796800123456,1780315200123456,'Jörg6@firm.example','Straße 6, 100 % ''"','jörg6@firm.example','strasse 6, 100 % ''"','<6@firm.example>',1006,'untidied','failed',1,NULL,9,0,0,1780315216123456,NULL,0,0,NULL,'DestinationRefused','{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}','',NULL,NULL);
INSERT INTO "entry" VALUES(10,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','7','00000000000000000000000000000007','S7','000000000007',1779710400123456,1780315200123456,'Jörg7@firm.example','Straße 7, 100 % ''"','jörg7@firm.example','strasse 7, 100 % ''"','<7@firm.example>',1007,'skipped','skipped',0,1780315226123456,0,0,0,1780315216123456,NULL,0,2,'Nein',NULL,NULL,'the sender is not wanted',NULL,NULL);
INSERT INTO "entry" VALUES(11,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','8','00000000000000000000000000000008',NULL,'000000000008',1779624000123456,1780315200123456,'','','','','',1008,'vanished','',0,NULL,0,0,0,1780315216123456,NULL,0,0,NULL,NULL,NULL,'',NULL,NULL);
INSERT INTO "entry" VALUES(12,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','9','00000000000000000000000000000009','S9','000000000009',1779537600123456,1780315200123456,'Jörg9@firm.example','Straße 9, 100 % ''"','jörg9@firm.example','strasse 9, 100 % ''"','<9@firm.example>',1009,'set aside','skipped',0,NULL,0,0,0,1780315216123456,NULL,0,0,NULL,NULL,NULL,'no attachment that is allowed',NULL,NULL);
INSERT INTO "entry" VALUES(13,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','10','0000000000000000000000000000000a',NULL,'00000000000a',1779451200123456,1780315200123456,'Jörg10@firm.example','Straße 10, 100 % ''"','jörg10@firm.example','strasse 10, 100 % ''"','<10@firm.example>',1010,'given up','failed',0,NULL,9,0,0,1780315216123456,NULL,0,0,NULL,'DestinationRefused','{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}','','["torn", "unknown charset ''x''"]',NULL);
INSERT INTO "entry" VALUES(14,'00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','1','11','0000000000000000000000000000000b','S11','00000000000b',1779364800123456,1780315200123456,'Jörg11@firm.example','Straße 11, 100 % ''"','jörg11@firm.example','strasse 11, 100 % ''"','<11@firm.example>',1011,'unconfirmed','failed',0,NULL,0,0,0,1780315216123456,NULL,1,0,NULL,'DestinationRefused','{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}','',NULL,NULL);
INSERT INTO "entry" VALUES(15,'00000000-0000-0000-0000-0000000000cc','INBOX','1','1','00000000000000000000000000000001','S1','000000000001',1780228800123456,1780315200123456,'Jörg1@firm.example','Straße 1, 100 % ''"','jörg1@firm.example','strasse 1, 100 % ''"','<1@firm.example>',1001,'settled','stored',0,NULL,0,1,0,NULL,NULL,0,2,'Erledigt/☃',NULL,NULL,'',NULL,'["Erledigt/\u2603", "7", "9"]');
CREATE TABLE folder (
	mailbox TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	cursor TEXT NOT NULL, 
	older BIGINT NOT NULL, 
	CONSTRAINT pk_folder PRIMARY KEY (mailbox, folder)
);
INSERT INTO "folder" VALUES('00000000-0000-0000-0000-0000000000aa','INBOX','1:3',4);
INSERT INTO "folder" VALUES('00000000-0000-0000-0000-0000000000bb','Gesendet/Ältere','9:12',0);
INSERT INTO "folder" VALUES('00000000-0000-0000-0000-0000000000cc','INBOX','1:1',0);
CREATE TABLE lease (
	mailbox TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	owner TEXT, 
	until BIGINT NOT NULL, 
	next_due BIGINT, 
	report JSON, 
	last_success BIGINT, 
	failing_since BIGINT, 
	CONSTRAINT pk_lease PRIMARY KEY (mailbox)
);
INSERT INTO "lease" VALUES('00000000-0000-0000-0000-0000000000aa',1,NULL,1780315270123456,1780315515123456,'{"mailbox": "00000000-0000-0000-0000-0000000000aa", "state": "done", "started": 1780315200123456, "ended": 1780315215123456, "folders": [{"folder": "INBOX", "stored": 1, "skipped": 0, "failed": 1, "pending": 1, "older": 4, "trouble": null}], "tidied": 1, "server": "a server, IMAP4rev1", "trouble": null, "remarks": ["slow"]}',1780315215123456,NULL);
INSERT INTO "lease" VALUES('00000000-0000-0000-0000-0000000000bb',1,NULL,1780315275123456,NULL,NULL,NULL,NULL);
INSERT INTO "lease" VALUES('00000000-0000-0000-0000-0000000000cc',3,NULL,1780315548123456,1780315788123456,NULL,NULL,NULL);
INSERT INTO "lease" VALUES('00000000-0000-0000-0000-0000000000dd',1,NULL,1780315286123456,NULL,NULL,NULL,NULL);
CREATE TABLE maildaemon_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT maildaemon_version_pkc PRIMARY KEY (version_num));
INSERT INTO "maildaemon_version" VALUES('0005');
CREATE TABLE repeat (
	"key" TEXT NOT NULL, 
	request TEXT NOT NULL, 
	mailbox TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	answer JSON, 
	CONSTRAINT pk_repeat PRIMARY KEY ("key")
);
INSERT INTO "repeat" VALUES('0000000000000000000000000000000000000000000000000000000000000000','0000000000000000000000000000000000000000000000000000000000000007','00000000-0000-0000-0000-0000000000aa',1780228966123456,NULL);
INSERT INTO "repeat" VALUES('0000000000000000000000000000000000000000000000000000000000000001','0000000000000000000000000000000000000000000000000000000000000008','00000000-0000-0000-0000-0000000000dd',1780232566123456,'{"status": 201, "body": {"name": "gr\u00f6\u00dfer", "tags": ["a", null], "size": 1099511627776}}');
CREATE INDEX ix_artifact_entry ON artifact (entry);
CREATE INDEX ix_configuration_dropped ON configuration (dropped);
CREATE INDEX ix_entry_due ON entry (mailbox, stage, id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_entry_fingerprint ON entry (mailbox, fingerprint);
CREATE INDEX ix_entry_in_hand ON entry (mailbox, in_hand) WHERE in_hand > 0;
CREATE INDEX ix_entry_mailbox_outcome ON entry (mailbox, outcome, dismissed, id);
CREATE INDEX ix_entry_open ON entry (mailbox, folder, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_entry_outcome ON entry (outcome, dismissed, id);
CREATE INDEX ix_entry_strong ON entry (mailbox, strong) WHERE strong IS NOT NULL;
CREATE INDEX ix_repeat_at ON repeat (at, "key");
CREATE UNIQUE INDEX ix_api_key_name ON api_key (name) WHERE revoked IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('entry',20);
COMMIT;
