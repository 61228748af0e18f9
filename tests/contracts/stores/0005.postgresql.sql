CREATE TABLE public.api_key (
    prefix text NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    scopes json NOT NULL,
    created bigint NOT NULL,
    expires bigint,
    last_used bigint,
    revoked bigint
);
CREATE TABLE public.artifact (
    place text NOT NULL,
    path text NOT NULL,
    entry bigint NOT NULL,
    "position" integer,
    destination text NOT NULL,
    role text NOT NULL,
    number integer NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    name text,
    part text NOT NULL,
    receipt_size bigint,
    receipt_at bigint,
    receipt_etag text
);
CREATE TABLE public.configuration (
    id text NOT NULL,
    name text NOT NULL,
    document json NOT NULL,
    secrets json NOT NULL,
    version integer NOT NULL,
    created bigint NOT NULL,
    changed bigint NOT NULL,
    created_by text NOT NULL,
    changed_by text NOT NULL,
    dropped bigint
);
CREATE TABLE public.entry (
    id bigint NOT NULL,
    mailbox text NOT NULL,
    folder text NOT NULL,
    uidvalidity text NOT NULL,
    uid text NOT NULL,
    fingerprint text NOT NULL,
    strong text,
    key text NOT NULL,
    received bigint NOT NULL,
    first_seen bigint NOT NULL,
    sender text NOT NULL,
    subject text NOT NULL,
    sender_folded text NOT NULL,
    subject_folded text NOT NULL,
    message_id text NOT NULL,
    size bigint,
    stage text NOT NULL,
    outcome text NOT NULL,
    dismissed boolean DEFAULT false NOT NULL,
    due_at bigint,
    attempts integer NOT NULL,
    suspect boolean NOT NULL,
    in_hand bigint NOT NULL,
    last_tried bigint,
    batch text,
    complete boolean NOT NULL,
    care smallint NOT NULL,
    care_folder text,
    error text,
    trouble json,
    reason text NOT NULL,
    defects json,
    moved_to json
);
CREATE SEQUENCE public.entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.entry_id_seq OWNED BY public.entry.id;
CREATE TABLE public.folder (
    mailbox text NOT NULL,
    folder text NOT NULL,
    cursor text NOT NULL,
    older bigint NOT NULL
);
CREATE TABLE public.lease (
    mailbox text NOT NULL,
    token bigint NOT NULL,
    owner text,
    until bigint NOT NULL,
    next_due bigint,
    report json,
    last_success bigint,
    failing_since bigint
);
CREATE TABLE public.maildaemon_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.repeat (
    key text NOT NULL,
    request text NOT NULL,
    mailbox text NOT NULL,
    at bigint NOT NULL,
    answer json
);
ALTER TABLE ONLY public.entry ALTER COLUMN id SET DEFAULT nextval('public.entry_id_seq'::regclass);
INSERT INTO public.api_key VALUES ('0000000000', 'main', '0000000000000000000000000000000000000000000000000000000000000000', '["mailboxes:read", "mailboxes:write", "monitoring:read", "monitoring:write", "sweeps:run"]', 1780315286123456, NULL, NULL, NULL);
INSERT INTO public.api_key VALUES ('0000000001', 'büro', '0000000000000000000000000000000000000000000000000000000000000001', '["sweeps:run"]', 1780315286123456, 1788091286123456, 1780315286123456, NULL);
INSERT INTO public.api_key VALUES ('0000000002', 'old', '0000000000000000000000000000000000000000000000000000000000000002', '[]', 1780315286123456, 1788091286123456, NULL, 1780315286123456);
INSERT INTO public.artifact VALUES ('/srv/ß', 'c.eml', 14, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 1.eml', 4, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 10.eml', 13, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 11.eml', 14, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 2.eml', 5, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 3.eml', 6, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 4.eml', 7, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 5.eml', 8, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 6.eml', 9, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 7.eml', 10, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 8.eml', 11, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'first 9.eml', 12, NULL, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'invoice.eml', 1, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', 3, 1780315210123456, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'p.eml', 6, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '1-1', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'p.pdf', 6, 1, 'one', 'attachment', 1, 3, 'abababababababababababababababababababababababababababababababab', 'ü.pdf', '', NULL, NULL, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 's.eml', 7, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', 1099511627776, 1780315215123456, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 't.eml', 8, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', 1099511627776, 1780315215123456, NULL);
INSERT INTO public.artifact VALUES ('memory:one', 'tagged.eml', 15, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', 3, 1780315428123456, 'W/"größe-☃"');
INSERT INTO public.artifact VALUES ('memory:one', 'u.eml', 9, 0, 'one', 'mail', 0, 3, 'abababababababababababababababababababababababababababababababab', NULL, '', 1099511627776, 1780315215123456, NULL);
INSERT INTO public.configuration VALUES ('00000000-0000-0000-0000-0000000000aa', 'swept', '{"mailbox": "in@our.example", "active": true, "password": "\u2022\u2022\u2022", "folders": ["INBOX"], "since": null}', '{"password": "sealed:1:AAAA", "destinations/one/password": "sealed:1:\u00c4\u00d6"}', 3, 1780315200123456, 1780315286123456, '', 'the key main', NULL);
INSERT INTO public.configuration VALUES ('00000000-0000-0000-0000-0000000000bb', 'brüchig', '{"username": "j\u00f6rg", "active": false}', '{}', 1, 1780315210123456, 1780315210123456, '', '', 1780315346123456);
INSERT INTO public.configuration VALUES ('00000000-0000-0000-0000-0000000000cc', 'held again', '{"active": false}', '{}', 2, 1780315366123456, 1780315366123456, 'jörg', 'jörg', NULL);
INSERT INTO public.configuration VALUES ('00000000-0000-0000-0000-0000000000dd', 'gone', '{"port": 0}', '{}', 2, 1780315286123456, 1780315346123456, 'jörg', 'two', 1780315356123456);
INSERT INTO public.entry VALUES (1, '00000000-0000-0000-0000-0000000000aa', 'INBOX', '1', '1', '00000000000000000000000000000001', 'S1', '000000000001', 1780228800123456, 1780315200123456, '', '', '', '', '', 1001, 'settled', '', false, NULL, 0, false, 0, NULL, NULL, true, 0, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (10, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '7', '00000000000000000000000000000007', 'S7', '000000000007', 1779710400123456, 1780315200123456, 'Jörg7@firm.example', 'Straße 7, 100 % ''"', 'jörg7@firm.example', 'strasse 7, 100 % ''"', '<7@firm.example>', 1007, 'skipped', 'skipped', false, 1780315226123456, 0, false, 0, 1780315216123456, NULL, false, 2, 'Nein', NULL, NULL, 'the sender is not wanted', NULL, NULL);
INSERT INTO public.entry VALUES (11, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '8', '00000000000000000000000000000008', NULL, '000000000008', 1779624000123456, 1780315200123456, '', '', '', '', '', 1008, 'vanished', '', false, NULL, 0, false, 0, 1780315216123456, NULL, false, 0, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (12, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '9', '00000000000000000000000000000009', 'S9', '000000000009', 1779537600123456, 1780315200123456, 'Jörg9@firm.example', 'Straße 9, 100 % ''"', 'jörg9@firm.example', 'strasse 9, 100 % ''"', '<9@firm.example>', 1009, 'set aside', 'skipped', false, NULL, 0, false, 0, 1780315216123456, NULL, false, 0, NULL, NULL, NULL, 'no attachment that is allowed', NULL, NULL);
INSERT INTO public.entry VALUES (13, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '10', '0000000000000000000000000000000a', NULL, '00000000000a', 1779451200123456, 1780315200123456, 'Jörg10@firm.example', 'Straße 10, 100 % ''"', 'jörg10@firm.example', 'strasse 10, 100 % ''"', '<10@firm.example>', 1010, 'given up', 'failed', false, NULL, 9, false, 0, 1780315216123456, NULL, false, 0, NULL, 'DestinationRefused', '{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}', '', '["torn", "unknown charset ''x''"]', NULL);
INSERT INTO public.entry VALUES (14, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '11', '0000000000000000000000000000000b', 'S11', '00000000000b', 1779364800123456, 1780315200123456, 'Jörg11@firm.example', 'Straße 11, 100 % ''"', 'jörg11@firm.example', 'strasse 11, 100 % ''"', '<11@firm.example>', 1011, 'unconfirmed', 'failed', false, NULL, 0, false, 0, 1780315216123456, NULL, true, 0, NULL, 'DestinationRefused', '{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}', '', NULL, NULL);
INSERT INTO public.entry VALUES (15, '00000000-0000-0000-0000-0000000000cc', 'INBOX', '1', '1', '00000000000000000000000000000001', 'S1', '000000000001', 1780228800123456, 1780315200123456, 'Jörg1@firm.example', 'Straße 1, 100 % ''"', 'jörg1@firm.example', 'strasse 1, 100 % ''"', '<1@firm.example>', 1001, 'settled', 'stored', false, NULL, 0, true, 0, NULL, NULL, false, 2, 'Erledigt/☃', NULL, NULL, '', NULL, '["Erledigt/\u2603", "7", "9"]');
INSERT INTO public.entry VALUES (2, '00000000-0000-0000-0000-0000000000aa', 'INBOX', '1', '2', '00000000000000000000000000000002', NULL, '000000000002', 1780142400123456, 1780315200123456, 'Jörg2@firm.example', 'Straße 2, 100 % ''"', 'jörg2@firm.example', 'strasse 2, 100 % ''"', '<2@firm.example>', NULL, 'found', 'pending', false, 1780315200123456, 0, false, 0, NULL, NULL, false, 0, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (3, '00000000-0000-0000-0000-0000000000aa', 'INBOX', '1', '3', '00000000000000000000000000000003', 'S3', '000000000003', 1780056000123456, 1780315200123456, 'Jörg3@firm.example', 'Straße 3, 100 % ''"', 'jörg3@firm.example', 'strasse 3, 100 % ''"', '<3@firm.example>', 1003, 'waiting', 'failed', false, 1780315200123456, 2, false, 0, 1780315210123456, NULL, false, 0, NULL, 'DestinationRefused', '{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}', '', NULL, NULL);
INSERT INTO public.entry VALUES (4, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '1', '00000000000000000000000000000001', 'S1', '000000000001', 1780228800123456, 1780315200123456, 'Jörg1@firm.example', 'Straße 1, 100 % ''"', 'jörg1@firm.example', 'strasse 1, 100 % ''"', '<1@firm.example>', 1001, 'found', 'pending', false, 1780315220123456, 0, false, 1, 1780315216123456, NULL, false, 0, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (5, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '2', '00000000000000000000000000000002', NULL, '000000000002', 1780142400123456, 1780315200123456, 'Jörg2@firm.example', 'Straße 2, 100 % ''"', 'jörg2@firm.example', 'strasse 2, 100 % ''"', '<2@firm.example>', NULL, 'waiting', 'failed', true, 1780315221123456, 3, true, 0, 1780315216123456, NULL, false, 0, NULL, 'DestinationRefused', '{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}', '', NULL, NULL);
INSERT INTO public.entry VALUES (6, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '3', '00000000000000000000000000000003', 'S3', '000000000003', 1780056000123456, 1780315200123456, 'Jörg3@firm.example', 'Straße 3, 100 % ''"', 'jörg3@firm.example', 'strasse 3, 100 % ''"', '<3@firm.example>', 1003, 'planned', 'pending', false, 1780315222123456, 0, false, 0, 1780315216123456, '00000000-0000-0000-0000-0000000000bb.1.7.nonce', false, 0, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (7, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '4', '00000000000000000000000000000004', NULL, '000000000004', 1779969600123456, 1780315200123456, 'Jörg4@firm.example', 'Straße 4, 100 % ''"', 'jörg4@firm.example', 'strasse 4, 100 % ''"', '<4@firm.example>', 1004, 'stored', 'stored', false, 1780315223123456, 0, false, 0, 1780315216123456, NULL, false, 2, 'Erledigt', NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (8, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '5', '00000000000000000000000000000005', 'S5', '000000000005', 1779883200123456, 1780315200123456, 'Jörg5@firm.example', 'Straße 5, 100 % ''"', 'jörg5@firm.example', 'strasse 5, 100 % ''"', '<5@firm.example>', 1005, 'settled', 'stored', false, NULL, 0, false, 0, 1780315216123456, NULL, false, 3, NULL, NULL, NULL, '', NULL, NULL);
INSERT INTO public.entry VALUES (9, '00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '1', '6', '00000000000000000000000000000006', NULL, '000000000006', 1779796800123456, 1780315200123456, 'Jörg6@firm.example', 'Straße 6, 100 % ''"', 'jörg6@firm.example', 'strasse 6, 100 % ''"', '<6@firm.example>', 1006, 'untidied', 'failed', true, NULL, 9, false, 0, 1780315216123456, NULL, false, 0, NULL, 'DestinationRefused', '{"error": "DestinationRefused", "message": "gr\u00f6\u00dfer als erlaubt", "remedy": "look at it", "transient": true, "retry_after": 1.5}', '', NULL, NULL);
INSERT INTO public.folder VALUES ('00000000-0000-0000-0000-0000000000aa', 'INBOX', '1:3', 4);
INSERT INTO public.folder VALUES ('00000000-0000-0000-0000-0000000000bb', 'Gesendet/Ältere', '9:12', 0);
INSERT INTO public.folder VALUES ('00000000-0000-0000-0000-0000000000cc', 'INBOX', '1:1', 0);
INSERT INTO public.lease VALUES ('00000000-0000-0000-0000-0000000000aa', 1, NULL, 1780315270123456, 1780315515123456, '{"mailbox": "00000000-0000-0000-0000-0000000000aa", "state": "done", "started": 1780315200123456, "ended": 1780315215123456, "folders": [{"folder": "INBOX", "stored": 1, "skipped": 0, "failed": 1, "pending": 1, "older": 4, "trouble": null}], "tidied": 1, "server": "a server, IMAP4rev1", "trouble": null, "remarks": ["slow"]}', 1780315215123456, NULL);
INSERT INTO public.lease VALUES ('00000000-0000-0000-0000-0000000000bb', 1, NULL, 1780315275123456, NULL, NULL, NULL, NULL);
INSERT INTO public.lease VALUES ('00000000-0000-0000-0000-0000000000cc', 3, NULL, 1780315548123456, 1780315788123456, NULL, NULL, NULL);
INSERT INTO public.lease VALUES ('00000000-0000-0000-0000-0000000000dd', 1, NULL, 1780315286123456, NULL, NULL, NULL, NULL);
INSERT INTO public.maildaemon_version VALUES ('0005');
INSERT INTO public.repeat VALUES ('0000000000000000000000000000000000000000000000000000000000000000', '0000000000000000000000000000000000000000000000000000000000000007', '00000000-0000-0000-0000-0000000000aa', 1780228966123456, NULL);
INSERT INTO public.repeat VALUES ('0000000000000000000000000000000000000000000000000000000000000001', '0000000000000000000000000000000000000000000000000000000000000008', '00000000-0000-0000-0000-0000000000dd', 1780232566123456, '{"status": 201, "body": {"name": "gr\u00f6\u00dfer", "tags": ["a", null], "size": 1099511627776}}');
SELECT pg_catalog.setval('public.entry_id_seq', 20, true);
ALTER TABLE ONLY public.maildaemon_version
    ADD CONSTRAINT maildaemon_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT pk_api_key PRIMARY KEY (prefix);
ALTER TABLE ONLY public.artifact
    ADD CONSTRAINT pk_artifact PRIMARY KEY (place, path);
ALTER TABLE ONLY public.configuration
    ADD CONSTRAINT pk_configuration PRIMARY KEY (id);
ALTER TABLE ONLY public.entry
    ADD CONSTRAINT pk_entry PRIMARY KEY (id);
ALTER TABLE ONLY public.folder
    ADD CONSTRAINT pk_folder PRIMARY KEY (mailbox, folder);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT pk_lease PRIMARY KEY (mailbox);
ALTER TABLE ONLY public.repeat
    ADD CONSTRAINT pk_repeat PRIMARY KEY (key);
ALTER TABLE ONLY public.entry
    ADD CONSTRAINT uq_entry_mailbox_folder_uidvalidity_uid UNIQUE (mailbox, folder, uidvalidity, uid);
CREATE UNIQUE INDEX ix_api_key_name ON public.api_key USING btree (name) WHERE (revoked IS NULL);
CREATE INDEX ix_artifact_entry ON public.artifact USING btree (entry);
CREATE INDEX ix_configuration_dropped ON public.configuration USING btree (dropped);
CREATE INDEX ix_entry_due ON public.entry USING btree (mailbox, stage, id, due_at) WHERE (due_at IS NOT NULL);
CREATE INDEX ix_entry_fingerprint ON public.entry USING btree (mailbox, fingerprint);
CREATE INDEX ix_entry_in_hand ON public.entry USING btree (mailbox, in_hand) WHERE (in_hand > 0);
CREATE INDEX ix_entry_mailbox_outcome ON public.entry USING btree (mailbox, outcome, dismissed, id);
CREATE INDEX ix_entry_open ON public.entry USING btree (mailbox, folder, due_at) WHERE (due_at IS NOT NULL);
CREATE INDEX ix_entry_outcome ON public.entry USING btree (outcome, dismissed, id);
CREATE INDEX ix_entry_strong ON public.entry USING btree (mailbox, strong) WHERE (strong IS NOT NULL);
CREATE INDEX ix_repeat_at ON public.repeat USING btree (at, key);
ALTER TABLE ONLY public.artifact
    ADD CONSTRAINT fk_artifact_entry FOREIGN KEY (entry) REFERENCES public.entry(id);
