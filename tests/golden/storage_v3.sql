BEGIN TRANSACTION;
CREATE TABLE account (
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,  -- as repr, so that it is exact; '' where the run does not say
    archived INTEGER NOT NULL,
    archived_at REAL,  -- Unix time; NULL for a live one
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
);
INSERT INTO "account" VALUES('run-1','1700000000.0',0,NULL,'{"format":3,"session_id":"run-1","started_at":1700000000.0,"first_seen_at":1700000000.0,"superseded":[],"unsure":{},"sampled_at":1700000000.0,"ended_at":null,"resets":0,"gaps":[],"lag":0.0,"facts":[1700000000.0,1700000000.0,{},{},{},null,null,0.0,"running",null,null,null,null,null],"orders":[{"kind":"stop","reason":"because","by":"","at":1700000000.0,"until":null,"limits":{}}],"incarnations":[["i:1700000000.0",1700000000.0,{},[1700000000.0,1700000000.0,{},{},{},null,null,0.0,"running",null,null,null,null,null],1700000000.0,1700000000.0,true,{},[["http://127.0.0.1:9464/metrics",1700000000.0,null,null,[["tokens","",70,70],["api_calls","",1,1]],{}]]]]}');
INSERT INTO "account" VALUES('run-0','1700000000.0',1,1700000100.0,'{"format":3,"session_id":"run-0","started_at":1700000000.0,"first_seen_at":1700000000.0,"superseded":[],"unsure":{},"sampled_at":1700000000.0,"ended_at":null,"resets":0,"gaps":[],"lag":0.0,"facts":[1700000000.0,1700000000.0,{},{},{},null,null,0.0,"running",null,null,null,null,null],"orders":[],"incarnations":[["i:1700000000.0",1700000000.0,{},[1700000000.0,1700000000.0,{},{},{},null,null,0.0,"running",null,null,null,null,null],1700000000.0,1700000000.0,true,{},[["http://127.0.0.1:9464/metrics",1700000000.0,null,null,[["tokens","",30,30],["api_calls","",1,1]],{}]]]]}');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "meta" VALUES('schema_version','2');
INSERT INTO "meta" VALUES('account_format','3');
INSERT INTO "meta" VALUES('verdict_version','1');
INSERT INTO "meta" VALUES('sequence','7');
CREATE TABLE operator_action (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,  -- Unix time
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "operator_action" VALUES(1,1700000000.0,'run-1','1700000000.0','{"kind": "stop", "reason": "because", "by": "", "at": 1700000000.0, "until": null, "limits": {}}');
CREATE TABLE verdict (
    session_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session_id, started_at)
);
INSERT INTO "verdict" VALUES('run-1','1700000000.0','{"version":1,"session_id":"run-1","run_started_at":1700000000.0,"run_state":null,"action":"continue","status":"ok","reason":"within_limits","message":"tokens at 70","resources":{"tokens":{"used":70,"limit":1000,"warning_at":null,"remaining":930,"ratio":0.07,"status":"ok","limit_from":"sidecar","exhaustion_seconds":null}},"headroom":{},"budgets":[],"progress":null,"completion_threshold":null,"data_at":null,"evaluated_at":"2023-11-14T22:13:20.000Z","lease_seconds":15.0,"valid_until":"2023-11-14T22:13:35.000Z","sequence":7,"decision_id":"","policy_revision":"","unjudged":[]}');
CREATE UNIQUE INDEX one_live_run ON account (session_id) WHERE archived = 0;
CREATE INDEX archived_since ON account (archived_at) WHERE archived = 1;
CREATE INDEX action_of_run ON operator_action (session_id, started_at);
COMMIT;
